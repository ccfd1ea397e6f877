"""What each exact rewrite of the graph gains: the bundled step in int8 without it, beside the one with all of them.

    python -m bench.gains                    measure, and write the table into docs/performance.md
    python -m bench.gains --page             write the table from what was measured before
    python -m bench.gains --prepared FOLDER  keep engines there, and take those that are

Two tables: all rewrites but one; and none, the first, the first two … in the order in which `edgetalk build` makes
them. A rewrite that finds nothing to do in this network is in neither. Engines are processes of their own that make
blocks of frames in turns, whose order is drawn anew in each turn; a ratio is the median over the turns, with the
interval that the sign test gives it (duel.py). The frames of each are compared with those of the f32 graph, too.
What the export does for speed (biases left away, the predicted convolution unrolled) is in all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgetalk.backends import open_engine
from edgetalk.engines import gate
from edgetalk.engines.calibration import load, split
from edgetalk.engines.concat import quantize_early
from edgetalk.engines.onnx_file import Feeds, Runner, read, set_metadata
from edgetalk.engines.openvino import write as write_engine
from edgetalk.engines.rewrite import AFTER, BEFORE
from edgetalk.engines.typed import typed_graph
from edgetalk.metadata import Metadata
from edgetalk.overlap import cores
from edgetalk.train import program

from .duel import FEWEST, ratio_interval
from .machine import Others, processor
from .page import ROOT, add_model, add_options, publish
from .turns import each_turn
from .worker import Worker

RESULTS = ROOT / "docs" / "results" / "gains.json"
REWRITES = {
    "sub_pixel": "transposed convolution to few channels as convolution and shuffle",
    "phase_grid": "last convolution on cells of 2×2 pixels, before the shuffle",
    "centre": "cell 5 centred before its expansion instead of normed behind it",
    "quantize_early": "quantised before it is joined",
    "channels_last": "features that come in stay channels last",
    "late_bias": "bias of the landmarks added last, for their precision",
    "merge_predictors": "all predicted weights at once",
    "early_cast": "pixels made bytes before they are moved",
}
"""Rewrites in the order in which they are made (BEFORE, quantisation, AFTER), in words."""
NEEDS = {"phase_grid": "sub_pixel"}
"""A rewrite to the one without which it finds nothing."""
TURNS, BLOCK = 40, 10  # turns, frames of a block

Left = tuple[str, ...]
"""Rewrites that an engine leaves out."""


def useful(model: onnx.ModelProto, samples: list[Feeds]) -> list[str]:
    """Return the rewrites that change this graph when all are made in their order."""
    found = []
    quantised = typed_graph(model, "int8", ".xml", samples[:1], (), without=[quantize_early.__name__])
    for graph, rewrites in ((model, BEFORE), (quantised, (quantize_early, *AFTER))):
        for rewrite in rewrites:
            made = rewrite(graph)
            if [n.op_type for n in made.graph.node] != [n.op_type for n in graph.graph.node]:
                found.append(rewrite.__name__)
            graph = made
    return found


def without(there: Sequence[str]) -> dict[str, Left]:
    """Return for each rewrite what an engine without it leaves out: what needs it finds nothing then."""
    return {name: tuple(n for n in there if n == name or NEEDS.get(n) == name) for name in there}


def first(there: Sequence[str]) -> list[Left]:
    """Return what engines with none, the first, the first two … and all of the rewrites leave out."""
    return [tuple(there[count:]) for count in range(len(there) + 1)]


def engines(
    model: onnx.ModelProto, metadata: Metadata, samples: list[Feeds], wanted: Sequence[Left], folder: Path
) -> dict[Left, Path]:
    """Build an engine in int8 for each of `wanted`, in folders of their own; what is there already stays."""
    made: dict[Left, Path] = {}
    typed: dict[Left, onnx.ModelProto] = {}
    late = [rewrite.__name__ for rewrite in AFTER]
    for left in wanted:
        made[left] = path = folder / ("-".join(("without", *left)) if left else "all") / "step.xml"
        if path.exists():
            continue
        early = tuple(name for name in left if name not in late)
        if early not in typed:
            typed[early] = typed_graph(model, "int8", ".xml", samples, (), without=early)
            set_metadata(typed[early], dataclasses.replace(metadata, precision="int8"))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_engine(typed[early], path, halve=True, without=left)
    return made


def kept(path: Path, samples: list[Feeds], reference: Sequence[Feeds]) -> float:
    """Return the SSIM of an engine's frames to those of the f32 graph."""
    engine = open_engine(path)
    frames = [engine.run({name: feeds[name] for name in engine.inputs})["frame"].copy() for feeds in samples]
    engine.close()
    return float(gate.compare(np.concatenate([one["frame"] for one in reference]), np.concatenate(frames))["ssim"])


