"""AMNet-lite: which smaller Reenactor is worth its milliseconds: `python -m edgetalk.train.lite search`.

The search enumerates architectures, keeps those whose int8 step the cost model (cost.py) predicts to be within
the budget, takes from each family those that use the budget best, and trains each of them for the same few pictures:
from the teacher's weights, on the same frames in the same order, on small pictures. What is compared is the content
loss on the last clips of the training frames, which the finalists are not trained on: the test frames stay for what is
chosen. OUT/search.md and OUT/search.svg say what came out, OUT/NAME.json are the architectures; a
finalist that has been trained is not trained again, and one trained otherwise or on other data is refused. The best is
then trained in full by

    edgetalk train amnet --variant amnet-lite --teacher FILE --data DIR -o OUT

(another than the variant's own with --architecture OUT/NAME.json). Left out: measuring, which needs engines
(bench/lite.py).
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from edgetalk.errors import InputError
from edgetalk.files import replacing
from edgetalk.train import program
from edgetalk.train.amnet.data import Footage
from edgetalk.train.amnet.losses import content_loss, region_weight
from edgetalk.train.amnet.recipe import AMNetRecipe, Config, checked
from edgetalk.train.networks.amnet import VARIANTS, Architecture, Cell
from edgetalk.train.networks.checkpoint import load_checkpoint
from edgetalk.train.options import add_fields, check_bounds
from edgetalk.train.scores.measures import ssim

from .cost import COSTS, Costs, counts

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "amnet.safetensors"
STEMS = {4: (24, 40, 88), 8: (24, 40, 88, 152)}
"""By the reduction of the trunk; a stem runs once per face, so it stays as it is."""
SHARE = 0.1
"""Of each person's training frames: the last, on which finalists are compared."""
HEADERS = {
    (4, 1): [(64, 16), (96, 16), (104, 24)],
    (4, 2): [(48,), (64,), (96,)],
    (4, 4): [()],
    (8, 1): [(96, 48, 16), (128, 64, 24)],
    (8, 2): [(96, 48), (128, 64), (104, 96)],
}
"""By the reduction of the trunk and the last convolution's shuffle."""


def name_of(architecture: Architecture) -> str:
    """Return a short name: s4-w128-i64-n4-t2-h48-x2-k5 is reduction, width, inner width, basic cells, …"""
    basic = [cell for cell in architecture.cells if cell.kind == "basic"]
    separable = sum(cell.kind == "separable" for cell in architecture.cells[1:])
    tail = sum(cell.kind == "pointwise" for cell in architecture.cells)
    header = "-".join(str(channels) for channels in architecture.header) or "0"
    return (
        f"s{architecture.reduction}-w{architecture.cells[0].channels}-i{basic[0].inner if basic else 0}-n{len(basic)}"
        f"{'-d' * separable}-t{tail}-h{header}-x{architecture.shuffle}-k{architecture.last}"
    )


def candidates() -> Iterator[Architecture]:
    """Yield every architecture of the search space."""
    for (reduction, shuffle), headers in HEADERS.items():
        for width in (96, 128, 152, 192):
            for inner in sorted({48, 64, 96, width}):
                for basic in (3, 4, 6):
                    for separable in (0, 1):
                        for tail in (1, 3):
                            for header in headers:
                                stem = STEMS[reduction]
                                cells = [Cell("separable", width, 4 * stem[2]), *[Cell("basic", width, inner)] * basic]
                                cells += [Cell("separable", width, 4 * width)] * separable
                                cells += [Cell("pointwise", width)] * (tail - 1) + [Cell("pointwise", min(width, 128))]
                                last = 7 if shuffle == 1 else 5
                                yield Architecture(stem, tuple(cells), header, last, shuffle)


def family_of(architecture: Architecture) -> tuple[int, int, bool, bool]:
    """Return what sets kinds of candidates apart: reduction, shuffle, bottleneck, separable cells in the step."""
    basic = next(cell for cell in architecture.cells if cell.kind == "basic")
    separable = any(cell.kind == "separable" for cell in architecture.cells[1:])
    return architecture.reduction, architecture.shuffle, basic.inner < basic.channels, separable


