"""AMNet as one would run it by hand, beside the bundled step: every peer in one table, all in turns.

    python -m bench.by_hand                   measure, and write the table into docs/performance.md
    python -m bench.by_hand --page            write the table from what was measured before

Peers take the picture and one frame's sound, pose and blink, and make the frame with the whole network: PyTorch
eager, torch.compile, ONNX Runtime and OpenVINO on what `edgetalk export --whole` writes. Ours has prepared the face
once. Each is a process of its own; they take turns of BLOCK frames, and a frame rate is told as how many times that
of PyTorch eager, the median over the turns. Weights are the bundled model's, in every one of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetalk.train import program

from .machine import processor
from .page import CALIBRATION, ROOT, add_options, put, write_json
from .turns import each_turn
from .worker import Worker

RESULTS = ROOT / "docs" / "results" / "peers.json"
CHECKPOINT = ROOT / "train" / "checkpoints" / "amnet.safetensors"
MODELS = ROOT / "edgetalk" / "models"
Values = NDArray[np.float64]
"""Seconds of a frame, turn for turn."""
BLOCK = 5  # frames of a turn
FRAMES = 50  # of sound, pose and blink
PEERS = {
    "eager": "PyTorch eager, fp32",
    "compile": "torch.compile, fp32",
    "onnxruntime": "ONNX Runtime, fp32",
    "openvino-f32": "OpenVINO, f32",
    "openvino": "OpenVINO as it comes",
    "ours-f32": "**edgetalk step, f32**",
    "ours-int8": "**edgetalk step, int8**",
}


def models(size: int, folder: Path) -> tuple[Path, Path, Path]:
    """Return the whole network as ONNX, our f32 step and our int8 step at `size`; what is not bundled is built."""
    from edgetalk.engines import build
    from edgetalk.export import to_onnx

    whole = folder / "whole.onnx"
    to_onnx(CHECKPOINT, whole, whole=True, size=size)
    if size == 256:
        return whole, MODELS / "amnet.onnx", MODELS / "amnet.xml"
    import cv2

    to_onnx(CHECKPOINT, folder / "amnet.onnx", size=size)
    samples = dict(np.load(CALIBRATION))
    samples["source"] = np.stack([cv2.resize(p, (size, size), interpolation=cv2.INTER_AREA) for p in samples["source"]])
    np.savez(folder / "calibration.npz", **samples)
    build(folder / "amnet.onnx", folder / "amnet.xml", precision="int8", calibration=folder / "calibration.npz")
    return whole, folder / "amnet.onnx", folder / "amnet.xml"


def write_feeds(step: Path, folder: Path) -> Path:
    """Write what all of them are fed with."""
    from edgetalk import Session, benchmark

    with Session(step) as session:
        rows = list(benchmark.controls(session, benchmark.sentence(10.0)))[25 : 25 + FRAMES]
        mel, pose, blink = (np.stack(values) for values in zip(*rows, strict=True))
        np.savez(folder / "feeds.npz", source=session.avatar.source, mel=mel, pose=pose, blink=blink)
    return folder / "feeds.npz"


def megabytes(*files: Path) -> float:
    return sum(file.stat().st_size for file in files) / 1e6


def ratio_quartiles(slow: Values, fast: Values) -> list[float]:
    """Return how many times as long `slow` took as `fast`: the quartiles of what each turn says."""
    return [round(float(value), 2) for value in np.percentile(np.divide(slow, fast), (25, 50, 75))]


def measure(size: int, threads: int, turns: int, folder: Path) -> dict[str, Any]:
    """Measure all peers at one size and number of threads."""
    if not (folder / "feeds.npz").exists():
        write_feeds(models(size, folder)[1], folder)
    bundled = size == 256
    whole, exact = folder / "whole.onnx", (MODELS if bundled else folder) / "amnet.onnx"
    int8 = exact.with_suffix(".xml")
    with_feeds: dict[str, Any] = {"feeds": folder / "feeds.npz", "threads": threads}
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / f"inductor-{threads}")  # it compiles as on the first day
    contestants: dict[str, tuple[str, dict[str, Any], float]] = {
        "eager": ("eager", {"checkpoint": CHECKPOINT}, megabytes(CHECKPOINT)),
        "compile": ("eager", {"checkpoint": CHECKPOINT, "compiled": True}, megabytes(CHECKPOINT)),
        "onnxruntime": ("onnxruntime", {"model": whole}, megabytes(whole)),
        "openvino-f32": ("openvino", {"model": whole, "precision": "f32"}, megabytes(whole)),
        "openvino": ("openvino", {"model": whole}, megabytes(whole)),
        "ours-f32": ("ours", {"engine": exact}, megabytes(exact, exact.with_suffix(".avatar"))),
        "ours-int8": (
            "ours",
            {"engine": int8},
            megabytes(int8, int8.with_suffix(".bin"), exact.with_suffix(".avatar")),
        ),
    }
    rows: dict[str, dict[str, Any]] = {}
    with contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(function, **arguments, **with_feeds))
            for name, (function, arguments, _) in contestants.items()
        }
        blocks = each_turn({name: partial(worker.block, BLOCK) for name, worker in workers.items()}, turns)
        seconds = {name: np.median(taken, axis=1) for name, taken in blocks.items()}
        for name, worker in workers.items():
            rows[name] = {
                "ms": round(float(np.median(seconds[name])) * 1e3, 2),
                "times_eager": ratio_quartiles(seconds["eager"], seconds[name]),
                "times_openvino": ratio_quartiles(seconds["openvino-f32"], seconds[name]),
                "first_frame_s": round(worker.first, 2),
                "peak_rss_mb": round(worker.peak() / 1e6),
                "file_mb": round(contestants[name][2], 1),
                **worker.told,
            }
    return {"size": size, "threads": threads, "turns": turns, "rows": rows}


def markdown(result: dict[str, Any]) -> str:
    """Return the table."""
    runs = result["runs"]
    largest = max(runs, key=lambda run: (run["size"], run["threads"]))
    head = [f"{run['size']}², {run['threads']} thread{'s' if run['threads'] > 1 else ''}" for run in runs]
    lines = [
        f"| whole network, and our step | {' | '.join(head)} | first frame, s | peak RSS, MB | files, MB |",
        "|---" * (len(runs) + 4) + "|",
    ]
    for name, label in PEERS.items():
        cells = []
        for run in runs:
            row = run["rows"][name]
            low, ratio, high = row["times_eager"]
            speed = f"{1e3 / row['ms']:.1f} frames/s" if name == "eager" else f"{ratio:.1f} × ({low:.1f}–{high:.1f})"
            cells.append(speed)
        row = largest["rows"][name]
        taken = f" ({row['precision']} here)" if name == "openvino" else ""
        cells += [f"{row['first_frame_s']:.1f}", str(row["peak_rss_mb"]), f"{row['file_mb']:.1f}"]
        lines.append(f"| {label}{taken} | {' | '.join(cells)} |")
    versions = {row["version"] for run in runs for row in run["rows"].values()}
    told = ", ".join(
        f"{label} {largest['rows'][name]['version']}"
        for name, label in (("eager", "PyTorch"), ("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO"))
    )
    assert len(versions) <= 4, versions
    lines += [
        "",
        f"{result['device']}, {told}, {result['date']}; times the rate of eager in the same turn, median and quartiles "
        f"of {largest['turns']} turns. Last three columns: {largest['size']}², {largest['threads']} threads, from the "
        "start of Python, torch.compile with an empty cache; files are what each one reads, ours with an avatar.",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = program.parser("bench.by_hand", __doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 128], help="default: 256 128")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    parser.add_argument("--turns", type=int, default=15, help=f"of {BLOCK} frames each (default: 15)")
    parser.add_argument("--prepare", action="store_true", help="make the models in --prepared, and measure nothing")
    add_options(parser, RESULTS)
    args = parser.parse_args(arguments)
    if args.prepare and not args.prepared:
        parser.error("--prepare: got no folder to make them in; add --prepared FOLDER")
    if not args.page:
        with tempfile.TemporaryDirectory(prefix="edgetalk-") as temporary:
            runs = []
            for size in args.sizes:
                folder = (args.prepared or Path(temporary)) / str(size)
                folder.mkdir(parents=True, exist_ok=True)
                if args.prepare:
                    write_feeds(models(size, folder)[1], folder)
                    continue
                runs += [measure(size, threads, args.turns, folder) for threads in args.threads]
        if args.prepare:
            return
        result = {"device": processor(), "date": time.strftime("%Y-%m-%d"), "runs": runs}
        write_json(args.out, result)
    put(markdown(json.loads(args.out.read_text())), "bench.by_hand", args.write)


if __name__ == "__main__":
    program.run(main)
