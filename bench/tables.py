"""Measure Table II of AMNet and Table 3 of WavSyncSwap anew, all systems in turns, and write them to a page.

    python -m bench.tables                  measure what this machine has, and write docs/performance.md
    python -m bench.tables --turns 50       more turns
    python -m bench.tables --page           write the page from what was measured before

Every contestant makes one frame in each turn, so that a busy machine slows all of them alike; the median over the
turns counts. Contestants are PyTorch eager in fp32, OpenVINO in f32 and bf16 as `edgetalk build` writes it, whole
and, where a network allows that, from the prepared face on; on a GPU PyTorch eager and torch.compile in fp32, with
TF32 where PyTorch's defaults have it. Left out: int8, which needs trained weights (test_ratio.py).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .machine import busy_seconds, processor
from .page import PAGE, put
from .systems import Inputs, System, all_systems, outputs

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results" / "tables"
WARM_UP = 3
PAUSE = 0.01  # seconds: worker threads of the one before go to sleep and do not eat into the next one's turn
IDLE = 0.1  # share of the processor that other programs may take before times mean nothing
FPS = 25
CPU = {
    "eager": "PyTorch eager",
    "f32": "OpenVINO f32",
    "bf16": "OpenVINO bf16",
    "step-f32": "step, f32",
    "step-bf16": "step, bf16",
}
GPU = {"cuda": "PyTorch eager", "compiled": "torch.compile"}

Contestant = Callable[[], Any]


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


def in_openvino(network: nn.Module, inputs: Inputs, folder: Path, threads: int) -> dict[str, Contestant]:
    """Return the network as an engine in each arithmetic, written as `edgetalk build` writes it."""
    import openvino

    from edgetalk.backends import open_engine
    from edgetalk.engines.openvino import write
    from edgetalk.engines.rewrite import phase_grid, sub_pixel
    from edgetalk.export.onnx_file import to_bytes, trace
    from edgetalk.metadata import Metadata

    path = folder / f"{len(list(folder.iterdir()))}.xml"
    torch.backends.mha.set_fastpath_enabled(False)  # which the exporter has no operator for
    model = trace(network, inputs, outputs(network, inputs))
    torch.backends.mha.set_fastpath_enabled(True)
    to_bytes(model, Metadata(family="bench"))  # gives it its metadata
    write(phase_grid(sub_pixel(model)), path, halve=False)
    feeds = {name: value.numpy() for name, value in inputs.items()}
    able = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    made = {}
    for precision in ("f32", *(["bf16"] if able else [])):
        engine = open_engine(path, precision=precision, threads=threads)
        taken = {name: value for name, value in feeds.items() if name in engine.inputs}
        made[precision] = lambda engine=engine, taken=taken: engine.run(taken)
    return made


def contestants(systems: list[System], folder: Path, threads: int, cpu: bool) -> dict[tuple[str, str], Contestant]:
    """Return what takes turns, by system and column."""
    made: dict[tuple[str, str], Contestant] = {}
    for system in systems:
        if cpu:
            made[system.name, "eager"] = in_torch(system.network, system.inputs, "cpu")
            for column, run in in_openvino(system.network, system.inputs, folder, threads).items():
                made[system.name, column] = run
            for column, run in (in_openvino(*system.step, folder, threads) if system.step else {}).items():
                made[system.name, f"step-{column}"] = run
        else:
            made[system.name, "cuda"] = in_torch(system.network, system.inputs, "cuda")
            made[system.name, "compiled"] = in_torch(system.network, system.inputs, "cuda", compiled=True)
    return made


def take_turns(runs: dict[tuple[str, str], Contestant], turns: int) -> dict[str, dict[str, list[float]]]:
    """Return, by system and column, the quartiles of the milliseconds that a frame took."""
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for turn in range(turns + WARM_UP):
        for key, run in runs.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            run()
            if turn >= WARM_UP:
                seconds[key].append(time.perf_counter() - start)
    figures: dict[str, dict[str, list[float]]] = {}
    for (name, column), taken in seconds.items():
        quartiles = np.percentile(np.array(taken) * 1e3, [25, 50, 75])
        figures.setdefault(name, {})[column] = [round(float(value), 3) for value in quartiles]
    return figures


def measure(systems: list[System], turns: int, threads: int, cpu: bool = True) -> dict[str, Any]:
    """Measure on the CPU or on the GPU; return the figures with the machine that they are of."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        runs = contestants(systems, Path(folder), threads, cpu)
        start, (all_before, own_before) = time.perf_counter(), busy_seconds()
        figures = take_turns(runs, turns)
        all_after, own_after = busy_seconds()
        there = (time.perf_counter() - start) * (os.cpu_count() or 1)
    others = max(0.0, (all_after - all_before) - (own_after - own_before)) / there
    versions = {"torch": torch.__version__.partition("+")[0]}
    if cpu:
        import openvino

        versions["openvino"] = openvino.__version__.partition("-")[0]
    rows = [
        {"table": s.table, "name": s.name, "millions": round(s.millions, 3), "paper": s.paper, "ms": figures[s.name]}
        for s in systems
    ]
    return {
        "device": processor() if cpu else torch.cuda.get_device_name(),
        "kind": "cpu" if cpu else "gpu",
        "threads": threads,
        "date": time.strftime("%Y-%m-%d"),
        "turns": turns,
        "versions": versions,
        "others": round(others, 2),
        "busy": cpu and others > IDLE,
        "rows": rows,
    }


