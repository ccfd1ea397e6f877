"""What many frames at once are worth: one request, two side by side, and engines of two and four frames a run.

    python -m bench.throughput               measure, and write the table into docs/performance.md
    python -m bench.throughput --page        write the table from what was measured before

All are the bundled AMNet's step in int8. One request has all threads for each frame, which is how a live face runs. Two
requests are an asynchronous queue on two streams, each with its part of the threads, as two streams of a session are. A
batch needs an engine of its own, built here. All take turns of FRAMES frames; what counts is frames per second and
core, against one request in the same turn, and how long a frame takes from its start to its end. A batch's frames all
end together, and that it has to wait for its last frame's sound is not in it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgetalk.bundled import MODELS
from edgetalk.engines import gate
from edgetalk.engines.calibration import load, split
from edgetalk.engines.onnx_file import Feeds, Runner, read
from edgetalk.engines.openvino import write as write_engine
from edgetalk.engines.typed import typed_graph
from edgetalk.export import to_onnx
from edgetalk.overlap import cores
from edgetalk.train import program

from .duel import FEWEST, ratio_interval
from .machine import Others, processor
from .page import CALIBRATION, ROOT, add_options, publish
from .turns import each_turn

RESULTS = ROOT / "docs" / "results" / "throughput.json"
CHECKPOINT = ROOT / "train" / "checkpoints" / "amnet.safetensors"
FRAMES = 24  # of a turn; a multiple of every batch
TURNS = 60
ONE = "one request"
BATCHES = (2, 4)


class Way:
    """A compiled engine that makes frames, `requests` at a time, each of `batch` frames."""

    def __init__(self, engine: Path, threads: int, requests: int = 1, batch: int = 1) -> None:
        import openvino as ov

        core = ov.Core()
        able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        config: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if able else "f32",
        }
        config |= {"PERFORMANCE_HINT": "LATENCY"} if requests == 1 else {"NUM_STREAMS": requests}
        self.batch, self._made = batch, dict[int, tuple[float, Any]]()
        compiled = core.compile_model(engine, "CPU", config)
        self._request = compiled.create_infer_request()
        self._queue = ov.AsyncInferQueue(compiled, requests) if requests > 1 else None
        if self._queue is not None:
            self._queue.set_callback(self._ended)

    def _ended(self, request: Any, number: int) -> None:
        end = time.perf_counter()
        self._made[number] = end, request.get_tensor("frame").data.copy()

    def run(self, feeds: Sequence[Feeds]) -> tuple[float, list[float], np.ndarray]:
        """Return the seconds that all took, the seconds of each frame, and the frames uint8 (N, S, S, 3)."""
        self._made.clear()
        given, starts = batches(feeds, self.batch), []
        began = time.perf_counter()
        for number, one in enumerate(given):
            if self._queue is None:
                starts.append(time.perf_counter())
                self._request.infer(one)
                self._ended(self._request, number)
            else:
                self._queue.get_idle_request_id()  # waits for one: a frame begins when it can begin to be made
                starts.append(time.perf_counter())
                self._queue.start_async(one, number)
        if self._queue is not None:
            self._queue.wait_all()
        whole = time.perf_counter() - began
        seconds = [self._made[i][0] - start for i, start in enumerate(starts) for _ in range(self.batch)]
        return whole, seconds, np.concatenate([self._made[i][1] for i in range(len(starts))])


def batches(feeds: Sequence[Feeds], size: int) -> list[Feeds]:
    """Return feeds that are `size` of the given ones each; what is left over at the end is left away."""
    groups = [feeds[i : i + size] for i in range(0, len(feeds) - size + 1, size)]
    return [{name: np.concatenate([one[name] for one in group]) for name in group[0]} for group in groups]


def built(batch: int, samples: Sequence[Feeds], folder: Path) -> Path:
    """Write FOLDER/batch-N/amnet.xml, the bundled checkpoint's step in int8; what is there already stays."""
    place = folder / f"batch-{batch}"
    engine = place / "amnet.xml"
    if not engine.exists():
        place.mkdir(parents=True, exist_ok=True)
        to_onnx(CHECKPOINT, place / "amnet.onnx", batch=batch)
        model, _ = read(place / "amnet.onnx")
        write_engine(typed_graph(model, "int8", ".xml", batches(samples, batch), ()), engine, halve=True)
    return engine


