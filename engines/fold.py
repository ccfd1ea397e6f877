"""Replaces statistics that a network takes of each picture by those of a calibration: faster, and no longer exact.

An instance norm divides by what it sees. Where that hardly changes from frame to frame, the same numbers can stand in
the weights of the convolution before it, which then ends in ReLU and rounding to 8 bits with nothing left to read
twice. What it costs depends on the network, the faces and the poses of the calibration, so nothing is folded unless
asked for, the norms that cost least first, and the engine passes the same gate as any other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx
from onnx import helper

from .graph import Graph, attributes, is_bare
from .onnx_file import Feeds, Runner, with_outputs

BUDGET = 3.5
"""Of squared error, in units of one 255th squared: less than int8 costs the bundled model."""
JUDGES = 6


def norms(model: onnx.ModelProto) -> list[str]:
    """Return what can be folded: the names of the instance norms right behind a convolution, in graph order."""
    return [norm.name for norm, _ in _pairs(Graph(model))]


def _pairs(graph: Graph) -> list[tuple[onnx.NodeProto, onnx.NodeProto]]:
    made_by = {name: node for node in graph.nodes for name in node.output}
    pairs = []
    for norm in graph.nodes:
        conv = made_by.get(norm.input[0]) if norm.op_type == "InstanceNormalization" else None
        if (
            conv is not None
            and conv.op_type in ("Conv", "ConvTranspose")
            and all(name in graph.constants for name in conv.input[1:])
            and (conv.op_type == "Conv" or attributes(conv).get("group", 1) == 1)
            and graph.only_reader(conv.output[0]) is norm
            and is_bare(graph, norm)
        ):
            pairs.append((norm, conv))
    return pairs


def statistics(
    model: onnx.ModelProto, samples: Sequence[Feeds], names: Collection[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return mean and variance of each channel in front of the norms `names`: those of a picture, averaged over all."""
    inputs = {norm.name: norm.input[0] for norm, _ in _pairs(Graph(model)) if norm.name in names}
    run = Runner(with_outputs(model, inputs.values()))
    means: dict[str, list[np.ndarray]] = {name: [] for name in inputs}
    deviations: dict[str, list[np.ndarray]] = {name: [] for name in inputs}
    for feeds in samples:
        values = run(feeds, list(inputs.values()))
        for name, tensor in inputs.items():
            seen = values[tensor].astype(np.float64)
            means[name].extend(seen.mean(axis=(2, 3)))
            deviations[name].extend(np.sqrt(seen.var(axis=(2, 3))))
    # The deviations are averaged, not the variances: one picture with much of something would weigh too much.
    return {name: (np.mean(means[name], 0), np.mean(deviations[name], 0) ** 2) for name in inputs}


def fold(
    model: onnx.ModelProto, known: dict[str, tuple[np.ndarray, np.ndarray]], names: Collection[str]
) -> onnx.ModelProto:
    """Return the graph with the norms `names` folded into their convolutions, by means and variances of `known`."""
    graph = Graph(model)
    for norm, conv in _pairs(graph):
        if norm.name not in names:
            continue
        mean, variance = known[norm.name]
        scale = 1 / np.sqrt(variance + float(attributes(norm).get("epsilon", 1e-5)))
        weight, axis = graph.constants[conv.input[1]], int(conv.op_type == "ConvTranspose")
        bias = graph.constants[conv.input[2]] if len(conv.input) > 2 else 0.0
        along = scale.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
        parts = [
            graph.constant(f"{conv.name}/folded", (weight * along).astype(np.float32)),
            graph.constant(f"{conv.name}/folded_bias", ((bias - mean) * scale).astype(np.float32)),
        ]
        folded = helper.make_node(conv.op_type, [conv.input[0], *parts], norm.output, conv.name)
        folded.attribute.extend(conv.attribute)
        graph.replace(conv, [folded])
        graph.nodes = [node for node in graph.nodes if node is not norm]
    return graph.finish()


def cheapest(model: onnx.ModelProto, samples: Sequence[Feeds], budget: float = BUDGET) -> list[str]:
    """Return the norms that may be folded: those that cost least alone, until their costs together reach `budget`.

    A cost is the mean squared error of the frames of JUDGES of the samples, in units of one 255th squared.
    """
    names, judge = norms(model), samples[:: -(-len(samples) // JUDGES)]
    known = statistics(model, samples, names)
    wanted = _frames(model, judge)
    costs = {name: float(np.mean((_frames(fold(model, known, [name]), judge) - wanted) ** 2)) for name in names}
    chosen, spent = [], 0.0
    for name in sorted(names, key=costs.__getitem__):
        spent += costs[name]
        if spent > budget:
            break
        chosen.append(name)
    return chosen


def _frames(model: onnx.ModelProto, samples: Sequence[Feeds]) -> np.ndarray:
    run = Runner(model)
    return np.stack([run(feeds, ["frame"])["frame"] for feeds in samples]).astype(np.float32)
