"""Rounds the weights of convolutions so that what one weight loses the others make good.

GPTQ (Frantar et al., GPTQ: accurate post-training quantization for generative pre-trained transformers, ICLR 2023,
Algorithm 1): weights are rounded one input after the other, and what the output is wrong by is given to the inputs that
are still to be rounded, by how alike they are on the samples. At 8 bits that leaves a twentieth to a half of the
squared error of plain rounding, and costs an engine nothing. Left out, and rounded plainly: transposed and grouped
convolutions, those that an auto_pad pads, and layers of more than LARGEST inputs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from .onnx_file import Feeds, Progress, Runner, with_outputs

if TYPE_CHECKING:
    from .precision import Scale

Q_MAX = 127
"""The range is -127 to 127, so that a value and its negative are equally far from zero."""
PAIR = 128
"""What the weights of two neighbouring inputs make up at most where they have one sign. CPUs without VNNI add the
products of two bytes in 16 bits (vpmaddubsw), which hold 255 times this; more of it would be cut off, and a picture
that another CPU draws well would have holes. It costs nothing that can be measured: few weights are so large, and fewer
so near each other."""
PLACES, MOST = 8, 16384
"""Places of the maps that are looked at: as many times the weights of an output, and the most of any."""
BLOCK = 128
"""Inputs after which the losses of all of them are handed on: many small updates would only move memory."""
LARGEST, MEMORY = 8192, 1 << 30
"""Inputs of a layer that is rounded so, which takes a minute, and bytes of the products that are held at a time."""
DAMPING = 0.01
"""Of the mean square of an input, added to all: inputs that the samples never moved keep their weights."""


def steps(weight: np.ndarray, axis: int) -> np.ndarray:
    """Return the scale of each output channel, along `axis`, of a convolution's weights, in their dtype and axes.

    The inputs lie along the other one of the first two axes; no two neighbours of them make up more than PAIR.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    whole = weight.astype(np.float32)
    peak = np.abs(whole).max(axis=others, keepdims=True)
    pair = paired(whole, 1 - axis).max(axis=others, keepdims=True)
    return held(np.where(peak > 0, np.maximum(peak / Q_MAX, pair / PAIR), 1.0), weight.dtype)


def paired(weight: np.ndarray, axis: int) -> np.ndarray:
    """Return what the weights of the inputs 2k and 2k + 1 along `axis` make up, those of the sign that makes more."""
    last = np.moveaxis(weight, axis, -1)
    even, odd = last[..., ::2], last[..., 1::2]
    odd = np.concatenate([odd, np.zeros_like(even[..., odd.shape[-1] :])], axis=-1)
    made = [np.maximum(sign * even, 0) + np.maximum(sign * odd, 0) for sign in (1, -1)]
    return np.moveaxis(np.maximum(*made), -1, axis)


