"""Makes the channels of each quantised activation equally large, so that one scale fits them all.

Channel c of a layer's input is multiplied by a constant 1 / s_c, and the weights that read it by s_c: the layer
computes what it did. The multiplication costs nothing where the input is quantised anyway: engines fold it into
that. It is what per-channel scales of activations would be, in a form that every engine takes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .onnx_file import Feeds, Runner, with_outputs

SMALLEST = 0.05
"""Of the mean over channels: a channel that is smaller still is taken to be this large."""


def balance(model: onnx.ModelProto, samples: Sequence[Feeds], layers: Collection[str]) -> onnx.ModelProto:
    """Return an equal graph in which the inputs of the Conv nodes named in `layers` have balanced channels.

    How large a channel is, is its root mean square over `samples`, feeds of the graph's inputs.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    weights = {w.name: w for w in result.graph.initializer}
    chosen = [n for n in result.graph.node if n.name in layers and n.op_type == "Conv"]
    readers = [n.input[1] for n in result.graph.node if len(n.input) > 1]
    chosen = [n for n in chosen if readers.count(n.input[1]) == 1]  # weights of two layers cannot fit both
    sizes = _sizes(model, samples, list(dict.fromkeys(n.input[0] for n in chosen)))
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()
    for node in result.graph.node:
        if any(node is layer for layer in chosen):
            name = node.input[0]
            share = np.maximum(sizes[name], SMALLEST * sizes[name].mean() or 1.0)
            share = (share / np.exp(np.log(share).mean())).astype(np.float32)
            if name not in done:
                done.add(name)
                factors = numpy_helper.from_array(1 / share.reshape(1, -1, 1, 1), f"{name}/factors")
                result.graph.initializer.append(factors)
                nodes.append(helper.make_node("Mul", [name, factors.name], [f"{name}/balanced"], f"{name}/Balance"))
            node.input[0] = f"{name}/balanced"
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            weight = weights[node.input[1]]
            values = numpy_helper.to_array(weight)  # (C_out, C_in / groups, k, k)
            per_output = np.repeat(share.reshape(groups, -1), len(values) // groups, axis=0)
            weight.CopyFrom(numpy_helper.from_array(values * per_output[:, :, None, None], weight.name))
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    result.graph.ClearField("node")
    result.graph.node.extend(copies)
    onnx.checker.check_model(result)
    return result


def _sizes(model: onnx.ModelProto, samples: Sequence[Feeds], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the root mean square of each channel of the tensors `names`."""
    run = Runner(with_outputs(model, names))
    sums = {name: np.float64(0) for name in names}
    for feeds in samples:
        values = feeds | run(feeds)
        for name in names:
            sums[name] = sums[name] + np.square(values[name], dtype=np.float64).mean(axis=(0, 2, 3))
    return {name: np.sqrt(total / len(samples)) for name, total in sums.items()}
