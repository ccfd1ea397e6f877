"""Exact rewrites of an f32 graph into one that OpenVINO's CPU kernels run faster; they are not for other engines.

`sub_pixel` writes a transposed convolution that doubles the size as a convolution on the small grid that makes the
four phases of each pixel as channels, and a shuffle. `phase_grid` then moves that shuffle behind everything that
follows, so that a convolution to few channels, which would waste most of a vector, becomes one to four times as
many. `centre` takes an instance norm apart where a depthwise convolution and another norm follow. `early_cast` makes
pixels before they are moved. `channels_last` keeps the layout of the features that a graph is fed with.
`late_bias` adds the bias of an output where nothing is in 16 bits any more. `merge_predictors` makes all predicted
weights at once. Each leaves a graph of the same inputs and outputs, equal up to the order of its sums; where its
pattern is not found it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

SPREAD = {0: ((0, 1),), 1: ((0, 2), (1, 0))}
"""Of a transposed 3-tap kernel with stride 2: output phase to its (offset on the small grid, tap) pairs."""
WIDE = 64  # channels; at 104 the transposed convolution was the faster one, at 24 the other
FOLLOWERS = {"Relu", "Tanh", "Add", "Mul", "Sub", "Div", "Clip", "Round"}
"""Operations that act on each value alone, behind which a shuffle may move."""

MARGIN = {"first": (1, 1), "end": (-1, -1), "axes": (2, 3)}
"""What a Slice takes that leaves the outermost pixels away."""


class Graph:
    """A graph being rewritten, with its constants and who reads what."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.nodes: list[onnx.NodeProto] = list(self.model.graph.node)
        self.constants = {w.name: numpy_helper.to_array(w) for w in self.model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)

    def readers(self, name: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if name in node.input]

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads `name`, None where there are several or it is an output of the graph."""
        readers = self.readers(name)
        outputs = {output.name for output in self.model.graph.output}
        return readers[0] if len(readers) == 1 and name not in outputs else None

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = value
        self.model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def replace(self, old: onnx.NodeProto, new: Sequence[onnx.NodeProto]) -> None:
        at = next(i for i, node in enumerate(self.nodes) if node is old)
        self.nodes[at : at + 1] = new

    def finish(self) -> onnx.ModelProto:
        used = {name for node in self.nodes for name in node.input} | {o.name for o in self.model.graph.output}
        kept = [w for w in self.model.graph.initializer if w.name in used]
        del self.model.graph.initializer[:], self.model.graph.value_info[:]
        self.model.graph.initializer.extend(kept)
        self.model.graph.ClearField("node")
        self.model.graph.node.extend(self.nodes)
        onnx.checker.check_model(self.model, full_check=True)
        return self.model


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def sub_pixel(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write each 3×3 ConvTranspose of stride 2, padding 1, output padding 1 as Conv 2×2 and DepthToSpace.

    Channel (2 a + b) C + c of the convolution is channel c of output pixels (2 i + a, 2 j + b). 7 of its 16 taps are
    zero, which pays where few channels come out, WIDE at the most: more of them fill an engine's vectors without it.
    """
    graph = Graph(model)
    for node in list(graph.nodes):
        told = attributes(node)
        if node.op_type != "ConvTranspose" or any(name not in graph.constants for name in node.input[1:]):
            continue
        wanted = {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1], "kernel_shape": [3, 3], "group": 1}
        if {k: told.get(k, 1) for k in wanted} != wanted or told.get("dilations", [1, 1]) != [1, 1]:
            continue
        weight = graph.constants[node.input[1]]  # (C_in, C_out, 3, 3)
        inputs, outputs = weight.shape[:2]
        if outputs > WIDE:
            continue
        kernel = np.zeros((2, 2, outputs, inputs, 2, 2), np.float32)
        for a, rows in SPREAD.items():
            for b, columns in SPREAD.items():
                for i, row in rows:
                    for j, column in columns:
                        kernel[a, b, :, :, i, j] = weight[:, :, row, column].T
        names = [graph.constant(f"{node.input[1]}/phases", kernel.reshape(4 * outputs, inputs, 2, 2))]
        if len(node.input) > 2:
            names.append(graph.constant(f"{node.input[2]}/phases", np.tile(graph.constants[node.input[2]], 4)))
        phases = f"{node.output[0]}/phases"
        graph.replace(
            node,
            [
                helper.make_node(
                    "Conv", [node.input[0], *names], [phases], node.name, kernel_shape=[2, 2], pads=[0, 0, 1, 1]
                ),
                helper.make_node(
                    "DepthToSpace", [phases], [node.output[0]], f"{node.name}/Shuffle", blocksize=2, mode="DCR"
                ),
            ],
        )
    return graph.finish()


