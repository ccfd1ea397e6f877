"""Measure Table II of AMNet and Table 3 of WavSyncSwap anew, all systems in turns, and write them to a page.

    python -m bench.tables                  measure what this machine has, and write docs/performance.md
    python -m bench.tables --turns 50       more turns for Table II
    python -m bench.tables --seconds 10 --repeats 20    Table 3 as the paper did: an hour and more on two cores
    python -m bench.tables --page           write the page from what was measured before

For Table II every contestant makes one frame in each turn, after one that does not count, so that a busy machine slows
all of them alike; the median over the turns counts. For Table 3 each makes the frames of a clip in each turn, and the
mean and the deviation over the turns count, as in the paper. Contestants are PyTorch eager in fp32, and OpenVINO in
f32, bf16 and int8 in the form that `edgetalk build` gives it, whole and, where a network allows that, from the prepared
face on; on a GPU PyTorch eager and torch.compile in fp32, with TF32 where PyTorch's defaults have it. Weights are
random, so int8 tells a speed alone.
"""

from __future__ import annotations

import copy
import json
import re
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgetalk.files import replacing
from edgetalk.overlap import cores
from edgetalk.train import program

from .machine import IDLE, Others, processor
from .page import PAGE, ROOT, put, write_json
from .systems import Inputs, System, all_systems, outputs
from .turns import in_turns

RESULTS = ROOT / "docs" / "results" / "tables"
WARM_UP = 3
FPS = 25
OURS, PAPER_SPEEDUP = "WavSyncSwap", "1.96 ×"
CPU = {
    "eager": "PyTorch eager",
    "f32": "OpenVINO f32",
    "bf16": "OpenVINO bf16",
    "int8": "OpenVINO int8",
    "step-f32": "step, f32",
    "step-bf16": "step, bf16",
    "step-int8": "step, int8",
}
GPU = {"cuda": "PyTorch eager", "compiled": "torch.compile"}

Contestant = Callable[[], Any]
Figures = dict[str, dict[str, list[float]]]
"""By system and column."""


def in_torch(network: nn.Module, inputs: Inputs, device: str, compiled: bool = False) -> Contestant:
    """Return one frame in PyTorch, with everything on `device` before and behind it."""
    network, values = network.to(device), [value.to(device) for value in inputs.values()]
    call = torch.compile(network) if compiled else network

    def run() -> Any:
        with torch.inference_mode():
            made = call(*values)
        if device == "cuda":
            torch.cuda.synchronize()
        return made

    return run


def precisions() -> list[str]:
    """Return what OpenVINO computes in on this machine."""
    import openvino

    able = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ["f32", *(["bf16"] if able else []), "int8"]


def build(network: nn.Module, inputs: Inputs, stem: Path, kinds: list[str]) -> None:
    """Write STEM-f32.xml and so on, as `edgetalk build` writes them; what is there already stays."""
    from edgetalk.engines.onnx_file import set_metadata
    from edgetalk.engines.openvino import write
    from edgetalk.engines.typed import typed_graph as typed
    from edgetalk.export.onnx_file import trace
    from edgetalk.metadata import Metadata

    wanted = {p: path for p in kinds if not (path := stem.with_name(f"{stem.name}-{p}.xml")).exists()}
    if not wanted:
        return
    torch.backends.mha.set_fastpath_enabled(False)  # which the exporter has no operator for
    model = trace(network, inputs, outputs(network, inputs))
    torch.backends.mha.set_fastpath_enabled(True)
    set_metadata(model, Metadata(family="bench"))
    feeds = {name: value.numpy() for name, value in inputs.items()}
    for precision, path in wanted.items():
        write(typed(copy.deepcopy(model), precision, ".xml", [feeds], ()), path, halve=False)


