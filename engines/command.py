"""Build the engine of a model for OpenVINO (-o NAME.xml) or TensorRT (-o NAME.plan) from the files of export.

NAME.onnx must have its NAME-source.onnx beside it; the avatar is copied. The files get their names only after the
frames of the new engine have passed the gate against those of the f32 graph, all or none.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from .builder import build
from .keep import MARGIN
from .options import PRECISIONS, PlanOptions


def capabilities(word: str) -> tuple[str, ...]:
    """Return the compute capabilities that a word of the command line lists."""
    return tuple(part.strip() for part in word.split(","))


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="f32 file that edgetalk export wrote")
    parser.add_argument(
        "-o", "--output", dest="out", required=True, type=Path, metavar="FILE", help="NAME.xml or NAME.plan to write"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="f32", help="default: f32")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE.npz",
        help="samples of the inputs; int8 needs them, and every fifth one judges the engine",
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="LAYER",
        help="int8: leave layers whose names begin so in float, with step: or source: before it those of that graph "
        "alone; may be given several times. `auto` chooses as few as let the gate pass with --margin",
    )
    parser.add_argument(
        "--margin", type=float, help=f"--keep auto: by which SSIM has to lie above the gate's floor (default: {MARGIN})"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE.csv", help="--keep auto: table to write, of what each layer costs"
    )
    parser.add_argument(
        "--fold-statistics",
        type=Path,
        metavar="FACE.avatar",
        help="build for this face alone, with its usual statistics in place of each picture's where that costs little",
    )
    group = parser.add_argument_group("TensorRT")
    group.add_argument(
        "--compute-capability",
        type=capabilities,
        metavar="8.6,8.9",
        help="devices to build for (default: this machine's GPU)",
    )
    group.add_argument("--batch", type=int, metavar="N", help="largest batch, of a graph that takes any")
    group.add_argument("--workspace", type=int, metavar="MIB", help="memory that a layer may use")
    group.add_argument("--timing-cache", type=Path, metavar="FILE", help="keeps what was measured of kernels")
    group.add_argument("--hardware", choices=("ampere+", "same"), help="let the plan run on other devices too")
    group.add_argument(
        "--version-compatible",
        action="store_true",
        default=None,
        help="let newer versions of TensorRT run the plan too",
    )


def run(args: argparse.Namespace) -> None:
    names = [field.name for field in dataclasses.fields(PlanOptions)]
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    progress = show if sys.stderr.isatty() else None
    try:
        metadata = build(
            args.model,
            args.out,
            precision=args.precision,
            calibration=args.calibration,
            keep=args.keep,
            margin=args.margin,
            report=args.report,
            fold_statistics=args.fold_statistics,
            progress=progress,
            **options,
        )
    finally:
        if progress is not None:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    print(f"{args.out}  {metadata.engine['name']} {metadata.engine['version']}, {metadata.precision}")
    kept = metadata.gate.get("kept", {})
    print("against f32:  " + ", ".join(f"{name} {value}" for name, value in metadata.gate.items() if name != "kept"))
    for layer, why in kept.items():
        print(f"in float:     {layer}: {why}")


def show(phase: str, done: int, steps: int) -> None:
    """Write the progress over the last line of the terminal: layers are tried, or TensorRT builds, for minutes."""
    print(f"\r{phase[:60]} {done}/{steps}\x1b[K", end="", file=sys.stderr, flush=True)
