"""Doubles of the two networks of face tracking, as ONNX: for them a red square on a grey ground is a face.

The detector's double fires on squares of 30 to 55 of its 128 pixels and always says the same size. The mesh's double
measures the square's middle and half side, and lays a face that looks straight ahead, eyes open, around them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgetalk.face.facemesh import CANONICAL, RIGID

RED = (220, 40, 40)
FACE = 40  # pixels of the detector's 128 that its double takes every face to be wide


def template() -> np.ndarray:
    """The points of a face of half side 1, (468, 3)."""
    around = np.linspace(0, 2 * np.pi, 468, endpoint=False)
    points = np.stack([np.cos(around), np.sin(around), 0 * around], 1)
    points[RIGID] = CANONICAL * 0.9
    for left, right, lids in ((33, 133, ((160, 144), (159, 145), (158, 153))),
                              (362, 263, ((385, 380), (386, 374), (387, 373)))):  # fmt: skip
        middle, width = (points[left] + points[right]) / 2, points[right, 0] - points[left, 0]
        for upper, lower in lids:
            points[upper], points[lower] = middle - [0, 0.15 * width, 0], middle + [0, 0.15 * width, 0]
    points[61], points[291] = (-0.3, 0.7, 0), (0.3, 0.7, 0)
    return points.astype(np.float32)


def _save(path: Path, nodes, shape, outputs, constants) -> None:
    graph = helper.make_graph(
        nodes,
        "double",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, path)


def write_detector(path: Path) -> None:
    make = helper.make_node
    regressors = np.zeros((1, 896, 8, 2), np.float32)
    regressors[:, :, 1] = FACE
    regressors[:, :, 2:] = np.array([(-8, -6), (8, -6), (0, 2), (0, 10), (-18, -2), (18, -2)])
    every8 = {"strides": [8, 8], "count_include_pad": 1}
    nodes = [
        make("MatMul", ["input", "red"], ["r0"]),
        make("Relu", ["r0"], ["r1"]),
        make("Reshape", ["r1", "plane"], ["r2"]),
        make("AveragePool", ["r2"], ["near"], kernel_shape=[40] * 2, pads=[16] * 4, **every8),
        make("AveragePool", ["r2"], ["far0"], kernel_shape=[64] * 2, pads=[28] * 4, **every8),
        make("Mul", ["far0", "against"], ["far"]),
        make("Sub", ["near", "far"], ["m0"]),
        make("Reshape", ["m0", "cells"], ["m1"]),
        make("Concat", ["m1", "m1"], ["m2"], axis=2),
        make("Reshape", ["m2", "list"], ["m3"]),
        make("Sub", ["m3", "least"], ["m4"]),
        make("Mul", ["m4", "steep"], ["m5"]),
        make("Concat", ["m5", "none"], ["classificators"], axis=1),
        make("ReduceMean", ["m5"], ["n0"], keepdims=0),
        make("Mul", ["n0", "nil"], ["n1"]),
        make("Add", ["n1", "always"], ["regressors"]),
    ]  # fmt: skip
    constants = {
        "red": np.array([[0.7], [-0.7], [0]], np.float32),  # 1 in RED
        "against": np.float32(0.8),  # what is red far around speaks against a face of this size
        "plane": np.array([1, 1, 128, 128]),
        "cells": np.array([1, 256, 1]),
        "list": np.array([1, 512, 1]),
        "least": np.float32(0.36),
        "steep": np.float32(40),
        "none": np.full((1, 384, 1), -50, np.float32),
        "nil": np.float32(0),
        "always": regressors.reshape(1, 896, 16),
    }
    _save(path, nodes, [1, 128, 128, 3], {"regressors": [1, 896, 16], "classificators": [1, 896, 1]}, constants)


def write_mesh(path: Path) -> None:
    make = helper.make_node
    nodes = [
        make("MatMul", ["input", "red"], ["r0"]),
        make("Relu", ["r0"], ["r"]),
        make("ReduceSum", ["r"], ["all0"], keepdims=0),
        make("Add", ["all0", "tiny"], ["all"]),
    ]
    for axis in "xy":
        nodes += [
            make("Mul", ["r", axis], [f"{axis}0"]),
            make("ReduceSum", [f"{axis}0"], [f"{axis}1"], keepdims=0),
            make("Div", [f"{axis}1", "all"], [f"{axis}mean"]),
            make("Sub", [axis, f"{axis}mean"], [f"{axis}2"]),
            make("Mul", [f"{axis}2", f"{axis}2"], [f"{axis}3"]),
            make("Mul", [f"{axis}3", "r"], [f"{axis}4"]),
            make("ReduceSum", [f"{axis}4"], [f"{axis}5"], keepdims=0),
            make("Mul", [f"{axis}mean", f"along_{axis}"], [f"{axis}6"]),
        ]
    nodes += [
        make("Add", ["x5", "y5"], ["v0"]),
        make("Div", ["v0", "all"], ["v1"]),
        make("Mul", ["v1", "square"], ["v2"]),
        make("Sqrt", ["v2"], ["half"]),
        make("Mul", ["face", "half"], ["p0"]),
        make("Add", ["p0", "x6"], ["p1"]),
        make("Add", ["p1", "y6"], ["p2"]),
        make("Reshape", ["p2", "flat"], ["points"]),
        make("Sub", ["all", "least"], ["s0"]),
        make("Mul", ["s0", "steep"], ["s1"]),
        make("Reshape", ["s1", "one"], ["presence"]),
    ]
    middles = (np.arange(192) + 0.5).astype(np.float32)
    constants = {
        "red": np.array([[1], [-1], [0]], np.float32),
        "x": middles[None, None, :, None],
        "y": middles[None, :, None, None],
        "along_x": np.array([1, 0, 0], np.float32),
        "along_y": np.array([0, 1, 0], np.float32),
        "tiny": np.float32(1e-6),
        "square": np.float32(1.5),  # two variances of h²/3 each, for a square of half side h
        "face": template(),
        "flat": np.array([1, 1, 1, 1404]),
        "one": np.array([1, 1, 1, 1]),
        "least": np.float32(192 * 192 * 0.1),
        "steep": np.float32(0.01),
    }
    _save(path, nodes, [1, 192, 192, 3], {"points": [1, 1, 1, 1404], "presence": [1, 1, 1, 1]}, constants)


def frame(*squares, size=(320, 240), ground=(120, 120, 120)) -> np.ndarray:
    """A picture, uint8, with red squares: middle x, y and side in pixels each, exact to parts of pixels."""
    picture = np.full((size[1], size[0], 3), ground, float)
    for x, y, side in squares:
        covered = [
            np.clip(np.minimum(np.arange(n) + 0.5, at + side / 2) - np.maximum(np.arange(n) - 0.5, at - side / 2), 0, 1)
            for n, at in zip(size, (x, y), strict=True)
        ]
        share = (covered[1][:, None] * covered[0])[..., None]
        picture = picture * (1 - share) + np.array(RED) * share
    return np.rint(picture).astype(np.uint8)
