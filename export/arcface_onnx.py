"""An ArcFace that is published as an ONNX file: its graph is kept, and framed by uint8 input and unit length."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgetalk.errors import ModelError

from .onnx_file import from_pixels, run

HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
OURS = re.compile(r"^(portrait$|identity$|edgetalk/|own/)")
"""Names of the frame around a graph; a graph's own such ones get own/ before them, and so do those that have it."""


class Reference(nn.Module):
    """The file's own graph in ONNX Runtime, fed and normalised as Identity does: what its framed form is held to."""

    def __init__(self, model: onnx.ModelProto, scale: float, shift: float):
        super().__init__()
        options = ort.SessionOptions()
        options.log_severity_level = 4  # it would warn of each weight that is among the inputs; errors are raised
        self.session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        self.scale, self.shift = scale, shift

    def vector(self, portrait: Tensor) -> np.ndarray:
        """Return what the graph makes, of any length and shape."""
        picture = from_pixels(portrait, self.scale, self.shift).numpy()
        made: np.ndarray = self.session.run(None, {self.session.get_inputs()[0].name: picture})[0]
        return made

    def forward(self, portrait: Tensor) -> Tensor:
        return F.normalize(torch.from_numpy(self.vector(portrait)).flatten(1), dim=1)


def load_onnx(path: Path) -> tuple[onnx.ModelProto, Reference, int]:
    """Read an ONNX file that makes (N, 512) or (N, 512, 1, 1) of (N, 3, S, S) RGB pictures in [-1, 1], or of pixels
    where it begins with a subtraction; return it framed, its own graph as a reference, and S. Half precision becomes
    float32. Raises ModelError where it is damaged, no such extractor, or not to be run.
    """
    model = _read(path)
    name, vector, size = _ends(model.graph, path)
    scale, shift = (1.0, 0.0) if _takes_pixels(model.graph, name) else (127.5, -1.0)
    try:
        reference = Reference(model, scale, shift)
        made = reference.vector(example(size))
        framed = _framed(model, name, size, scale, shift)
        onnx.checker.check_model(framed, full_check=True)
        run(framed.SerializeToString(), {"portrait": example(size).numpy()})
    except Exception as error:  # ONNX Runtime's have no base of their own
        raise _unusable(path, model, error) from None
    if made.ndim < 2 or made.shape[:2] != (1, made.size) or made.dtype != np.float32:
        got = f"{vector} {made.dtype} {list(made.shape)}"
        raise ModelError(f"{path.name} makes {got}, expected one float32 vector (1, 512); give an ArcFace")
    if not (np.isfinite(made).all() and made.any()):
        what = "zeros alone" if np.isfinite(made).all() else "NaN or infinity"
        raise ModelError(f"{path.name} makes {what} of a picture, expected a vector with a length; give a trained file")
    return framed, reference, size


def _read(path: Path) -> onnx.ModelProto:
    """Return the model, checked and in float32, with the weights that lie in files beside it."""
    try:
        model = onnx.load_model(path, load_external_data=False)
    except DecodeError:
        model = onnx.ModelProto()
    if not model.graph.node:
        raise ModelError(f"{path.name} is no ONNX file or not a whole one; copy it again")
    beside = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if tensor.data_location == TensorProto.EXTERNAL and entry.key == "location"
    }
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (onnx.checker.ValidationError, ValueError, OSError):
        names = ", ".join(sorted(beside)) or "another file"
        raise ModelError(
            f"{path.name} has its weights in {names}, which is missing or not whole; copy that beside it"
        ) from None
    try:
        onnx.checker.check_model(model)
        _widen(model.graph)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise _unusable(path, model, error) from None
    return model


def _ends(graph: onnx.GraphProto, path: Path) -> tuple[str, str, int]:
    """Return the names of the picture and of the vector, and the picture's side."""
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    kinds = [value.type.tensor_type for value in inputs]
    shapes = [[d.dim_value for d in kind.shape.dim] for kind in kinds]
    shape = shapes[0] if len(shapes) == 1 else []
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or shape[2] < 1:
        got = ", ".join(f"{value.name} {dims}" for value, dims in zip(inputs, shapes, strict=True)) or "nothing"
        raise ModelError(f"{path.name} takes {got}, expected one picture (N, 3, 112, 112); give an ArcFace")
    if kinds[0].elem_type != TensorProto.FLOAT:
        got = TensorProto.DataType.Name(kinds[0].elem_type).lower()
        raise ModelError(f"{path.name} takes {inputs[0].name} in {got}, expected float; export it with a float input")
    if shape[0] > 1:
        raise ModelError(f"{path.name} takes {shape[0]} pictures at once, expected 1 or any number; export it for that")
    if len(graph.output) != 1:
        got = ", ".join(value.name for value in graph.output) or "nothing"
        raise ModelError(f"{path.name} makes {got}, expected one vector alone; export it with that output alone")
    return inputs[0].name, graph.output[0].name, shape[2]