def held(step: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return scales in `dtype`, rounded up: fp16 is coarse near zero, and a scale must neither be 0 nor cut values off.

    It holds no normal number below 6e-5, and none but 0 below 6e-8.
    """
    near = step.astype(dtype)
    return np.where(near < step, np.nextafter(near, dtype.type(np.inf)), near)


def nearest(
    weight: np.ndarray, step: np.ndarray, low: np.ndarray | int = -Q_MAX, high: np.ndarray | int = Q_MAX
) -> np.ndarray:
    """Return int8 weights, each rounded by itself, from `low` to `high`."""
    return np.clip(np.round(weight / step.astype(np.float32)), low, high).astype(np.int8)


def rounded(
    model: onnx.ModelProto,
    samples: Sequence[Feeds],
    names: Collection[str],
    scale: Mapping[str, Scale],
    progress: Progress | None = None,
    dtype: type[np.floating] = np.float32,
) -> dict[str, np.ndarray]:
    """Return int8 weights (C_out, C_in, k, k) of the Conv nodes `names`, by the names of the weights.

    `samples` are feeds of the graph, which is in float; `scale` is how each of its activations will be quantised, and
    `dtype` what the scales of the weights will be written in.
    """
    weights = {w.name: w for w in model.graph.initializer}
    convolutions = [n for n in model.graph.node if n.name in names and n.op_type == "Conv"]
    wanted = [n for n in convolutions if _of(n, "group", 1) == 1 and _of(n, "auto_pad", b"NOTSET") == b"NOTSET"]
    inputs = {n.name: int(np.prod(weights[n.input[1]].dims[1:])) for n in wanted}
    nodes = [n for n in wanted if inputs[n.name] <= LARGEST]
    found: dict[str, np.ndarray] = {}
    for part in _parts(nodes, inputs):
        products = _products(model, samples, part, scale, progress)
        for node in part:
            if progress:
                progress("weights rounded", len(found), len(nodes))
            weight = numpy_helper.to_array(weights[node.input[1]])
            step = steps(weight.astype(dtype), 0).ravel().astype(np.float32)
            flat = weight.reshape(len(weight), -1)
            apart = int(np.prod(weight.shape[2:]))
            found[node.input[1]] = gptq(flat, step, products.pop(node.name), apart).reshape(weight.shape)
    return found


def _parts(nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, int]) -> list[list[onnx.NodeProto]]:
    """Return the nodes in groups whose products fit into MEMORY, one at least in each."""
    parts: list[list[onnx.NodeProto]] = []
    room = 0
    for node in nodes:
        size = 8 * inputs[node.name] ** 2
        if size > room:
            parts.append([])
            room = MEMORY
        parts[-1].append(node)
        room -= size
    return parts


def _products(
    model: onnx.ModelProto,
    samples: Sequence[Feeds],
    nodes: Sequence[onnx.NodeProto],
    scale: Mapping[str, Scale],
    progress: Progress | None,
) -> dict[str, np.ndarray]:
    """Return by the names of nodes the sums over samples of the products of every two inputs, (K, K)."""
    shapes = {w.name: w.dims for w in model.graph.initializer}
    run = Runner(with_outputs(model, list(dict.fromkeys(n.input[0] for n in nodes))))
    rng = np.random.default_rng(0)
    products: dict[str, Any] = dict.fromkeys((n.name for n in nodes), 0.0)
    for number, feeds in enumerate(samples):
        if progress:
            progress("samples for rounding", number, len(samples))
        values = feeds | run(feeds)
        for node in nodes:
            data = scale[node.input[0]].applied(values[node.input[0]])
            _, channels, high, wide = shapes[node.input[1]]
            count = -(-min(MOST, PLACES * channels * high * wide) // len(samples))
            seen = columns(data, node, (high, wide), count, rng)
            products[node.name] = products[node.name] + (seen.T @ seen).astype(np.float64)
    return products


def gptq(weight: np.ndarray, step: np.ndarray, products: np.ndarray, apart: int = 1) -> np.ndarray:
    """Return int8 numbers (O, K) which times `step` (O,) stand for `weight` (O, K).

    `products` (K, K) are the sums over samples of the products of every two inputs; the columns of neighbouring inputs
    are `apart`, and no two of them make up more than PAIR.
    """
    damped = products + DAMPING * max(float(np.diag(products).mean()), 1e-12) * np.eye(len(products))
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    left, whole = weight.astype(np.float64), np.empty(weight.shape, np.int8)
    for begin in range(0, weight.shape[1], BLOCK):
        end = min(begin + BLOCK, weight.shape[1])
        lost = np.empty((len(weight), end - begin))
        for k in range(begin, end):
            other = whole[:, k - apart].astype(int) if k // apart % 2 else 0
            low, high = (np.clip(sign * PAIR - other, -Q_MAX, Q_MAX) for sign in (-1, 1))
            whole[:, k] = nearest(left[:, k], step, low, high)
            lost[:, k - begin] = (left[:, k] - whole[:, k] * step) / factor[k, k]
            left[:, k + 1 : end] -= np.outer(lost[:, k - begin], factor[k, k + 1 : end])
        left[:, end:] -= lost @ factor[begin:end, end:]  # what lies behind the block gets all of its losses at once
    return whole


def columns(
    data: np.ndarray, node: onnx.NodeProto, kernel: tuple[int, int], count: int, rng: np.random.Generator
) -> np.ndarray:
    """Return what `count` outputs of a convolution are weighted sums of, (count, C * k * k), of data (B, C, H, W).

    The outputs are drawn by chance; where there are no more they are all, in order.
    """
    top, left, bottom, right = _of(node, "pads", [0, 0, 0, 0])
    down, across = _of(node, "strides", [1, 1])
    dilated_down, dilated_across = _of(node, "dilations", [1, 1])
    high, wide = kernel
    padded = np.pad(data, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = ((high - 1) * dilated_down + 1, (wide - 1) * dilated_across + 1)
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    views = views[:, :, ::down, ::across, ::dilated_down, ::dilated_across].transpose(0, 2, 3, 1, 4, 5)
    total = views.shape[0] * views.shape[1] * views.shape[2]
    taken = np.arange(total) if total <= count else rng.choice(total, count, replace=False)
    # All of them may be gigabytes: a copy is made of those that are taken alone.
    return views[np.unravel_index(taken, views.shape[:3])].reshape(len(taken), -1)


def _of(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return a node's attribute."""
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