def measure(models: Path, calibration: Path, threads: int, turns: int, folder: Path) -> dict[str, Any]:
    """Build, compare and time all engines; return the figures."""
    model, metadata = read(models / "amnet.onnx")
    graph = Runner(model)
    learn, held_out = split(load(calibration, graph, Runner(read(models / "amnet-source.onnx")[0])))
    there = useful(model, learn)
    singles, series = without(there), first(there)
    paths = engines(model, metadata, learn, list(dict.fromkeys([*singles.values(), *series])), folder)
    reference = [graph(feeds) for feeds in held_out]
    ssim = {left: kept(path, held_out, reference) for left, path in paths.items()}
    others = Others()
    with contextlib.ExitStack() as stack:
        workers = {}
        for left, path in paths.items():
            shutil.copyfile(models / "amnet.avatar", path.with_suffix(".avatar"))
            workers[left] = stack.enter_context(Worker("step", engine=path, threads=threads))
        blocks = each_turn({left: partial(worker.block, BLOCK) for left, worker in workers.items()}, turns)
    seconds = {left: [float(np.median(block)) for block in taken] for left, taken in blocks.items()}
    share = others.share()

    def row(left: Left, slow: Left, fast: Left) -> dict[str, Any]:
        return {"ratio": ratio_interval(seconds[slow], seconds[fast]), "ssim": ssim[left], "leaves_out": list(left)}

    return {
        "device": processor(),
        "threads": threads,
        "date": time.strftime("%Y-%m-%d"),
        "turns": turns,
        "others": round(share, 2),
        "ms": {"all": middle(seconds[()]), "none": middle(seconds[series[0]])},
        "without": {name: row(left, left, ()) for name, left in singles.items()},
        "first": [row(left, series[0], left) for left in series],
    }


def middle(seconds: Sequence[float]) -> float:
    return round(1e3 * float(np.median(seconds)), 2)


def markdown(result: dict[str, Any]) -> str:
    """Return both tables."""

    def cell(row: dict[str, Any]) -> str:
        low, ratio, high = row["ratio"]
        return f"{ratio:.3f} × ({low:.3f}–{high:.3f})"

    lines = ["| without | the step takes | SSIM to f32 |", "|---|---|---|"]
    for name, row in result["without"].items():
        also = [other for other in row["leaves_out"] if other != name]
        more = f", and so without {', '.join(f'`{other}`' for other in also)}" if also else ""
        lines.append(f"| `{name}`: {REWRITES[name]}{more} | {cell(row)} | {row['ssim']:.4f} |")
    lines += ["", "| rewrites, one after the other | as fast as none | SSIM to f32 |", "|---|---|---|"]
    for name, row in zip(("none", *result["without"]), result["first"], strict=True):
        lines.append(f"| {'none' if name == 'none' else f'and `{name}`'} | {cell(row)} | {row['ssim']:.4f} |")
    lines += [
        "",
        f"{result['device']}, {result['threads']} threads, {result['date']}: {result['ms']['none']:.1f} ms with none, "
        f"{result['ms']['all']:.1f} ms with all; medians of {result['turns']} turns with the 99.9 % interval of the "
        f"sign test; other programs took {result['others']:.0%} of the processor.",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = program.parser("bench.gains", __doc__)
    add_model(parser)
    parser.add_argument("--threads", type=int, default=cores(), help="default: every core")
    parser.add_argument("--turns", type=int, default=TURNS, help="turns of all engines")
    add_options(parser, RESULTS)
    args = parser.parse_args(arguments)
    if args.turns < FEWEST:
        parser.error(f"--turns: got {args.turns}, expected at least {FEWEST}, fewer have no interval")
    publish(
        args,
        "bench.gains",
        lambda folder: measure(args.models, args.calibration, args.threads, args.turns, folder),
        markdown,
    )


if __name__ == "__main__":
    program.run(main)
