"""The mean of two generators of the swap family, of which one went on from the other: often what both are good at.

Weights that were trained on from the same ones lie in one valley of the losses, and so does their mean (Wortsman et
al., Model soups, 2022).

python -m edgetalk.train.swap.soup RUN-4/wavsyncswap.safetensors RUN-5/wavsyncswap.safetensors \
        -o wavsyncswap.safetensors
"""

from __future__ import annotations

from pathlib import Path

from edgetalk.errors import ModelError
from edgetalk.train import program
from edgetalk.train.networks import store
from edgetalk.train.terms import joined

FAMILY = "wavsyncswap"


def mix(first: Path, second: Path, out: Path) -> None:
    """Write the mean of two checkpoints' weights; the record is of the one that saw more pictures, terms are of both.

    Raises ModelError where they are arranged differently, FileNotFoundError where one is missing.
    """
    (one, told), (other, heard) = (store.load(store.existing(path), FAMILY) for path in (first, second))
    if told["config"] != heard["config"]:
        raise ModelError(
            f"{first} and {second} are arranged differently; give two runs of which one began with the other"
        )
    weights = one.state_dict()
    for name, tensor in other.state_dict().items():
        if tensor.is_floating_point():
            weights[name].lerp_(tensor, 0.5)
    record = max(told, heard, key=lambda each: each["images"])
    config = record.pop("config")
    if terms := joined(each.get("terms", {}) for each in (told, heard)):
        record["terms"] = terms
    mean_of = [each["images"] for each in (told, heard)]
    store.save(out, FAMILY, one, config, **record, mean_of=mean_of)


def main() -> None:
    parser = program.parser("edgetalk.train.swap.soup", __doc__)
    parser.add_argument("checkpoints", nargs=2, type=Path, metavar="FILE", help="generators of the same arrangement")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="checkpoint to write")
    args = parser.parse_args()
    mix(*args.checkpoints, args.output)
    print(args.output)


if __name__ == "__main__":
    program.run(main)