def finalists(costs: Costs, budget: float, count: int) -> list[Architecture]:
    """Return `count` candidates within the budget, family by family those with the most multiply-adds first.

    The variant "amnet-lite", what the last search chose, is always one of them where it fits.
    """
    families: dict[tuple[int, int, bool, bool], list[Architecture]] = defaultdict(list)
    for architecture in candidates():
        if costs.predict(architecture) <= budget:
            families[family_of(architecture)].append(architecture)
    if not families:
        raise InputError(f"budget: got {budget} ms, but no candidate is predicted to be that fast; give more")

    def work(architecture: Architecture) -> float:
        return counts(architecture)["convolution"]

    best = [sorted(members, key=work, reverse=True) for members in families.values()]
    best.sort(key=lambda members: work(members[0]), reverse=True)
    present = [VARIANTS["amnet-lite"]] if costs.predict(VARIANTS["amnet-lite"]) <= budget else []
    rounds = [members[i] for i in range(count) for members in best if i < len(members)]
    return list(dict.fromkeys(present + rounds))[:count]


def held_back(footage: Footage) -> Footage:
    """Return the footage with the last clips of each person's training frames held out, in place of the test frames.

    They are those in which the last SHARE of the frames begins; of a person of one clip that share alone. Raises
    InputError where nobody has two training frames.
    """
    kept, judged = [], []
    for person in footage.trained:
        own = footage.train[footage.person[footage.train].cpu() == person]
        clips = footage.first[own].cpu()
        begins = len(own) - max(1, round(SHARE * len(own)))
        first = int((clips == clips[begins]).nonzero()[0])
        begins = first or begins
        if begins:
            kept.append(own[:begins])
            judged.append(own[begins:])
    if not kept:
        raise InputError(
            f"data set {footage.name}: got no two training frames of a person, expected some to choose on beside those "
            "to train on; make a set of more frames"
        )
    return replace(footage, train=torch.cat(kept).sort().values, test=torch.cat(judged).sort().values)


@dataclass(frozen=True)
class Proxy:
    """The short training by which finalists are compared."""

    images: int = 1600
    """Training pictures of each."""
    batch: int = 8
    """Pictures of one step."""
    size: int = 64
    """Side of the pictures."""
    lr: float = 5e-4
    """Adam's learning rate in the first half; it falls to 0 over the second."""
    judged: int = 48
    """Frames on which they are compared, see held_back."""
    teacher: str = str(CHECKPOINT)
    """Checkpoint to start from."""


def schedule(settings: Proxy) -> Config:
    """Return how each finalist is trained, but for its architecture."""
    shared = {name: getattr(settings, name) for name in ("images", "batch", "size", "lr", "teacher")}
    return Config("amnet-lite", **shared, adversarial=0.0, mouth=3.0, versions=1, teaching=0.0)


def try_out(architecture: Path, footage: Footage, settings: Proxy) -> dict[str, float]:
    """Train the architecture in that file; return content loss and SSIM on what is held out, and the seconds."""
    began = time.monotonic()
    config = schedule(settings)
    recipe = AMNetRecipe(replace(config, architecture=str(architecture)), footage)
    for number in range(recipe.steps):
        recipe.step(number)
    network, batch = recipe.averaged(), footage.examples(settings.judged)
    with torch.no_grad(), recipe.autocast():
        parts = zip(*(t.split(8) for t in (batch.source, batch.mel, batch.pose, batch.blink)), strict=True)
        made = torch.cat([network(*part)[0].float() for part in parts])
    stress = region_weight(batch.landmarks, config.size, config.mouth, config.eyes)
    return {
        "loss": round(float(content_loss(made, batch.true, stress)), 5),
        "ssim": round(float(ssim((made + 1) / 2, (batch.true + 1) / 2).mean()), 4),
        "seconds": round(time.monotonic() - began, 1),
    }


