"""Exact rewrites of an f32 graph into one that OpenVINO's CPU kernels run faster; they are not for other engines.

`sub_pixel` and `phase_grid` keep the last stage on the small grid (phases.py). `centre` takes an instance norm apart
where a depthwise convolution and another norm follow. `early_cast` makes pixels before they are moved.
`channels_last` keeps the layout of the features that a graph is fed with. `late_bias` adds the bias of an output
where nothing is in 16 bits any more. `merge_predictors` makes all predicted weights at once. Each leaves a graph of
the same inputs and outputs, equal up to the order of its sums; where its pattern is not found it changes nothing.
They write operators as OPSETS have them; `rewritten` leaves other graphs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper

from .graph import Graph, attributes, is_bare, opset
from .phases import phase_grid, sub_pixel


def centre(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the norm between a 1×1 and a depthwise convolution that has a norm behind it, and centre what goes in.

    Of a linear layer that looks at each pixel alone, the mean over pixels is what it makes of the mean: taken from
    its input, that is one small tensor less to know. The scale passes through ReLU and through a convolution of each
    channel alone up to the second norm, which takes it out. Then the first convolution can end in ReLU and rounding
    to 8 bits, where it had to be written whole, read for its statistics and read again. Equal but for epsilon, which
    weighs as variance before and behind the second norm differ; so that it weighs little where weights are small, the
    weights of each channel are brought to length 1, which the second norm takes out as well.
    """
    graph = Graph(model)
    for norm in [n for n in graph.nodes if n.op_type == "InstanceNormalization"]:
        conv = next((n for n in graph.nodes if norm.input[0] in n.output), None)
        relu = graph.only_reader(norm.output[0])
        deep = graph.only_reader(relu.output[0]) if relu is not None else None
        after = graph.only_reader(deep.output[0]) if deep is not None else None
        if (
            conv is None
            or graph.only_reader(conv.output[0]) is not norm
            or relu is None
            or deep is None
            or after is None
            or [conv.op_type, relu.op_type, deep.op_type, after.op_type]
            != ["Conv", "Relu", "Conv", "InstanceNormalization"]
            or not _is_plain(graph, conv)
            or not (is_bare(graph, norm) and is_bare(graph, after))
            or len(deep.input) > 2
            or deep.input[1] not in graph.constants
            or attributes(deep).get("group", 1) != len(graph.constants[conv.input[1]])
            or len(graph.constants[deep.input[1]]) != len(graph.constants[conv.input[1]])
        ):
            continue
        name = conv.input[0]
        mean, centred = f"{conv.output[0]}/mean", f"{conv.output[0]}/centred"
        weight = graph.constants[conv.input[1]]
        length = np.sqrt(np.square(weight, dtype=np.float64).sum(axis=(1, 2, 3), keepdims=True))
        even = graph.constant(f"{conv.input[1]}/even", (weight / np.where(length > 0, length, 1)).astype(np.float32))
        bare = helper.make_node("Conv", [centred, even], conv.output, conv.name)
        bare.attribute.extend(conv.attribute)
        graph.replace(
            conv,
            [
                helper.make_node("ReduceMean", [name], [mean], f"{conv.name}/Mean", axes=[2, 3]),
                helper.make_node("Sub", [name, mean], [centred], f"{conv.name}/Centred"),
                bare,
            ],
        )
        graph.replace(relu, [helper.make_node("Relu", conv.output, relu.output, relu.name)])
        graph.nodes = [node for node in graph.nodes if node is not norm]
    return graph.finish()


def _is_plain(graph: Graph, conv: onnx.NodeProto) -> bool:
    """Whether the convolution looks at each pixel alone; a bias it may have, which goes with the mean."""
    attrs, weight = attributes(conv), graph.constants.get(conv.input[1])
    return (
        weight is not None
        and weight.shape[2:] == (1, 1)
        and attrs.get("strides", [1, 1]) == [1, 1]
        and attrs.get("pads", [0] * 4) == [0] * 4
    )


