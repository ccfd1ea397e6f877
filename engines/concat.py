"""Quantises what is joined before it is joined, so that OpenVINO joins bytes and no float of it is written.

A rewrite of int8 graphs for OpenVINO alone. Where a quantised layer reads a Concat, its Q/DQ, and the factors that
balance its channels, move from behind the Concat to each of its inputs: the same scale, so exactly the same values.
There the quantisation becomes part of the layer before, and a skip connection costs a copy of bytes. Other patterns
are left alone.
"""

from __future__ import annotations

import onnx
from onnx import helper

from .graph import Graph, attributes


def quantize_early(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with Q/DQ, and factors per channel, moved from behind each Concat of channels in front of it."""
    graph = Graph(model)
    channels = _channels(model)
    for node in [n for n in graph.nodes if n.op_type == "Concat" and attributes(n)["axis"] == 1]:
        widths = [channels.get(name, 0) for name in node.input]
        chain = _chain(graph, node.output[0], sum(widths))
        if chain is None or not all(widths):
            continue
        *balance, quantize, dequantize = chain
        made, joined, at = [], [], 0
        for i, (name, width) in enumerate(zip(node.input, widths, strict=True)):
            stem = f"{node.output[0]}/{i}"
            if balance:
                factors = next(graph.constants[x] for x in balance[0].input if x in graph.constants)
                part = graph.constant(f"{stem}/factors", factors[:, at : at + width])
                made.append(helper.make_node("Mul", [name, part], [f"{stem}/balanced"], f"{balance[0].name}/{i}"))
                name = f"{stem}/balanced"
            for node_of, out in ((quantize, f"{stem}/q"), (dequantize, f"{stem}/dq")):
                copy = helper.make_node(node_of.op_type, [name, *node_of.input[1:]], [out], f"{node_of.name}/{i}")
                copy.attribute.extend(node_of.attribute)
                made.append(copy)
                name = out
            joined.append(name)
            at += width
        join = helper.make_node("Concat", joined, [dequantize.output[0]], node.name, axis=1)
        graph.replace(node, [*made, join])
        graph.nodes = [n for n in graph.nodes if not any(n is old for old in chain)]
    return graph.finish()


def _chain(graph: Graph, name: str, channels: int) -> list[onnx.NodeProto] | None:
    """Return [Mul by a factor for each channel,] QuantizeLinear, DequantizeLinear that alone read `name`, else None."""
    chain: list[onnx.NodeProto] = []
    for kinds in (("Mul", "QuantizeLinear"), ("QuantizeLinear", "DequantizeLinear"), ("DequantizeLinear",)):
        node = graph.only_reader(name)
        if node is None or node.op_type not in kinds:
            return None
        if node.op_type == "Mul":
            factors = [graph.constants[x] for x in node.input if x in graph.constants]
            if not factors or factors[0].shape != (1, channels, 1, 1):
                return None
        chain.append(node)
        name = node.output[0]
        if node.op_type == "DequantizeLinear":
            return chain
    return None


def _channels(model: onnx.ModelProto) -> dict[str, int]:
    """Return how many channels each tensor has, where that is known."""
    known = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: value.type.tensor_type.shape.dim[1].dim_value
        for value in (*known.value_info, *known.input)
        if len(value.type.tensor_type.shape.dim) == 4
    }