def search(
    footage: Footage, out: Path, costs: Costs, budget: float, count: int, settings: Proxy
) -> dict[str, dict[str, float]]:
    """Try out `count` finalists, write the report to `out`, and return their rows by name, the best first.

    Raises InputError where `out` holds a search with other settings or on other data, or a damaged one, and as
    held_back.
    """
    some = held_back(footage)
    tried = finalists(costs, budget, count)
    out.mkdir(parents=True, exist_ok=True)
    done, told = out / "search.json", asdict(settings) | {"teacher": Path(settings.teacher).name}
    told |= {"data": footage.name, "frames": len(footage.frames), "compared on": "the last training clips"}
    told |= {"digest": footage.digest}
    try:
        before = json.loads(done.read_text()) if done.exists() else {"proxy": told, "rows": {}}
        rows, proxy = dict(before["rows"]), {"digest": footage.digest} | before["proxy"]  # older ones told none
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{done} is no search, or it is damaged; choose another folder with -o") from None
    if changed := [f"{k} {proxy.get(k)} → {v}" for k, v in told.items() if proxy.get(k) != v]:
        raise InputError(f"{done} is of another search ({', '.join(changed)}); choose another folder with -o")
    for architecture in tried:
        name = name_of(architecture)
        path = out / f"{name}.json"
        with replacing(path) as part:
            part.write_text(json.dumps(architecture.plain()) + "\n")
        if name not in rows:
            rows[name] = try_out(path, some, settings)
        rows[name]["ms"] = round(costs.predict(architecture), 2)
        rows = dict(sorted(rows.items(), key=lambda row: row[1]["loss"]))
        found = {"proxy": told, "budget": budget, "machine": costs.machine, "rows": rows}
        with replacing(done) as part:
            part.write_text(json.dumps(found, indent=1))
        print(f"{name}: {rows[name]['ms']} ms predicted, held-out loss {rows[name]['loss']:.4f}", flush=True)
    report(out)
    return rows


def report(out: Path) -> None:
    """Write search.md and search.svg from search.json."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = json.loads((out / "search.json").read_text())
    settings, rows = found["proxy"], found["rows"].items()
    lines = [
        f"Each trained for {settings['images']} pictures at {settings['size']}×{settings['size']}, compared on "
        f"{settings['judged']} frames of {settings['compared on']}, held back; milliseconds are predicted for "
        f"{found['machine']}.",
        "",
        "| architecture | ms | held-out loss | SSIM | s |",
        "|---|---:|---:|---:|---:|",
        *[f"| {n} | {r['ms']:.2f} | {r['loss']:.4f} | {r['ssim']:.3f} | {r['seconds']:.0f} |" for n, r in rows],
    ]
    with replacing(out / "search.md") as part:
        part.write_text("\n".join(lines) + "\n")
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for i, (name, row) in enumerate(rows):
        axes.plot(row["ms"], row["loss"], "o")
        below = (4, -9 if i % 2 else 4)  # neighbours in the table may lie close together
        axes.annotate(name, (row["ms"], row["loss"]), fontsize=6, xytext=below, textcoords="offset points")
    axes.axvline(found["budget"], color="grey", linewidth=1)
    axes.set(xlabel="predicted ms per step", ylabel="held-out loss after the same short training")
    with replacing(out / "search.svg") as part:
        figure.savefig(part, format="svg", metadata={"Date": None})
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    parser = program.parser("edgetalk.train.lite", __doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    find = commands.add_parser("search", help="enumerate, predict, train the finalists shortly, report")
    find.add_argument("--data", type=Path, required=True, help="folder written by: edgetalk data announcers")
    find.add_argument(
        "-o", "--output", dest="out", type=Path, required=True, help="folder of the report and the architectures"
    )
    find.add_argument("--costs", type=Path, default=COSTS, help="written by: python -m bench.lite costs")
    find.add_argument("--budget", type=float, default=6.0, help="milliseconds of a step")
    find.add_argument("--finalists", type=int, default=8, help="how many are tried out")
    find.add_argument("--device", default="auto", help="cpu, cuda or auto")
    add_fields(find, Proxy)
    args = parser.parse_args(arguments)
    settings = Proxy(**{field.name: getattr(args, field.name) for field in fields(Proxy)})
    checked(schedule(settings))
    check_bounds(args, {"judged": (1, math.inf), "finalists": (1, math.inf)}, ["budget"])
    costs = Costs.load(args.costs)
    load_checkpoint(settings.teacher)  # refuses now what each finalist would fail with
    footage = Footage.load(args.data, size=settings.size, device=args.device)
    search(footage, args.out, costs, args.budget, args.finalists, settings)