def in_openvino(
    network: nn.Module, inputs: Inputs, stem: Path, kinds: list[str], threads: int
) -> dict[str, Contestant]:
    """Return the network as an engine in each arithmetic; built where it is not there yet."""
    from edgetalk.backends import open_engine

    build(network, inputs, stem, kinds)
    made: dict[str, Contestant] = {}
    for precision in kinds:
        engine = open_engine(stem.with_name(f"{stem.name}-{precision}.xml"), precision=precision, threads=threads)
        taken = {name: value.numpy() for name, value in inputs.items() if name in engine.inputs}
        made[precision] = partial(engine.run, taken)
    return made


def contestants(
    systems: list[System], folder: Path, threads: int, cpu: bool, int8: bool = True
) -> dict[tuple[str, str], Contestant]:
    """Return what takes turns, by system and column; int8 is built for our own families alone, if at all."""
    floats, left = precisions()[:-1], ["int8"] if int8 else []
    made: dict[tuple[str, str], Contestant] = {}
    for i, system in enumerate(systems):
        if cpu:
            made[system.name, "eager"] = in_torch(system.network, system.inputs, "cpu")
            kinds = floats + left if system.step else floats
            for column, run in in_openvino(system.network, system.inputs, folder / str(i), kinds, threads).items():
                made[system.name, column] = run
            for column, run in (
                in_openvino(*system.step, folder / f"{i}-step", floats[-1:] + left, threads) if system.step else {}
            ).items():
                made[system.name, f"step-{column}"] = run
        else:
            made[system.name, "cuda"] = in_torch(system.network, system.inputs, "cuda")
            made[system.name, "compiled"] = in_torch(system.network, system.inputs, "cuda", compiled=True)
    return made


def frame_times(runs: dict[tuple[str, str], Contestant], turns: int) -> Figures:
    """Return, by system and column, the quartiles of the milliseconds that a frame took."""
    figures: Figures = {}
    for (name, column), taken in in_turns(runs, turns, block=1, warm_up=WARM_UP).items():
        quartiles = np.percentile(taken * 1e3, [25, 50, 75])
        figures.setdefault(name, {})[column] = [round(float(value), 3) for value in quartiles]
    return figures


def clip_factors(runs: dict[tuple[str, str], Contestant], seconds: float, repeats: int) -> Figures:
    """Return, by system and column, mean and deviation of the seconds that one second of a clip took."""
    figures: Figures = {}
    for (name, column), taken in in_turns(runs, repeats, block=max(1, round(seconds * FPS)), warm_up=0).items():
        factors = taken.mean(axis=1) * FPS
        deviation = float(np.std(factors, ddof=1)) if repeats > 1 else 0.0
        figures.setdefault(name, {})[column] = [round(float(np.mean(factors)), 5), round(deviation, 5)]
    return figures


def measure(
    systems: list[System],
    turns: int,
    threads: int,
    seconds: float = 1.0,
    repeats: int = 1,
    cpu: bool = True,
    prepared: Path | None = None,
    int8: bool = True,
) -> dict[str, Any]:
    """Measure on the CPU or on the GPU; return the figures with the machine that they are of.

    `prepared` is a folder where engines are kept.
    """
    torch.set_num_threads(threads)
    names = {system.name: system.table for system in systems}
    with tempfile.TemporaryDirectory() as folder:
        runs = contestants(systems, prepared or Path(folder), threads, cpu, int8)
        others = Others()
        figures = frame_times({key: run for key, run in runs.items() if names[key[0]] == "II"}, turns)
        figures |= clip_factors({key: run for key, run in runs.items() if names[key[0]] == "3"}, seconds, repeats)
        share = others.share()
    versions = {"torch": torch.__version__.partition("+")[0]}
    if cpu:
        import openvino

        versions["openvino"] = openvino.__version__.partition("-")[0]
    rows = [
        {
            "table": s.table,
            "name": s.name,
            "millions": round(s.millions, 3),
            "paper": s.paper,
            "ms" if s.table == "II" else "rtf": figures[s.name],
        }
        for s in systems
    ]
    return {
        "device": processor() if cpu else torch.cuda.get_device_name(),
        "kind": "cpu" if cpu else "gpu",
        "threads": threads,
        "date": time.strftime("%Y-%m-%d"),
        "turns": turns,
        "seconds": seconds,
        "repeats": repeats,
        "versions": versions,
        "others": round(share, 2),
        "busy": cpu and share > IDLE,
        "rows": rows,
    }