def _takes_pixels(graph: onnx.GraphProto, name: str) -> bool:
    """Whether the picture meets a subtraction first, but for nodes that leave it as it is and factors."""
    same = {name}
    for node in graph.node:
        if same.intersection(node.input):
            if node.op_type == "Sub":
                return True
            if node.op_type in ("Identity", "Cast", "Dropout", "Mul"):
                same.add(node.output[0])
    return False


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield the graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _graphs(inner)


def _widen(graph: onnx.GraphProto) -> None:
    """Make float32 of half precision, in place."""
    for part in _graphs(graph):
        attributes = [attribute for node in part.node for attribute in node.attribute]
        for tensor in (*part.initializer, *(attribute.t for attribute in attributes if attribute.HasField("t"))):
            if tensor.data_type in HALF:
                values = numpy_helper.to_array(tensor).astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        for value in (*part.input, *part.output, *part.value_info):
            if value.type.tensor_type.elem_type in HALF:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        for attribute in attributes:
            if attribute.name in ("to", "dtype") and attribute.i in HALF:
                attribute.i = TensorProto.FLOAT


def _give_way(graph: onnx.GraphProto) -> None:
    """Rename, in place, what has a name that the frame uses; no two names become one."""
    for part in _graphs(graph):
        for value in (*part.initializer, *part.input, *part.output, *part.value_info):
            value.name = OURS.sub(r"own/\g<0>", value.name)
        for node in part.node:
            node.name = OURS.sub(r"own/\g<0>", node.name)
            node.input[:] = [OURS.sub(r"own/\g<0>", name) for name in node.input]
            node.output[:] = [OURS.sub(r"own/\g<0>", name) for name in node.output]


def _unusable(path: Path, model: onnx.ModelProto, error: Exception) -> ModelError:
    """Return one sentence of what onnx or ONNX Runtime says of a file."""
    noise = r"\[ONNXRuntimeError\] : \d+ : \w+ : |Fatal error: |/\S+:\d+ .*?\) (?=[A-Z])"
    reason = re.sub(noise, "", str(error).strip())
    reason = re.split(r"\. |\n", reason)[0][:200].rstrip(". ") or type(error).__name__
    sets = ", ".join(f"{used.domain or 'opset'} {used.version}" for used in model.opset_import) or "no opset"
    return ModelError(
        f"{path.name} ({sets}) does not run in ONNX Runtime {ort.__version__}: {reason}; copy it again if it is not "
        "whole, or export it for opset 17 with ONNX's own operators"
    )


def example(size: int, batch: int = 1) -> Tensor:
    """Return pictures of noise, uint8 (batch, size, size, 3), always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, size, size, 3), generator=generator, dtype=torch.uint8)


def _framed(model: onnx.ModelProto, name: str, size: int, scale: float, shift: float) -> onnx.ModelProto:
    """Return the graph with portrait uint8 (1, S, S, 3) before its input and unit length behind its output."""
    framed = onnx.ModelProto()
    framed.CopyFrom(model)
    graph = framed.graph
    _give_way(graph)
    name, vector = OURS.sub(r"own/\g<0>", name), graph.output[0].name
    before = [
        helper.make_node("Cast", ["portrait"], ["edgetalk/float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["edgetalk/float"], ["edgetalk/planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["edgetalk/planes", "edgetalk/scale"], ["edgetalk/scaled"]),
        helper.make_node("Add", ["edgetalk/scaled", "edgetalk/shift"], [name]),
    ]
    flat = helper.make_node("Flatten", [vector], ["edgetalk/vector"])  # of (1, 512, 1, 1)
    length = helper.make_node("ReduceL2", ["edgetalk/vector"], ["edgetalk/length"], keepdims=1)
    if next(used.version for used in model.opset_import if used.domain in ("", "ai.onnx")) < 18:
        length.attribute.append(helper.make_attribute("axes", [1]))
    else:  # an input since then
        graph.initializer.append(numpy_helper.from_array(np.array([1]), "edgetalk/axes"))
        length.input.append("edgetalk/axes")
    divide = helper.make_node("Div", ["edgetalk/vector", "edgetalk/length"], ["identity"])
    nodes = [*before, *graph.node, flat, length, divide]
    for i, node in enumerate(nodes):
        node.name = node.name or f"edgetalk/{node.op_type}_{i}"  # by which int8 knows its layers
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), f"edgetalk/{key}")
        for key, value in (("scale", scale), ("shift", shift))
    )
    del graph.input[:], graph.output[:], graph.value_info[:], framed.metadata_props[:]
    width = helper.make_tensor_value_info("identity", TensorProto.FLOAT, [1, None])
    # Weights are among the inputs of older files; since version 4 of the format they need not be, and here are not.
    framed.ir_version = max(framed.ir_version, 4)
    graph.input.append(helper.make_tensor_value_info("portrait", TensorProto.UINT8, [1, size, size, 3]))
    graph.output.append(width)
    return framed
