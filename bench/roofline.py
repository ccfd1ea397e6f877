"""How far the bundled step is from what this machine's arithmetic allows, by groups of layers and layer by layer.

    python -m bench.roofline                 measure, print the table, write it and its plot to docs/performance.md
    python -m bench.roofline --print         measure and print alone
    python -m bench.roofline --engine FILE   another .xml, beside the .onnx that it was built from

The floor of a layer is its multiply-adds over the rate that a large convolution of the same precision reaches in the
same library here, so what a rewrite adds in multiply-adds counts as loss. Multiply-adds are those of the f32 .onnx; in
the table by layers small products that OpenVINO runs as one with others are missing.
The largest tensors of a step lie in the last level of cache, for which the bandwidth is given; norms, shuffles and
what else only moves data have no floor of their own. Times are OpenVINO's own, per layer, medians over turns. Clocks
and neighbours make minutes slow as a whole, so each of ROUNDS rounds measures the peaks, too, and the round is shown
that is in the middle by how many times its floor the step takes.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
from openvino import opset13 as ops

from edgetalk.bundled import MODELS
from edgetalk.files import replacing
from edgetalk.metadata import Metadata
from edgetalk.overlap import cores
from edgetalk.train import program

from .machine import IDLE, Others, processor
from .page import PAGE, put

GROUPS = {
    "predicted weights": r"/?(controllers\.\d+/(weight|bias)/|.*/predictors)",
    "audio, pose and blink (f_Geo)": r"/?(fuser|landmark_layer|mel|pose|blink)",
    "residual cells 1–4": r"/?(cells|controllers)\.[1-4]\b",
    "separable cell 5": r"/?(cells|controllers)\.5\b",
    "1×1 cells 6–8": r"/?(cells|controllers)\.[6-8]\b",
    "first upsampling": r"/?header/header\.0\b",
    "second upsampling": r"/?header/header\.1\b",
    "last convolution, to pixels": r"/?(header/header\.2\b|Tanh|frame)",
    "appearance in": r"/?(appearance|Transpose$|controllers\.0)",
}
"""Group to what begins the names of its layers; the first that fits counts."""
PRECISIONS = ("int8", "bf16", "f32")
PRODUCTS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "FullyConnected", "MatMul")
MERGED = {
    "/predictors/First": r"/controllers\.\d+/(weight|bias)/\1\.0/",
    "/predictors/Second": r"/controllers\.\d+/(weight|bias)/\1\.2/",
}
"""What ends the name of a layer that a rewrite has made of several, to what begins theirs."""
SIDE, CHANNELS = 64, 512  # of the convolution that tells the peak: 9.7 G multiply-adds
TURNS, WARM_UP, ROUNDS = 60, 10, 5


@dataclass(frozen=True)
class Layer:
    """A layer that has multiply-adds, as OpenVINO runs it."""

    name: str
    precision: str
    macs: int
    ms: float

    def floor(self, peak: dict[str, float]) -> float:
        """ms at the peak of its precision, which is given in multiply-adds per second."""
        return 1e3 * self.macs / peak[self.precision]


@dataclass
class Group:
    """One row: layers that belong together."""

    name: str
    macs: dict[str, int]
    """Multiply-adds by the precision in which they are done."""
    convolutions: float = 0.0
    """ms in layers that have multiply-adds."""
    others: float = 0.0
    """ms in all else."""
    layers: list[Layer] = field(default_factory=list)

    def floor(self, peak: dict[str, float]) -> float:
        """ms at the peaks, which are given in multiply-adds per second."""
        return sum(1e3 * count / peak[precision] for precision, count in self.macs.items())


def group_of(name: str) -> str | None:
    return next((group for group, begin in GROUPS.items() if re.match(begin, name)), None)


def multiply_adds(model: onnx.ModelProto) -> dict[str, int]:
    """Return the multiply-adds of each Conv, ConvTranspose, Gemm and MatMul of a graph, by name of the node.

    Taps that fall on the margin are counted, as is usual.
    """
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {w.name: list(w.dims) for w in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        shapes[value.name] = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]  # a free batch is 1
    counts = {}
    for node in graph.node:
        if node.op_type == "Conv":
            counts[node.name] = int(np.prod(shapes[node.output[0]]) * np.prod(shapes[node.input[1]][1:]))
        elif node.op_type == "ConvTranspose":
            counts[node.name] = int(np.prod(shapes[node.input[0]]) * np.prod(shapes[node.input[1]][1:]))
        elif node.op_type in ("Gemm", "MatMul"):
            turned = any(a.name == "transA" and a.i for a in node.attribute)
            inner = shapes[node.input[0]][0 if turned else -1]
            counts[node.name] = int(np.prod(shapes[node.output[0]]) * inner)
    return counts


def counted(name: str, counts: dict[str, int]) -> int:
    """Return the multiply-adds of a layer by the name that OpenVINO gives it, 0 where the f32 graph has none such."""
    for end, begin in MERGED.items():
        if name.removesuffix("/WithoutBiases").endswith(end):
            return sum(count for node, count in counts.items() if re.match(begin, node))
    return counts.get(name.removesuffix("/WithoutBiases"), 0)


def _times(model: ov.Model, precision: str, threads: int, turns: int) -> list[tuple[str, str, str, float]]:
    """Return name, type, implementation and median ms of each layer that runs, in the order in which they do."""
    hint = {"int8": "bf16"}.get(precision, precision)  # what is not quantised
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        "PERF_COUNT": True,
    }
    compiled = ov.Core().compile_model(model, "CPU", config)
    request = compiled.create_infer_request()
    random = np.random.default_rng(0)
    feeds = {port: random.uniform(-1, 1, list(port.shape)).astype(np.float32) for port in compiled.inputs}
    request.infer(feeds)
    seen: dict[str, list[float]] = {}
    told: dict[str, tuple[str, str]] = {}
    for turn in range(turns + WARM_UP):
        request.infer()
        for layer in request.profiling_info if turn >= WARM_UP else ():
            if layer.status == layer.Status.EXECUTED:
                seen.setdefault(layer.node_name, []).append(1e3 * layer.real_time.total_seconds())
                told[layer.node_name] = layer.node_type, layer.exec_type
    return [(name, *told[name], float(np.median(values))) for name, values in seen.items()]


def peak(precision: str, threads: int, turns: int = 10) -> float:
    """Return the multiply-adds per second of a large 3×3 convolution, the faster of two in a row.

    The first writes what the second reads, in the precision that both compute in.
    """
    random, channels, side = np.random.default_rng(0), CHANNELS, SIDE
    x = ops.parameter([1, channels, side, side], np.float32)
    made = x
    for _ in range(2):
        values = random.integers(-127, 128, (channels, channels, 3, 3)).astype(np.float32)
        made = ops.relu(made)
        if precision == "int8":
            made = ops.fake_quantize(made, *(np.float32(v) for v in (0, 2.55, 0, 2.55)), 256)
            weight = ops.multiply(ops.convert(ops.constant(values.astype(np.int8)), "f32"), np.float32(1e-3))
        else:
            weight = ops.constant(values)
        made = ops.convolution(made, weight, [1, 1], [1, 1], [1, 1], [1, 1])
    layers = _times(ov.Model([ops.relu(made)], [x]), precision, threads, turns)
    ms = min(ms for _, kind, _, ms in layers if kind == "Convolution")
    return channels * channels * 9 * side * side / ms * 1e3


def bandwidth(threads: int, mebibytes: int) -> float:
    """Return the bytes per second that an operation on single values reads and writes."""
    x = ops.parameter([mebibytes, 512, 512], np.float32)
    layers = _times(ov.Model([ops.relu(ops.add(x, np.float32(1)))], [x]), "f32", threads, 20)
    return 2 * mebibytes * 2**20 / max(ms for *_, ms in layers) * 1e3


def measure(engine: Path, threads: int, turns: int = TURNS) -> list[Group]:
    """Return the groups of an int8, bf16 or f32 engine, whose .onnx lies beside it."""
    model = ov.Core().read_model(engine)
    metadata = Metadata.from_json(str(model.get_rt_info(["framework", "edgetalk"]).astype(str)), engine.name)
    counts: dict[str, int] = {}
    nodes = multiply_adds(onnx.load(engine.with_suffix(".onnx")))
    for name, count in nodes.items():
        group = group_of(name)
        if group is None:
            raise ValueError(f"{name} belongs to no group")
        counts[group] = counts.get(group, 0) + count
    groups = {name: Group(name, {}) for name in GROUPS}
    precise: dict[str, dict[str, float]] = {}  # group to ms of its convolutions by precision
    current = next(iter(groups))
    for name, kind, implementation, ms in _times(model, metadata.precision, threads, turns):
        current = group_of(name) or current  # what OpenVINO has named itself follows what it belongs to
        precision = implementation.rsplit("_", 1)[-1].lower().replace("i8", "int8")
        if macs := counted(name, nodes):
            groups[current].layers.append(Layer(name.removesuffix("/WithoutBiases"), precision, macs, ms))
        if kind in PRODUCTS:
            precise.setdefault(current, {}).setdefault(precision, 0.0)
            precise[current][precision] += ms
            groups[current].convolutions += ms
        else:
            groups[current].others += ms
    for name, count in counts.items():
        # All of a group is counted in the precision that most of its time is spent in.
        groups[name].macs = {max(precise[name], key=lambda p: precise[name][p]): count}
    return list(groups.values())


def floors(groups: list[Group], peaks: dict[str, float]) -> dict[str, float]:
    """Return how many times their floors all layers, and the residual convolutions, take."""
    taken = sum(group.convolutions + group.others for group in groups)
    [residual] = (group for group in groups if group.name.startswith("residual"))
    return {
        "floor": taken / sum(group.floor(peaks) for group in groups),
        "residual": residual.convolutions / residual.floor(peaks),
    }


def markdown(groups: list[Group], peaks: dict[str, float], bytes_per_second: dict[str, float], date: str) -> str:
    """Return the table."""
    told = ", ".join(f"{p} {2e-12 * rate:.2f}" for p, rate in peaks.items())
    moved = ", ".join(f"{1e-9 * rate:.0f} GB/s {where}" for where, rate in bytes_per_second.items())
    lines = [
        f"{processor()}, {date}. Peaks, in 10¹² operations a second (two per multiply-add): {told}. "
        f"Bandwidth: {moved}.",
        "",
        "| layers | multiply-adds, M | precision | floor, ms | convolutions, ms | ratio | all else, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    whole = Group("**whole step**", {})
    for group in groups:
        floor, count, precision = group.floor(peaks), sum(group.macs.values()), ", ".join(group.macs)
        for key, value in group.macs.items():
            whole.macs[key] = whole.macs.get(key, 0) + value
        whole.convolutions, whole.others = whole.convolutions + group.convolutions, whole.others + group.others
        ratio = f"{group.convolutions / floor:.2f}" if floor else "–"
        lines.append(
            f"| {group.name} | {count / 1e6:.0f} | {precision or '–'} | {floor:.2f} | {group.convolutions:.2f} "
            f"| {ratio} | {group.others:.2f} |"
        )
    floor, total = whole.floor(peaks), whole.convolutions + whole.others
    lines.append(
        f"| {whole.name} | {sum(whole.macs.values()) / 1e6:.0f} | {', '.join(whole.macs)} | {floor:.2f} "
        f"| {whole.convolutions:.2f} | {whole.convolutions / floor:.2f} | {whole.others:.2f} |"
    )
    lines += ["", f"Layers together {total:.2f} ms: **{total / floor:.2f} × the floor of {floor:.2f} ms**.", ""]
    return "\n".join([*lines, *by_layer(groups, peaks)]) + "\n"


def by_layer(groups: list[Group], peaks: dict[str, float]) -> list[str]:
    """Return the lines of a table that unfolds: every layer that has multiply-adds in the f32 graph."""
    lines = [
        "<details><summary>Layer by layer</summary>",
        "",
        "| layer | multiply-adds, M | precision | floor, ms | measured, ms | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for group in groups:
        lines += [f"| **{group.name}** | | | | | |"] if group.layers else []
        for layer in group.layers:
            floor = layer.floor(peaks)
            lines.append(
                f"| `{layer.name}` | {layer.macs / 1e6:.2f} | {layer.precision} | {floor:.3f} | {layer.ms:.3f} "
                f"| {layer.ms / floor:.2f} |"
            )
    return [*lines, "", "</details>"]


def plot(groups: list[Group], peaks: dict[str, float], path: Path) -> None:
    """Draw floor, convolutions and all else of each group as bars."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "roofline"  # the same bytes for the same figures
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    places = np.arange(len(groups))[::-1]
    axes.barh(places + 0.2, [g.convolutions for g in groups], 0.38, label="convolutions and products")
    axes.barh(places + 0.2, [g.others for g in groups], 0.38, [g.convolutions for g in groups], label="all else")
    axes.barh(places - 0.2, [g.floor(peaks) for g in groups], 0.38, color="grey", label="floor")
    axes.set_yticks(places, [g.name for g in groups])
    axes.set_xlabel("milliseconds per step")
    axes.legend()
    with replacing(path) as part:
        figure.savefig(part, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = program.parser("bench.roofline", __doc__)
    parser.add_argument("--engine", type=Path, default=MODELS / "amnet.xml", help="default: the bundled one")
    parser.add_argument("--threads", type=int, default=cores(), help="default: every core")
    parser.add_argument("--turns", type=int, default=TURNS, help="turns of all contestants")
    parser.add_argument("--print", action="store_true", help="write nothing")
    parser.add_argument("--write", type=Path, default=PAGE, metavar="PAGE", help="page with the two marks")
    args = parser.parse_args(arguments)
    others = Others()
    moved = {"in cache (4 MiB)": bandwidth(args.threads, 4), "in memory (128 MiB)": bandwidth(args.threads, 128)}
    rounds = []
    for _ in range(ROUNDS):
        peaks = {precision: peak(precision, args.threads, min(args.turns, 10)) for precision in PRECISIONS}
        rounds.append((measure(args.engine, args.threads, args.turns), peaks))
    rounds.sort(key=lambda each: floors(*each)["floor"])
    groups, peaks = rounds[len(rounds) // 2]
    share = others.share()
    text = markdown(groups, peaks, moved, time.strftime("%Y-%m-%d"))
    if share > IDLE:
        text += f"\n**Other programs took {share:.0%} of the processor meanwhile: do not quote these times.**\n"
    print(text)
    if not args.print:
        picture = args.write.with_name("roofline.svg")
        plot(groups, peaks, picture)
        text += f"\n![floor and measured milliseconds per layer group]({picture.name})\n"
        put(text, "bench.roofline", args.write)
    return {"groups": groups, "peaks": peaks}


if __name__ == "__main__":
    program.run(main)
