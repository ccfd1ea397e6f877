"""The last stage on the small grid: transposed convolutions as the four phases of each pixel, shuffled at the end.

`sub_pixel` writes a transposed convolution that doubles the size as a convolution on the small grid that makes the
four phases of each pixel as channels, and a shuffle. `phase_grid` then moves that shuffle behind everything that
follows, so that a convolution to few channels, which would waste most of a vector, becomes one to four times as many.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from .graph import Graph, attributes, is_bare

SPREAD = {0: ((0, 1),), 1: ((0, 2), (1, 0))}
"""Of a transposed 3-tap kernel with stride 2: output phase to its (offset on the small grid, tap) pairs."""
WIDE = 64  # channels; at 104 the transposed convolution was the faster one, at 24 the other
FOLLOWERS = {"Relu", "Tanh", "Add", "Mul", "Sub", "Div", "Clip", "Round"}
"""Operations that act on each value alone, behind which a shuffle may move."""

MARGIN = {"first": (1, 1), "end": (-1, -1), "axes": (2, 3)}
"""What a Slice takes that leaves the outermost pixels away."""


def sub_pixel(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write each 3×3 ConvTranspose of stride 2, padding 1, output padding 1 as Conv 2×2 and DepthToSpace.

    Channel (2 a + b) C + c of the convolution is channel c of output pixels (2 i + a, 2 j + b). 7 of its 16 taps are
    zero, which pays where few channels come out, WIDE at the most: more of them fill an engine's vectors without it.
    """
    graph = Graph(model)
    for node in list(graph.nodes):
        attrs = attributes(node)
        if node.op_type != "ConvTranspose" or any(name not in graph.constants for name in node.input[1:]):
            continue
        wanted = {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1], "kernel_shape": [3, 3], "group": 1}
        if {k: attrs.get(k, 1) for k in wanted} != wanted or attrs.get("dilations", [1, 1]) != [1, 1]:
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
    for shuffle in [n for n in graph.nodes if n.op_type == "DepthToSpace" and _is_ours(n)]:
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


def _is_ours(shuffle: onnx.NodeProto) -> bool:
    """Whether a shuffle takes the phases of a pixel as `sub_pixel` has them: four, before the channels."""
    attrs = attributes(shuffle)
    return attrs["blocksize"] == 2 and attrs.get("mode", b"DCR") == b"DCR"


def _data(graph: Graph, node: onnx.NodeProto) -> str:
    return next(name for name in node.input if name not in graph.constants)


def _chain(graph: Graph, shuffle: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes behind the shuffle that it may be moved behind."""
    chain, name = [], shuffle.output[0]
    while (node := graph.only_reader(name)) is not None and list(node.input).count(name) == 1:
        known = [graph.constants[other] for other in node.input if other in graph.constants]
        if len(known) < sum(other not in (name, "") for other in node.input):
            break
        norm = node.op_type == "InstanceNormalization" and is_bare(graph, node)
        conv = node.op_type == "Conv" and node.input[0] == name and _same_size(node, known[0])
        pointwise = node.op_type in FOLLOWERS and all(other.size == 1 for other in known)
        if not (norm or conv or pointwise):
            break
        chain.append(node)
        name = node.output[0]
    return chain


def _same_size(node: onnx.NodeProto, weight: np.ndarray) -> bool:
    attrs, k = attributes(node), weight.shape[-1]
    return (
        attrs.get("group", 1) == 1
        and weight.shape[2:] == (k, k)
        and k % 2 == 1
        and attrs.get("strides", [1, 1]) == [1, 1]
        and attrs.get("dilations", [1, 1]) == [1, 1]
        and attrs.get("pads", [0] * 4) == [k // 2] * 4
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
    # Cell j makes pixels 2 j - shift and the next, which look at 2 j - shift - half up to 2 j - shift + half + 1, and
    # pixel x lies in cell x div 2: from ceil((shift + half) / 2) cells before j to (half + 1 - shift) div 2 behind it.
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