def early_cast(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move the Cast to uint8 that makes an output before what only moves values, which are a quarter as large then."""
    graph = Graph(model)
    outputs = {output.name for output in graph.model.graph.output}
    for cast in [n for n in graph.nodes if n.op_type == "Cast" and n.output[0] in outputs]:
        movers: list[onnx.NodeProto] = []
        name = cast.input[0]
        while (made := next((n for n in graph.nodes if name in n.output), None)) is not None:
            if made.op_type not in ("DepthToSpace", "Slice", "Transpose") or graph.only_reader(name) is None:
                break
            movers.insert(0, made)
            name = made.input[0]
        if not movers or attributes(cast)["to"] != onnx.TensorProto.UINT8:
            continue
        graph.nodes = [node for node in graph.nodes if node is not cast]
        small = helper.make_node("Cast", [name], [graph.fresh(f"{name}/small")], cast.name, to=onnx.TensorProto.UINT8)
        at = next(i for i, node in enumerate(graph.nodes) if node is movers[0])
        graph.nodes.insert(at, small)
        now = small.output[0]
        for mover in movers:
            out = cast.output[0] if mover is movers[-1] else graph.fresh(f"{mover.output[0]}/small")
            moved = helper.make_node(mover.op_type, [now, *mover.input[1:]], [out], mover.name)
            moved.attribute.extend(mover.attribute)
            graph.replace(mover, [moved])
            now = out
    return graph.finish()


def channels_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """Keep features that come in with their channels last in that layout: Transpose becomes Transpose and Conv.

    The convolution is a depthwise one by 1. OpenVINO lays pointwise operations out as their input is, which
    behind a Transpose is channels first, and turns each round for the next convolution; behind a convolution all
    stays channels last, and the Transpose vanishes.
    """
    graph = Graph(model)
    fed = {i.name: i.type.tensor_type for i in graph.model.graph.input}
    for node in [n for n in graph.nodes if n.op_type == "Transpose" and n.input[0] in fed]:
        name = node.input[0]
        if attributes(node).get("perm") != [0, 3, 1, 2] or fed[name].elem_type != onnx.TensorProto.FLOAT:
            continue
        channels = fed[name].shape.dim[3].dim_value
        if not channels:  # of any number
            continue
        ones = graph.constant(f"{name}/ones", np.ones((channels, 1, 1, 1), np.float32))
        turned, same = (graph.fresh(f"{name}/{what}") for what in ("channels_first", "Identity"))
        graph.replace(
            node,
            [
                helper.make_node("Transpose", [name], [turned], node.name, perm=[0, 3, 1, 2]),
                helper.make_node("Conv", [turned, ones], [node.output[0]], same, group=channels, kernel_shape=[1, 1]),
            ],
        )
    return graph.finish()


def late_bias(model: onnx.ModelProto) -> onnx.ModelProto:
    """Add the bias of each output that is Reshape(Gemm(x)) behind the Reshape.

    In 16 bits a Gemm rounds its result with the bias in it, to half a pixel where the outputs are landmarks. What
    follows the last product of a graph OpenVINO computes in 32 bits.
    """
    graph = Graph(model)
    made_by = {node.output[0]: node for node in graph.nodes}
    for output in graph.model.graph.output:
        reshape = made_by.get(output.name)
        gemm = made_by.get(reshape.input[0]) if reshape is not None and reshape.op_type == "Reshape" else None
        shape = [d.dim_value for d in output.type.tensor_type.shape.dim][1:]
        if (
            reshape is None
            or gemm is None
            or gemm.op_type != "Gemm"
            or len(gemm.input) < 3
            or attributes(gemm).get("beta", 1.0) != 1.0
        ):
            continue
        bias = graph.constants.get(gemm.input[2])
        if bias is None or bias.size != np.prod(shape) or graph.only_reader(gemm.output[0]) is not reshape:
            continue
        late = graph.constant(f"{gemm.input[2]}/late", bias.reshape(1, *shape))
        product, plain = helper.make_node("Gemm", gemm.input[:2], gemm.output, gemm.name), f"{output.name}/plain"
        product.attribute.extend(gemm.attribute)
        graph.replace(gemm, [product])
        graph.replace(
            reshape,
            [
                helper.make_node("Reshape", reshape.input, [plain], reshape.name),
                helper.make_node("Add", [plain, late], [output.name], f"{output.name}/Bias"),
            ],
        )
    return graph.finish()


class Predictor(NamedTuple):
    """Two layers with a ReLU between."""

    first: onnx.NodeProto
    relu: onnx.NodeProto
    second: onnx.NodeProto


def merge_predictors(model: onnx.ModelProto) -> onnx.ModelProto:
    """Compute all Gemm → Relu → Gemm that read one tensor at once: a Gemm for all the first layers, and a grouped
    1×1 convolution for all the second ones.

    Two of them make the scale and the shift of each Geometric Controller. Each alone is too small to be worth
    waking a thread for.
    """
    graph = Graph(model)
    found: dict[tuple[str, int], list[Predictor]] = {}
    for node in graph.nodes:
        relu = graph.only_reader(node.output[0]) if _is_linear(graph, node) else None
        second = graph.only_reader(relu.output[0]) if relu is not None and relu.op_type == "Relu" else None
        if relu is not None and second is not None and _is_linear(graph, second):
            width = len(graph.constants[node.input[1]])
            found.setdefault((node.input[0], width), []).append(Predictor(node, relu, second))
    for (name, width), group in found.items():
        if len(group) > 1:
            _merge(graph, graph.fresh(f"{name}/predictors"), name, width, group)
    return graph.finish()


def _is_linear(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether the node is x W^T + b with constant W and b, of a number for each row of W."""
    attrs = attributes(node)
    return (
        node.op_type == "Gemm"
        and len(node.input) == 3
        and all(name in graph.constants for name in node.input[1:])
        and graph.constants[node.input[2]].shape == graph.constants[node.input[1]].shape[:1]
        and [attrs.get(key, usual) for key, usual in (("alpha", 1.0), ("beta", 1.0), ("transA", 0), ("transB", 0))]
        == [1.0, 1.0, 0, 1]
    )


def _merge(graph: Graph, stem: str, name: str, width: int, group: Sequence[Predictor]) -> None:
    sizes = [len(graph.constants[p.second.input[1]]) for p in group]
    widest = max(sizes)

    def stacked(layer: int, part: int, rows: int) -> np.ndarray:
        """The weights (part 1) or biases (part 2) of all, each brought to `rows` by zeros."""
        values = [graph.constants[p[layer].input[part]] for p in group]
        return np.concatenate([np.pad(v, [(0, rows - len(v))] + [(0, 0)] * (v.ndim - 1)) for v in values])

    def constant(suffix: str, value: np.ndarray) -> str:
        return graph.constant(f"{stem}/{suffix}", value)

    make, outputs = helper.make_node, []
    for size, predictor in zip(sizes, group, strict=True):
        outputs += [predictor.second.output[0]] + ([f"{predictor.second.output[0]}/zeros"] if size < widest else [])
    pieces = [piece for size in sizes for piece in ((size, widest - size) if size < widest else (size,))]
    first = [constant("first", stacked(0, 1, width)), constant("first_bias", stacked(0, 2, width))]
    kernel = stacked(2, 1, widest)[:, :, None, None]
    second = [constant("second", kernel), constant("second_bias", stacked(2, 2, widest))]
    column = constant("column", np.array([-1, width * len(group), 1, 1]))
    row = constant("row", np.array([-1, widest * len(group)]))
    nodes = [
        make("Gemm", [name, *first], [f"{stem}/sum"], f"{stem}/First", transB=1),
        make("Relu", [f"{stem}/sum"], [f"{stem}/hidden"], f"{stem}/Relu"),
        make("Reshape", [f"{stem}/hidden", column], [f"{stem}/tall"], f"{stem}/Column"),
        make(
            "Conv", [f"{stem}/tall", *second], [f"{stem}/all"], f"{stem}/Second", kernel_shape=[1, 1], group=len(group)
        ),
        make("Reshape", [f"{stem}/all", row], [f"{stem}/flat"], f"{stem}/Row"),
        make("Split", [f"{stem}/flat", constant("sizes", np.array(pieces))], outputs, f"{stem}/Split", axis=1),
    ]
    graph.replace(group[0].first, nodes)
    gone = [node for predictor in group for node in predictor]
    graph.nodes = [node for node in graph.nodes if not any(node is other for other in gone)]


Rewrite = Callable[[onnx.ModelProto], onnx.ModelProto]

OPSETS = range(13, 18)
"""Split and Unsqueeze take sizes and axes as inputs from the first on, ReduceMean as an attribute up to the last."""
BEFORE: tuple[Rewrite, ...] = (sub_pixel, phase_grid, centre)
"""What is done before a graph is quantised, in this order."""
AFTER: tuple[Rewrite, ...] = (channels_last, late_bias, merge_predictors, early_cast)
"""What is done after that."""


def rewritten(model: onnx.ModelProto, rewrites: Sequence[Rewrite], without: Collection[str] = ()) -> onnx.ModelProto:
    """Return the graph after each of `rewrites` but those whose names are in `without`: to see what one is worth.

    A graph of another opset than OPSETS is returned as it is.
    """
    for rewrite in rewrites:
        if rewrite.__name__ not in without and opset(model) in OPSETS:
            model = rewrite(model)
    return model
