"""Precision as a property of the ONNX file: an f32 graph in, an fp16 or an int8 graph out.

int8 is written as symmetric signed Q/DQ, the one form that OpenVINO, TensorRT and ONNX Runtime all take: int8
weights with a scale per output channel, one scale per activation, every zero point zero, biases left in float.
Weights are rounded in rounding.py. What is never negative may be quantised without a sign, which gains a bit; TensorRT
does not take that. Only Conv and ConvTranspose of pictures with constant weights are quantised; a predicted
convolution stays in float.
Names, inputs, outputs and metadata of the graph stay as they were.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter

from edgetalk.errors import InputError

from .balance import balance
from .graph import opset
from .onnx_file import Feeds, Progress, Runner, with_outputs
from .rounding import held, nearest, rounded, steps

PER_CHANNEL = 13
"""The opset since which DequantizeLinear has an axis."""
BINS = 2048
ERROR = 1.75
"""Squares give the range to rare large values, whose errors hide in edges, and a coarse step to all small ones, which
shows: of the bundled model SSIM was 0.980 with 2, 0.982 with 1.75 and 0.983 with 1.5, PSNR 41, 41 and 37 dB. What is
clipped can be seen in one place, a dark corner of dan's picture. Of the layers that draw alone 2 and 2.5 take the error
there from 32 to 17 and 13 of 255, and SSIM from 0.9845 to 0.9817 and 0.9781 (weights rounded one by one)."""


class Scale(NamedTuple):
    """How an activation is quantised; its zero point is zero."""

    step: float
    dtype: type[np.signedinteger] | type[np.unsignedinteger] = np.int8

    def applied(self, values: np.ndarray) -> np.ndarray:
        """Return what is left of an activation, float32."""
        limits = np.iinfo(self.dtype)
        return np.clip(np.round(values / np.float32(self.step)), limits.min, limits.max) * np.float32(self.step)


def layers(model: onnx.ModelProto) -> list[str]:
    """Return the names of the layers that `to_int8` quantises, in graph order."""
    weights = {w.name for w in model.graph.initializer if len(w.dims) == 4}  # of pictures, not of sequences
    return [n.name for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose") and n.input[1] in weights]


def upsampling(model: onnx.ModelProto) -> list[str]:
    """Return the names of those of `layers` that TensorRT is not to get in int8.

    Its int8 kernels take the scales of a ConvTranspose for those of its input channels (NVIDIA/TensorRT issue 2380, and
    wrong results in 1694 and 1699). Ours are of its output channels, and the gate does not run a plan.
    """
    there = set(layers(model))
    return [n.name for n in model.graph.node if n.op_type == "ConvTranspose" and n.name in there]


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph in fp16, its inputs and outputs unchanged in dtype."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    half = convert_float_to_float16(copy, keep_io_types=True, op_block_list=[])
    _drop_repeats(half.graph)  # it casts a constant again for each of its readers, under one name
    _sort(half.graph)  # it puts the casts of the inputs last
    onnx.checker.check_model(half, full_check=True)
    return half


def overflow(model: onnx.ModelProto, samples: Sequence[Feeds]) -> str:
    """Return the first layer of the graph that makes more of a sample than fp16 holds, "" where none does.

    What runs the graph may compute in f32, where nothing would show it.
    """
    made = {name: node.name or node.op_type for node in model.graph.node for name in node.output if name}
    run = Runner(with_outputs(model, made))
    for feeds in samples:
        values = run(feeds)
        for name, layer in made.items():
            value = values[name]
            if value.dtype.kind == "f" and value.size and not np.abs(value).max() <= np.finfo(np.float16).max:
                return layer
    return ""


def _drop_repeats(graph: onnx.GraphProto) -> None:
    """Keep the first of the nodes that make the same tensor."""
    kept = {node.output[0]: onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(graph.node)}
    graph.ClearField("node")
    graph.node.extend(reversed(kept.values()))


def _sort(graph: onnx.GraphProto) -> None:
    """Put each node behind those that make its inputs, and otherwise leave the order."""
    known = {"", *(i.name for i in graph.input), *(w.name for w in graph.initializer)}
    left, ordered = list(graph.node), []
    while left:
        waiting = []
        for node in left:
            if known.issuperset(node.input):
                ordered.append(onnx.NodeProto.FromString(node.SerializeToString()))
                known.update(node.output)
            else:
                waiting.append(node)
        left = waiting
    graph.ClearField("node")
    graph.node.extend(ordered)


def to_int8(
    model: onnx.ModelProto,
    samples: Sequence[Feeds],
    keep: Collection[str] = (),
    rest: str = "f32",
    unsigned: bool = False,
    progress: Progress | None = None,
) -> onnx.ModelProto:
    """Return the graph with all `layers` but those that `keep` names quantised to int8 as Q/DQ.

    A name in `keep` is that of one layer, or what the names of several begin with.
    `rest` is the precision of all else: "fp16" for engines that take it as it is written, "f32" for those that
    choose it themselves. The activations' scales are calibrated on `samples`, feeds of the graph's inputs;
    `unsigned` gives those that are never negative 255 steps instead of 127, for OpenVINO alone.
    Raises InputError where there are no samples, or where one of `keep` begins no layer's name.
    """
    there = layers(model)
    for name in keep:
        if not any(layer.startswith(name) for layer in there):
            raise InputError(f"keep: no layer of the graph begins with {name!r}; it has {', '.join(there)}")
    chosen = [layer for layer in there if layer not in keep and not layer.startswith(tuple(set(keep) - set(there)))]
    if not len(samples):
        raise InputError("calibration: got no sample, expected at least one")
    model = balance(model, samples, chosen)
    scale = scales(model, samples, unsigned)
    whole = rounded(model, samples, chosen, scale, progress, np.float16 if rest == "fp16" else np.float32)
    if rest == "fp16":  # Q/DQ of 16-bit values came with opset 19
        model = version_converter.convert_version(to_fp16(model), 19)
    return quantize(model, scale, chosen, whole)


def scales(model: onnx.ModelProto, samples: Sequence[Feeds], unsigned: bool = False) -> dict[str, Scale]:
    """Return the scale of each activation that feeds one of `layers`, by the name of its tensor.

    A scale is the one of least rounding and clipping error on a histogram of what the f32 graph does with the
    samples; exact zeros, which cost nothing at any scale, are not counted. An error counts by its power ERROR.
    """
    wanted = set(layers(model))
    names = list(dict.fromkeys(n.input[0] for n in model.graph.node if n.name in wanted))
    run = Runner(with_outputs(model, names))
    lows, highs = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for feeds in samples:
        values = feeds | run(feeds)  # a layer may read an input of the graph
        for name in names:
            lows[name] = min(lows[name], float(values[name].min()))
            highs[name] = max(highs[name], float(values[name].max()))
    peaks = {name: max(-lows[name], highs[name]) or 1.0 for name in names}
    counts = {name: np.zeros(BINS) for name in names}
    for feeds in samples:
        values = feeds | run(feeds)
        for name in names:
            seen = np.abs(values[name][values[name] != 0])
            counts[name] += np.histogram(seen, BINS, (0.0, peaks[name]))[0]
    return {
        name: _best_scale(counts[name], peaks[name], np.uint8 if unsigned and lows[name] >= 0 else np.int8)
        for name in names
    }


def _best_scale(counts: np.ndarray, peak: float, dtype: type[np.signedinteger] | type[np.unsignedinteger]) -> Scale:
    last = np.iinfo(dtype).max
    values = (np.arange(BINS) + 0.5) * peak / BINS
    candidates = np.linspace(0.05, 1.0, 96) * peak / last
    errors = [
        counts @ np.abs(values - np.minimum(np.round(values / step), last) * step) ** ERROR for step in candidates
    ]
    return Scale(float(np.float32(candidates[int(np.argmin(errors))])), dtype)


def quantize(
    model: onnx.ModelProto, scale: dict[str, Scale], names: Collection[str], whole: Mapping[str, np.ndarray] = {}
) -> onnx.ModelProto:
    """Return the graph with Q/DQ around the layers `names`, activations scaled by `scale` (from `scales`).

    Of weights that `whole` names it has the int8 values (from `rounded`), of others each is rounded by itself.
    """
    result = _with_axes(model)
    graph = result.graph
    weights = {w.name: w for w in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()  # tensors that have their Q/DQ already
    constants: dict[str, onnx.TensorProto] = {}

    def constant(name: str, value: np.ndarray) -> str:
        constants[name] = numpy_helper.from_array(value, name)
        return name

    for node in graph.node:
        if node.name in names:
            data, weight = node.input[0], node.input[1]
            dtype = helper.tensor_dtype_to_np_dtype(weights[weight].data_type)
            if data not in done:
                done.add(data)
                step, kind = scale[data]
                pair = [
                    constant(f"{data}/scale", held(np.array(step), dtype)),
                    constant(f"{data}/zero", np.array(0, kind)),
                ]
                nodes.append(helper.make_node("QuantizeLinear", [data, *pair], [f"{data}/q"], f"{data}/Quantize"))
                nodes.append(
                    helper.make_node("DequantizeLinear", [f"{data}/q", *pair], [f"{data}/dq"], f"{data}/Dequantize")
                )
            if weight not in done:
                done.add(weight)
                axis = _output_axis(node)
                values = numpy_helper.to_array(weights[weight])
                per_channel = steps(values, axis)
                parts = [
                    constant(f"{weight}/q", whole.get(weight, nearest(values, per_channel))),
                    constant(f"{weight}/scale", per_channel.ravel()),
                    constant(f"{weight}/zero", np.zeros(per_channel.size, np.int8)),
                ]
                nodes.append(
                    helper.make_node("DequantizeLinear", parts, [f"{weight}/dq"], f"{weight}/Dequantize", axis=axis)
                )
            node.input[0], node.input[1] = f"{data}/dq", f"{weight}/dq"
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [w for w in graph.initializer if w.name in used]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *constants.values()])
    graph.ClearField("node")
    graph.node.extend(nodes)
    onnx.checker.check_model(result)
    return result


def _with_axes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of the graph in an opset whose DequantizeLinear has a scale for each channel."""
    if opset(model) < PER_CHANNEL:
        return version_converter.convert_version(model, PER_CHANNEL)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _output_axis(node: onnx.NodeProto) -> int:
    return 1 if node.op_type == "ConvTranspose" else 0
