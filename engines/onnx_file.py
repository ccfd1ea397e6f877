"""Reading an exported ONNX file, and running it in ONNX Runtime as the reference for every engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError
from onnx import helper

from edgetalk.errors import ModelError
from edgetalk.metadata import KEY, Metadata

Feeds = dict[str, np.ndarray]
Run = Callable[[Feeds], Feeds]
"""What makes a graph's outputs of its inputs."""
Progress = Callable[[str, int, int], None]
"""Called with what is going on, how many of its steps are done, and how many there are."""


def read(path: str | os.PathLike[str]) -> tuple[onnx.ModelProto, Metadata]:
    """Return the graph of an ONNX file and its metadata.

    Weights that the file stores in half precision behind a Cast are float32 again. Raises FileNotFoundError, or
    ModelError where the file is no whole ONNX file or has no edgetalk metadata.
    """
    data = Path(path).read_bytes()
    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError):
        raise ModelError(f"{path} is no ONNX file or not a whole one; write it with: edgetalk export") from None
    _widen_weights(model)
    return model, Metadata.from_json(next((p.value for p in model.metadata_props if p.key == KEY), None), str(path))


def _widen_weights(model: onnx.ModelProto) -> None:
    """Put float32 weights in the place of half-precision ones that a Cast widens, so that types are ours to choose."""
    stored = {x.name: x for x in model.graph.initializer if x.data_type == onnx.TensorProto.FLOAT16}
    kept = []
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in stored and node.attribute[0].i == onnx.TensorProto.FLOAT:
            tensor = stored[node.input[0]]
            wide = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(wide, node.output[0]))
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def set_metadata(model: onnx.ModelProto, metadata: Metadata) -> None:
    """Write the metadata into the graph, in place of what was there."""
    others = [p for p in model.metadata_props if p.key != KEY]
    del model.metadata_props[:]
    model.metadata_props.extend([*others, onnx.StringStringEntryProto(key=KEY, value=metadata.to_json())])


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """Return the graph with the tensors `names` among its outputs; its inputs are left out."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {x.name for x in (*copy.graph.input, *copy.graph.output)}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    return copy


class Spec(NamedTuple):
    """What one input of a graph looks like."""

    dtype: np.dtype
    shape: tuple[int, ...]
    """-1 where a dimension is dynamic."""


class Runner:
    """A graph in ONNX Runtime on the CPU, in the precision that it was written in."""

    def __init__(self, model: onnx.ModelProto) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait take no core
        self._session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        self.inputs = {
            x.name: Spec(
                helper.tensor_dtype_to_np_dtype(x.type.tensor_type.elem_type),
                tuple(d.dim_value or -1 for d in x.type.tensor_type.shape.dim),
            )
            for x in model.graph.input
        }
        self.outputs = [x.name for x in model.graph.output]

    def __call__(self, feeds: Feeds, names: Sequence[str] | None = None) -> Feeds:
        """Return the outputs `names`, all where none are named. Feeds that the graph does not take are ignored."""
        known = {name: value for name, value in feeds.items() if name in self.inputs}
        names = self.outputs if names is None else list(names)
        # Of no names ONNX Runtime returns all outputs.
        return dict(zip(names, self._session.run(names, known), strict=True)) if names else {}