def phase_grid(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move each shuffle of `sub_pixel` behind the normalisation, convolution and pointwise operations after it.

    Only where it ends in a convolution to fewer channels: on the way to a wide one the small grid costs more
    than the shuffle.
    """
    graph = Graph(model)
    for shuffle in [n for n in graph.nodes if n.op_type == "DepthToSpace"]:
        chain = _chain(graph, shuffle)
        narrow = [n for n in chain if n.op_type == "Conv"]
        if len(narrow) != 1 or not _narrows(graph, narrow[0]):
            continue
        # The two phases of a cell look at k + 1 pixels in a row. For 7 these are four cells if the left phase is the
        # second of its pair and five if it is the first; the pixels too many then are cut off, if no norm sees them.
        reach = graph.constants[narrow[0].input[1]].shape[-1] // 2
        shift = reach % 2 if all(n.op_type != "InstanceNormalization" for n in chain[chain.index(narrow[0]) :]) else 0
        graph.nodes = [node for node in graph.nodes if node is not shuffle]
        name = shuffle.input[0]
        for node in chain:
            out = f"{node.output[0]}/phases"
            if node.op_type == "InstanceNormalization":
                graph.replace(node, _phase_norm(graph, node, name, out))
            elif node.op_type == "Conv":
                graph.replace(node, [_phase_conv(graph, node, name, out, shift)])
            else:
                copy = helper.make_node(node.op_type, node.input, [out], node.name)
                copy.attribute.extend(node.attribute)
                copy.input[list(copy.input).index(_data(graph, node))] = name
                graph.replace(node, [copy])
            name = out
        at = next(i for i, node in enumerate(graph.nodes) if name in node.output) + 1
        pixels = chain[-1].output[0]
        shuffled = f"{pixels}/margin" if shift else pixels
        moves = [helper.make_node("DepthToSpace", [name], [shuffled], shuffle.name, blocksize=2, mode="DCR")]
        if shift:
            bounds = [graph.constant(f"{pixels}/{part}", np.array(v)) for part, v in MARGIN.items()]
            moves.append(helper.make_node("Slice", [shuffled, *bounds], [pixels], f"{shuffle.name}/Crop"))
        graph.nodes[at:at] = moves
    return graph.finish()


def _data(graph: Graph, node: onnx.NodeProto) -> str:
    return next(name for name in node.input if name not in graph.constants)


def _chain(graph: Graph, shuffle: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes behind the shuffle that it may be moved behind."""
    chain, name = [], shuffle.output[0]
    while (node := graph.only_reader(name)) is not None:
        others = [graph.constants.get(other) for other in node.input if other not in (name, "")]
        scalar = all(other is not None and other.size == 1 for other in others)
        norm = node.op_type == "InstanceNormalization" and is_bare(graph, node)
        conv = node.op_type == "Conv" and others[0] is not None and _same_size(node, others[0])
        if not (norm or conv or (node.op_type in FOLLOWERS and scalar)):
            break
        chain.append(node)
        name = node.output[0]
    return chain


def _same_size(node: onnx.NodeProto, weight: np.ndarray) -> bool:
    told, k = attributes(node), weight.shape[-1]
    return (
        told.get("group", 1) == 1
        and weight.shape[2:] == (k, k)
        and k % 2 == 1
        and told.get("strides", [1, 1]) == [1, 1]
        and told.get("dilations", [1, 1]) == [1, 1]
        and told.get("pads", [0] * 4) == [k // 2] * 4
    )


def _narrows(graph: Graph, node: onnx.NodeProto) -> bool:
    return graph.constants[node.input[1]].shape[0] < graph.constants[node.input[1]].shape[1]


def _phase_conv(graph: Graph, node: onnx.NodeProto, name: str, out: str, shift: int) -> onnx.NodeProto:
    """A k×k convolution of pixels as one of phases: what reads pixel 2 j + d reads phase d mod 2, d div 2 away.

    With `shift` 1, cell j makes pixels 2 j - 1 and 2 j instead of 2 j and 2 j + 1, of which there is one cell more.
    """
    weight = graph.constants[node.input[1]]
    outputs, inputs, k, _ = weight.shape
    half = k // 2
    low, high = (half + shift + 1) // 2, (half + 1 - shift) // 2
    side = low + high + 1
    kernel = np.zeros((2, 2, outputs, 2, 2, inputs, side, side), np.float32)
    for a in (0, 1):
        for b in (0, 1):
            for i in range(k):
                for j in range(k):
                    (row, p), (column, q) = divmod(a + i - half - shift, 2), divmod(b + j - half - shift, 2)
                    kernel[a, b, :, p, q, :, row + low, column + low] = weight[:, :, i, j]
    names = [graph.constant(f"{node.input[1]}/phases", kernel.reshape(4 * outputs, 4 * inputs, side, side))]
    if len(node.input) > 2:
        names.append(graph.constant(f"{node.input[2]}/phases", np.tile(graph.constants[node.input[2]], 4)))
    pads = [low, low, high + shift, high + shift]
    return helper.make_node("Conv", [name, *names], [out], node.name, kernel_shape=[side, side], pads=pads)


def _phase_norm(graph: Graph, node: onnx.NodeProto, name: str, out: str) -> list[onnx.NodeProto]:
    """Instance normalisation whose statistics run over the four phases of a channel too."""
    epsilon = float(attributes(node).get("epsilon", 1e-5))
    channels = len(graph.constants[node.input[1]])
    mix = np.tile(np.eye(channels, dtype=np.float32) / 4, (4, 4))  # the mean over phases, for each phase

    def part(suffix: str) -> str:
        return f"{node.output[0]}/{suffix}"

    mixing, axes = graph.constant(part("mix"), mix), graph.constant(part("axes"), np.array([2, 3]))
    small = graph.constant(part("epsilon"), np.array(epsilon, np.float32))
    make = helper.make_node

    def mean_over_phases(values: str, result: str) -> list[onnx.NodeProto]:
        return [
            make("ReduceMean", [values], [part(f"{result}/phases")], part(f"{result}/Phases"), axes=[2, 3], keepdims=0),
            make("MatMul", [part(f"{result}/phases"), mixing], [part(f"{result}/flat")], part(f"{result}/Mix")),
            make("Unsqueeze", [part(f"{result}/flat"), axes], [part(result)], part(f"{result}/Unsqueeze")),
        ]

    # The variance is that of what the mean has been taken from: no difference of two large numbers in 16 bits.
    return [
        *mean_over_phases(name, "mean"),
        make("Sub", [name, part("mean")], [part("centred")], part("Centred")),
        make("Mul", [part("centred"), part("centred")], [part("squared")], part("Squared")),
        *mean_over_phases(part("squared"), "variance"),
        make("Add", [part("variance"), small], [part("safe")], part("Safe")),
        make("Sqrt", [part("safe")], [part("deviation")], part("Deviation")),
        make("Div", [part("centred"), part("deviation")], [out], part("Normal")),
    ]


def centre(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the norm between a 1×1 and a depthwise convolution that has a norm behind it, and centre what goes in.

    Of a linear layer that looks at each pixel alone, the mean over pixels is what it makes of the mean: taken from
    its input, that is one small tensor less to know. The scale passes through ReLU and through a convolution of each
    channel alone up to the second norm, which takes it out. Then the first convolution can end in ReLU and rounding
    to 8 bits, where it had to be written whole, read for its statistics and read again. Equal but for epsilon, which
    weighs as variance before and behind the second norm differ.
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
            or attributes(deep).get("group", 1) != len(graph.constants[conv.input[1]])
            or len(graph.constants[deep.input[1]]) != len(graph.constants[conv.input[1]])
        ):
            continue
        name = conv.input[0]
        mean, centred = f"{conv.output[0]}/mean", f"{conv.output[0]}/centred"
        bare = helper.make_node("Conv", [centred, conv.input[1]], conv.output, conv.name)
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
    told, weight = attributes(conv), graph.constants.get(conv.input[1])
    return (
        weight is not None
        and weight.shape[2:] == (1, 1)
        and told.get("strides", [1, 1]) == [1, 1]
        and told.get("pads", [0] * 4) == [0] * 4
    )


def is_bare(graph: Graph, norm: onnx.NodeProto) -> bool:
    """Whether an instance norm has scale 1 and shift 0."""
    found = [graph.constants.get(name) for name in norm.input[1:]]
    return all(values is not None and (values == x).all() for values, x in zip(found, (1, 0), strict=True))


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
        small = helper.make_node("Cast", [name], [f"{name}/small"], cast.name, to=onnx.TensorProto.UINT8)
        at = next(i for i, node in enumerate(graph.nodes) if node is movers[0])
        graph.nodes.insert(at, small)
        now = small.output[0]
        for mover in movers:
            out = cast.output[0] if mover is movers[-1] else f"{mover.output[0]}/small"
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
        if attributes(node)["perm"] != [0, 3, 1, 2] or fed[node.input[0]].elem_type != onnx.TensorProto.FLOAT:
            continue
        channels, name = fed[node.input[0]].shape.dim[3].dim_value, node.input[0]
        ones = graph.constant(f"{name}/ones", np.ones((channels, 1, 1, 1), np.float32))
        turned = f"{name}/channels_first"
        graph.replace(
            node,
            [
                helper.make_node("Transpose", [name], [turned], node.name, perm=[0, 3, 1, 2]),
                helper.make_node(
                    "Conv", [turned, ones], [node.output[0]], f"{name}/Identity", group=channels, kernel_shape=[1, 1]
                ),
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
            _merge(graph, f"{name}/predictors", name, width, group)
    return graph.finish()


def _is_linear(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether the node is x W^T + b with constant W and b."""
    told = attributes(node)
    return (
        node.op_type == "Gemm"
        and len(node.input) == 3
        and all(name in graph.constants for name in node.input[1:])
        and [told.get(key, usual) for key, usual in (("alpha", 1.0), ("beta", 1.0), ("transA", 0), ("transB", 0))]
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

BEFORE: tuple[Rewrite, ...] = (sub_pixel, phase_grid, centre)
"""What is done before a graph is quantised, in this order."""
AFTER: tuple[Rewrite, ...] = (channels_last, late_bias, merge_predictors, early_cast)
"""What is done after that."""


def rewritten(model: onnx.ModelProto, rewrites: Sequence[Rewrite], without: Collection[str] = ()) -> onnx.ModelProto:
    """Return the graph after each of `rewrites` but those whose names are in `without`: to see what one is worth."""
    for rewrite in rewrites:
        if rewrite.__name__ not in without:
            model = rewrite(model)
    return model
