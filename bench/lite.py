"""What AMNet's layers cost in int8 on this machine: `python -m bench.lite costs -o train/lite/costs.json`.

Networks of the search space (train/lite/search.py), with random weights, are built as `edgetalk build` builds them and
timed in turns; non-negative least squares of their relative errors give the milliseconds of each kind of count
(train/lite/cost.py). Each network is also predicted by a fit without it, which is what the file says the model is
worth. `python -m bench.lite time FILE.xml …` times any engines in turns in the same way. A quiet machine is needed.
"""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgetalk.backends import open_engine
from edgetalk.metadata import AudioSpec
from edgetalk.train import program
from edgetalk.train.lite.cost import KINDS, Costs, counts
from edgetalk.train.lite.search import candidates, family_of, name_of
from edgetalk.train.networks.amnet import VARIANTS, Architecture

from .machine import processor
from .page import write_json
from .turns import in_turns, milliseconds

TURNS = 15


def probes(count: int, seed: int = 0) -> dict[str, Architecture]:
    """Return the released network, the lite one and `count` of the search space by name, as many from each family."""
    families: dict[tuple[Any, ...], list[Architecture]] = defaultdict(list)
    for architecture in candidates():
        families[family_of(architecture)].append(architecture)
    draw = random.Random(seed)
    for members in families.values():
        draw.shuffle(members)
    turns = [members[i] for i in range(count) for members in families.values()]
    named = {name: VARIANTS[name] for name in ("amnet", "amnet-lite")}
    return named | {name_of(one): one for one in turns[:count] if one not in named.values()}


def build(architecture: Architecture, folder: Path, name: str, size: int = 256) -> Path:
    """Write folder/NAME.xml: the step in int8, of random weights; no gate, as there is nothing to keep."""
    import torch

    from edgetalk.engines import openvino
    from edgetalk.engines.onnx_file import Runner, read
    from edgetalk.engines.typed import typed_graph
    from edgetalk.export import to_onnx
    from edgetalk.train.networks.amnet import AMNet
    from edgetalk.train.networks.checkpoint import save_checkpoint

    torch.manual_seed(0)
    checkpoint = folder / f"{name}.safetensors"
    told = {"variant": "amnet", "architecture": architecture.plain(), "size": size, "persons": [], "training": {}}
    save_checkpoint(checkpoint, AMNet(architecture=architecture).state_dict(), audio=asdict(AudioSpec()), **told)
    to_onnx(checkpoint, folder / f"{name}.onnx")
    step, _ = read(folder / f"{name}.onnx")
    rng, inputs = np.random.default_rng(0), Runner(step).inputs
    feeds = {key: rng.standard_normal(spec.shape).astype(spec.dtype) for key, spec in inputs.items()}
    path = folder / f"{name}.xml"
    openvino.write(typed_graph(step, "int8", ".xml", [feeds], ()), path, halve=True)
    return path


def stepping(path: Path, threads: int) -> Callable[[], object]:
    """Return what runs the engine once, on seeded noise."""
    engine = open_engine(path, threads=threads, precision="int8")
    rng = np.random.default_rng(0)
    feeds = {name: rng.standard_normal(spec.shape).astype(spec.dtype) for name, spec in engine.inputs.items()}
    return lambda: engine.run(feeds)


def eager(threads: int, size: int = 256) -> Callable[[], object]:
    """Return what runs the whole released network in PyTorch, f32, as its checkpoint's user would."""
    import torch

    from edgetalk.train.networks.amnet import AMNet

    torch.set_num_threads(threads)
    network = AMNet().eval()
    given = torch.rand(1, 3, size, size), torch.randn(1, 32, 80), torch.randn(1, 3), torch.rand(1, 2)

    def step() -> object:
        with torch.inference_mode():
            return network(*given)

    return step


def fit(rows: np.ndarray, milliseconds: np.ndarray) -> np.ndarray:
    """Return the costs (K,) that predict `milliseconds` (N,) from counts (N, K) with the least relative error."""
    from scipy.optimize import nnls

    return nnls(rows / milliseconds[:, None], np.ones(len(rows)))[0]


def costs(architectures: dict[str, Architecture], measured: dict[str, float], machine: str) -> Costs:
    """Fit the costs of all kinds, and predict each network by a fit without it."""
    names = list(measured)
    rows = np.array([[counts(architectures[name])[kind] for kind in KINDS] for name in names])
    values = np.array([measured[name] for name in names])
    found = dict(zip(KINDS, np.round(fit(rows, values), 4).tolist(), strict=True))
    told = {}
    for i, name in enumerate(names):
        others = np.arange(len(names)) != i
        told[name] = [round(values[i], 3), round(float(rows[i] @ fit(rows[others], values[others])), 3)]
    return Costs(found, machine, told)


def main(arguments: list[str] | None = None) -> None:
    parser = program.parser("bench.lite", __doc__)
    parser.add_argument("--threads", type=int, default=2, help="of an engine")
    commands = parser.add_subparsers(dest="command", required=True)
    measure = commands.add_parser("costs", help="measure and fit")
    measure.add_argument("-o", "--output", dest="out", type=Path, required=True, help="file of the costs to write")
    measure.add_argument("--networks", type=int, default=18, help="how many of the search space (default 18)")
    measure.add_argument("--built", type=Path, help="folder of the engines: built there, or found there")
    several = commands.add_parser("time", help="time engines in turns")
    several.add_argument("engines", type=Path, nargs="+", help="engines of AMNets to compare")
    several.add_argument("--eager", action="store_true", help="PyTorch eager f32 of the whole AMNet, too")
    args = parser.parse_args(arguments)
    if args.command == "time":
        steps = {path.name: stepping(path, args.threads) for path in args.engines}
        if args.eager:
            steps["PyTorch eager f32 of the whole AMNet"] = eager(args.threads)
        for name, taken in in_turns(steps, TURNS).items():
            print(f"{name}: {milliseconds(taken):.2f} ms, {1000 / milliseconds(taken):.0f} frames/s")
        return
    architectures = probes(args.networks)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.built or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        paths = {name: folder / f"{name}.xml" for name in architectures}
        for name, architecture in architectures.items():
            if not paths[name].exists():
                build(architecture, folder, name)
        engines = {name: stepping(path, args.threads) for name, path in paths.items()}
        measured = {name: milliseconds(taken) for name, taken in in_turns(engines, TURNS).items()}
    found = costs(architectures, measured, f"{processor()}, {args.threads} threads")
    write_json(args.out, asdict(found))
    errors = []
    for name, (value, predicted) in found.measured.items():
        errors.append(predicted / value - 1)
        print(f"{name:40} {value:6.2f} ms, predicted {predicted:6.2f} ({errors[-1]:+.1%})")
    print(f"mean error {np.mean(np.abs(errors)):.1%}, largest {np.max(np.abs(errors)):.1%}; costs {found.milliseconds}")


if __name__ == "__main__":
    program.run(main)