def save(result: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write a result in place of the one that this device had."""
    name = re.sub(r"[^a-z0-9]+", "-", result["device"].lower()).strip("-")
    path = folder / f"{name}.json"
    write_json(path, result)
    return path


def _figures(row: dict[str, Any]) -> dict[str, list[float]]:
    return row["ms"] if row["table"] == "II" else row["rtf"]


def _cell(row: dict[str, Any], column: str) -> str:
    """Frames per second, from the median, or the real-time factor of Table 3."""
    figures = _figures(row).get(column)
    if figures is None:
        return ""
    return f"{1e3 / figures[1]:.1f}" if row["table"] == "II" else f"{figures[0]:.4f} ± {figures[1]:.4f}"


def _speedups(rows: dict[str, Any], columns: list[tuple[int, str]], columns_before: int, cards: bool) -> list[str]:
    """How many times as fast as each cascade our end-to-end network is, in the first result's columns."""
    ours = next(row for name, row in rows.items() if name.startswith(OURS))
    lines = []
    for name, row in rows.items():
        if row is not ours:
            cells = [PAPER_SPEEDUP] + [""] * (columns_before - 1)
            for i, column in columns:
                both = i == 0 and column in row["rtf"] and column in ours["rtf"]
                cells.append(f"{row['rtf'][column][0] / ours['rtf'][column][0]:.2f} ×" if both else "")
            cells += [] if cards else [""]
            lines.append(f"| {OURS} against {name} | | " + " | ".join(cells) + " |")
    return lines


def _milliseconds(row: dict[str, Any], column: str) -> float:
    """Of a frame, for the plot; NaN where it was not measured."""
    figures = _figures(row).get(column)
    if figures is None:
        return float("nan")
    return figures[1] if row["table"] == "II" else figures[0] * 1e3 / FPS


def markdown(results: list[dict[str, Any]]) -> str:
    """Return both tables, with the columns of every device that has been measured."""
    parts = []
    titles = {
        "II": (
            "Table II of AMNet: frames per second",
            {"params": "params (M)", "cpu": "CPU (i9-10900K)", "gpu": "GPU (2080 Ti)"},
        ),
        "3": ("Table 3 of WavSyncSwap: seconds for one second of video (RTF)", {"rtf": "RTF (V100)"}),
    }
    for table, (title, papers) in titles.items():
        rows = {row["name"]: row for row in results[0]["rows"] if row["table"] == table}
        columns = [
            (i, column)
            for i, result in enumerate(results)
            for column in (CPU if result["kind"] == "cpu" else GPU)
            if any(column in _figures(row) for row in result["rows"] if row["table"] == table)
        ]
        marks = {i: chr(ord("A") + i) for i in range(len(results))}
        names = [f"{marks[i]}: {(CPU | GPU)[column]}" for i, column in columns]
        cards = any(result["kind"] == "gpu" for result in results)
        names += [] if cards else ["on a GPU"]
        parts += [
            f"**{title}**",
            "",
            "| system | params (M) | " + " | ".join([f"paper: {text}" for text in papers.values()] + names) + " |",
            "|---" * (2 + len(papers) + len(names)) + "|",
        ]
        for name, row in rows.items():
            cells = [row["paper"].get(key, "") for key in papers]
            for i, column in columns:
                other = next((r for r in results[i]["rows"] if r["name"] == name), None)
                cells.append(_cell(other, column) if other else "")
            cells += [] if cards else [""]
            parts.append(f"| {name} | {row['millions']:.3f} | " + " | ".join(cells) + " |")
        if table == "3":
            parts += _speedups(rows, columns, len(papers), cards)
        parts += ["", "The last column is empty: no GPU was at hand." if not cards else ""]
        parts.append("")
    for i, result in enumerate(results):
        versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
        threads = f"{result['threads']} threads, " if result["kind"] == "cpu" else ""
        busy = f" **The machine was busy (other programs took {result['others']:.0%}): do not quote these times.**"
        parts.append(
            f"- {chr(ord('A') + i)} = {result['device']}; {threads}{versions}; Table II: medians of {result['turns']} "
            f"turns; Table 3: mean ± deviation of {result['repeats']} clips of {result['seconds']:g} s; "
            f"{result['date']}.{busy if result['busy'] else ''}"
        )
    return "\n".join(parts) + "\n"


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Draw milliseconds per frame of every system on every device, on a logarithmic scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [row["name"] for row in results[0]["rows"]]
    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    series = [
        (i, column)
        for i, result in enumerate(results)
        for column in (CPU if result["kind"] == "cpu" else GPU)
        if any(column in _figures(row) for row in result["rows"])
    ]
    for k, (i, column) in enumerate(series):
        medians = [
            next((_milliseconds(row, column) for row in results[i]["rows"] if row["name"] == name), np.nan)
            for name in names
        ]
        label = f"{chr(ord('A') + i)}: {(CPU | GPU)[column]}"
        axes.plot(medians, [-n - k / (len(series) + 2) for n in range(len(names))], "o", label=label)
    axes.axvline(1e3 / FPS, color="grey", linestyle=":", label=f"real time, {FPS} per second")
    axes.set(xscale="log", xlabel="milliseconds per frame", yticks=[-n - 0.3 for n in range(len(names))])
    axes.set_yticklabels(names)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=100, metadata={"Software": None})
    pyplot.close(figure)