def save(result: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write a result in place of the one that this device had."""
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", result["device"].lower()).strip("-")
    path, part = folder / f"{name}.json", folder / f"{name}.json.part"
    part.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    os.replace(part, path)
    return path


def _cell(row: dict[str, Any], column: str) -> str:
    """Frames per second, or the real-time factor of Table 3, from the median."""
    if column not in row["ms"]:
        return ""
    median = row["ms"][column][1]
    return f"{1e3 / median:.1f}" if row["table"] == "II" else f"{FPS * median / 1e3:.4f}"


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
    for table, (title, told) in titles.items():
        rows = {row["name"]: row for row in results[0]["rows"] if row["table"] == table}
        columns = [
            (i, column)
            for i, result in enumerate(results)
            for column in (CPU if result["kind"] == "cpu" else GPU)
            if any(column in row["ms"] for row in result["rows"])
        ]
        marks = {i: chr(ord("A") + i) for i in range(len(results))}
        names = [f"{marks[i]}: {(CPU | GPU)[column]}" for i, column in columns]
        parts += [
            f"**{title}**",
            "",
            "| system | params (M) | " + " | ".join([f"paper: {text}" for text in told.values()] + names) + " |",
            "|---" * (2 + len(told) + len(names)) + "|",
        ]
        for name, row in rows.items():
            cells = [row["paper"].get(key, "") for key in told]
            for i, column in columns:
                other = next((r for r in results[i]["rows"] if r["name"] == name), None)
                cells.append(_cell(other, column) if other else "")
            parts.append(f"| {name} | {row['millions']:.3f} | " + " | ".join(cells) + " |")
        parts.append("")
    for i, result in enumerate(results):
        versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
        threads = f"{result['threads']} threads, " if result["kind"] == "cpu" else ""
        busy = f" **The machine was busy (other programs took {result['others']:.0%}): do not quote these times.**"
        parts.append(
            f"- {chr(ord('A') + i)} = {result['device']}; {threads}{versions}; medians of {result['turns']} "
            f"turns, {result['date']}.{busy if result['busy'] else ''}"
        )
    return "\n".join(parts) + "\n"


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Draw milliseconds per frame of every system on every device, on a logarithmic scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [row["name"] for row in results[0]["rows"]]
    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    series = [(i, column) for i, result in enumerate(results) for column in (CPU if result["kind"] == "cpu" else GPU)]
    for k, (i, column) in enumerate(series):
        medians = [
            next((r["ms"][column][1] for r in results[i]["rows"] if r["name"] == name and column in r["ms"]), np.nan)
            for name in names
        ]
        label = f"{chr(ord('A') + i)}: {(CPU | GPU)[column]}"
        axes.plot(medians, [-n - k / (len(series) + 2) for n in range(len(names))], "o", label=label)
    axes.axvline(1e3 / FPS, color="grey", linestyle=":", label=f"real time, {FPS} per second")
    axes.set(xscale="log", xlabel="milliseconds per frame (median)", yticks=[-n - 0.3 for n in range(len(names))])
    axes.set_yticklabels(names)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    part = path.with_name(path.name + ".part")
    figure.savefig(part, format="png", dpi=100, metadata={"Software": None})
    pyplot.close(figure)
    os.replace(part, path)


def write_page(folder: Path, page: Path) -> None:
    """Put tables and plot of all results into the page, between its two marks."""
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    results.sort(key=lambda result: (result["kind"], result["device"]))  # processors first
    picture = page.with_name("tables.png")
    plot(results, picture)
    put(f"{markdown(results)}\n![milliseconds per frame]({picture.name})", "bench.tables", page)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.tables", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=30, help="frames that each contestant makes (default: 30)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: every core")
    parser.add_argument("--only", choices=("cpu", "gpu"), help="default: the CPU, and the GPU where there is one")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help="where results lie")
    parser.add_argument("--write", type=Path, default=PAGE, metavar="PAGE", help="page with the two marks to write to")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page alone")
    args = parser.parse_args(arguments)
    if not args.page:
        systems = all_systems()
        if args.only != "gpu":
            print(save(measure(systems, args.turns, args.threads), args.out))
        if args.only != "cpu" and torch.cuda.is_available():
            print(save(measure(systems, args.turns, args.threads, cpu=False), args.out))
    write_page(args.out, args.write)


if __name__ == "__main__":
    main()