def take_turns(
    ways: Mapping[str, Way], feeds: Sequence[Feeds], turns: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the seconds of each way's turns, and of its frames; one turn before the first does not count."""

    def seconds(way: Way) -> tuple[float, list[float]]:
        whole, each, _ = way.run(feeds)
        return whole, each

    taken = each_turn({name: partial(seconds, way) for name, way in ways.items()}, turns, warm_up=1)
    whole = {name: [all_of_them for all_of_them, _ in turn] for name, turn in taken.items()}
    return whole, {name: [one for _, each in turn for one in each] for name, turn in taken.items()}


def measure(threads: int, turns: int, folder: Path) -> dict[str, Any]:
    """Build what is not bundled and measure all ways; return the figures."""
    model, _ = read(MODELS / "amnet.onnx")
    graph = Runner(model)
    samples = load(CALIBRATION, graph, Runner(read(MODELS / "amnet-source.onnx")[0]))
    learn, _ = split(samples)
    shown = [{name: feeds[name] for name in graph.inputs} for feeds in samples[:FRAMES]]
    ways = {ONE: Way(MODELS / "amnet.xml", threads), "two requests": Way(MODELS / "amnet.xml", threads, requests=2)}
    for batch in BATCHES:
        ways[f"batch {batch}"] = Way(built(batch, learn, folder), threads, batch=batch)
    reference = np.concatenate([graph(feeds)["frame"] for feeds in shown])
    ssim = {name: gate.compare(reference, way.run(shown)[2])["ssim"] for name, way in ways.items()}
    others = Others()
    whole, frames = take_turns(ways, shown, turns)
    return {
        "device": processor(),
        "threads": threads,
        "date": time.strftime("%Y-%m-%d"),
        "turns": turns,
        "others": round(others.share(), 2),
        "rows": {name: row(whole[name], whole[ONE], frames[name], threads) | {"ssim": ssim[name]} for name in ways},
    }


def row(whole: Sequence[float], one: Sequence[float], frames: Sequence[float], threads: int) -> dict[str, Any]:
    """Return the figures of one way, from the seconds of its turns, those of one request, and those of its frames."""
    p50, p99 = (round(float(value), 2) for value in np.percentile(np.multiply(frames, 1e3), (50, 99)))
    rate = FRAMES / float(np.median(whole)) / threads
    return {"per_core": round(rate, 2), "times_one": ratio_interval(one, whole), "p50_ms": p50, "p99_ms": p99}


def markdown(result: dict[str, Any]) -> str:
    """Return the table, and which way is best."""
    lines = [
        "| AMNet, int8 | frames/s and core | against one request | a frame: p50, ms | p99, ms | SSIM to f32 |",
        "|---|---|---|---|---|---|",
    ]
    for name, told in result["rows"].items():
        low, ratio, high = told["times_one"]
        against = "1" if name == ONE else f"{ratio:.3f} × ({low:.3f}–{high:.3f})"
        lines.append(
            f"| {name} | {told['per_core']:.1f} | {against} | {told['p50_ms']:.1f} | {told['p99_ms']:.1f} "
            f"| {told['ssim']:.4f} |"
        )
    lines += [
        "",
        f"{best(result['rows'])} {result['device']}, {result['threads']} threads, {result['date']}: medians of "
        f"{result['turns']} turns of {FRAMES} frames with the 99.9 % interval of the sign test; other programs took "
        f"{result['others']:.0%} of the processor.",
    ]
    return "\n".join(lines) + "\n"


def best(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a sentence on which way makes most frames; ways that one request lies in the interval of are no better."""
    name = max(rows, key=lambda way: rows[way]["times_one"][1])
    if name == ONE or rows[name]["times_one"][0] <= 1:
        return "No way makes more frames than one request, beyond what turns differ by."
    return f"Most frames come by **{name}**."


def main(arguments: list[str] | None = None) -> None:
    parser = program.parser("bench.throughput", __doc__)
    parser.add_argument("--threads", type=int, default=cores(), help="default: every core")
    parser.add_argument("--turns", type=int, default=TURNS, help="turns of all ways to run")
    add_options(parser, RESULTS)
    args = parser.parse_args(arguments)
    if args.turns < FEWEST:
        parser.error(f"--turns: got {args.turns}, expected at least {FEWEST}, fewer have no interval")
    publish(args, "bench.throughput", lambda folder: measure(args.threads, args.turns, folder), markdown)


if __name__ == "__main__":
    program.run(main)