def write_page(folder: Path, page: Path) -> None:
    """Put tables and plot of all results into the page, between its two marks."""
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    results.sort(key=lambda result: (result["kind"], result["device"]))  # processors first
    picture = page.with_name("tables.png")
    plot(results, picture)
    put(f"{markdown(results)}\n![milliseconds per frame]({picture.name})", "bench.tables", page)


def main(arguments: list[str] | None = None) -> None:
    parser = program.parser("bench.tables", __doc__)
    parser.add_argument("--turns", type=int, default=30, help="frames of each contestant of Table II (default: 30)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each clip of Table 3 (default: 1; paper: 10)")
    parser.add_argument("--repeats", type=int, default=5, help="clips of Table 3 (default: 5; paper: 20)")
    parser.add_argument("--threads", type=int, default=cores(), help="default: every core")
    parser.add_argument("--prepared", type=Path, metavar="FOLDER", help="keep engines there, and take those that are")
    parser.add_argument("--prepare", action="store_true", help="make the engines in --prepared, and measure nothing")
    parser.add_argument("--no-int8", action="store_true", help="leave int8 out, which takes minutes to build")
    parser.add_argument("--only", choices=("cpu", "gpu"), help="default: the CPU, and the GPU where there is one")
    parser.add_argument(
        "-o", "--output", dest="out", type=Path, default=RESULTS, metavar="FOLDER", help="where results lie"
    )
    parser.add_argument("--write", type=Path, default=PAGE, metavar="PAGE", help="page with the two marks to write to")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page alone")
    args = parser.parse_args(arguments)
    if args.prepare and not args.prepared:
        parser.error("--prepare: got no folder to make them in; add --prepared FOLDER")
    if not args.page:
        systems = all_systems()
        if args.prepare:
            args.prepared.mkdir(parents=True, exist_ok=True)
            contestants(systems, args.prepared, args.threads, True, not args.no_int8)
            return
        if args.only != "gpu":
            told = {"prepared": args.prepared, "int8": not args.no_int8}
            print(save(measure(systems, args.turns, args.threads, args.seconds, args.repeats, **told), args.out))
        if args.only != "cpu" and torch.cuda.is_available():
            made = measure(systems, args.turns, args.threads, args.seconds, args.repeats, cpu=False)
            print(save(made, args.out))
    write_page(args.out, args.write)


if __name__ == "__main__":
    program.run(main)
