"""From a torch module to an ONNX graph: tracing, simplifying, metadata, and the check against torch.

The pixel helpers are the half of the pre- and post-processing that lives in the graph: engines accept uint8 only
where the Cast is the very first or the very last operation, so nothing may come before `from_pixels` or after
`to_pixels`.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort
import onnxsim
import torch
from torch import nn

from edgetalk.errors import ModelError
from edgetalk.metadata import KEY, Metadata

OPSET = 17
"""The newest opset that the tracing exporter writes and TensorRT 10.3 reads."""
PIXEL_ERROR = 1
"""Of 255: what rounding may make of the same picture computed in another order."""
VALUE_ERROR = 1e-4
"""The largest difference of a float output, relative to the larger of 1 and its largest value."""
WORTH_HALVING = 1024
"""Numbers in a weight, from which on storing it in half precision is worth a node in the graph."""


def from_pixels(pixels: torch.Tensor, scale: float = 127.5, shift: float = -1.0) -> torch.Tensor:
    """uint8 (B, H, W, C) to float32 (B, C, H, W), pixels / scale + shift."""
    return pixels.float().permute(0, 3, 1, 2) / scale + shift


def to_pixels(image: torch.Tensor, scale: float = 127.5, shift: float = 1.0) -> torch.Tensor:
    """float32 (B, C, H, W) to uint8 (B, H, W, C), (image + shift) * scale clamped and rounded."""
    return ((image + shift) * scale).clamp(0, 255).round().permute(0, 2, 3, 1).to(torch.uint8)


def trace(
    module: nn.Module, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str], *, dynamic_batch: bool = False
) -> onnx.ModelProto:
    """Return the simplified ONNX graph of `module(*inputs.values())`, inputs and outputs named, no metadata yet.

    With `dynamic_batch` the first axis of every input and output is free; the batch of the examples must be
    larger than one then, or the tracer would take broadcasting for granted.
    """
    axes = {name: {0: "batch"} for name in (*inputs, *outputs)} if dynamic_batch else None
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns of every shape that it takes as a constant
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            buffer,  # type: ignore[arg-type]  # the tracing exporter takes one, its stub knows paths alone
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamic_axes=axes,
            dynamo=False,
        )
    model, same = onnxsim.simplify(onnx.load_model_from_string(buffer.getvalue()))
    if not same:
        raise ModelError("the simplified graph does not compute what the exported one does; report this as a bug")
    del model.metadata_props[:]
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    return model


def halve_weights(model: onnx.ModelProto) -> None:
    """Store the weights that half precision holds exactly in it, each behind a Cast: equal numbers, half the file."""
    casts = []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < WORTH_HALVING:
            continue
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if np.array_equal(half.astype(np.float32), values):
            name = tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}.half"))
            cast = onnx.helper.make_node("Cast", [f"{name}.half"], [name], f"{name}/Widen", to=onnx.TensorProto.FLOAT)
            casts.append(cast)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def to_bytes(model: onnx.ModelProto, metadata: Metadata) -> bytes:
    """Return the file's bytes, the same for the same graph and metadata."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    halve_weights(whole)
    whole.metadata_props.append(onnx.StringStringEntryProto(key=KEY, value=metadata.to_json()))
    onnx.checker.check_model(whole, full_check=True)
    return whole.SerializeToString(deterministic=True)


def run(data: bytes, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of a graph in ONNX Runtime, by name; feeds that it does not take are ignored."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait take no core
    session = ort.InferenceSession(data, options, ["CPUExecutionProvider"])
    wanted = {x.name for x in session.get_inputs()}
    names = [x.name for x in session.get_outputs()]
    values = session.run(names, {name: value for name, value in feeds.items() if name in wanted})
    return dict(zip(names, values, strict=True))


def check_parity(got: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], name: str) -> None:
    """Raise ModelError, naming output and error, where ONNX Runtime and torch disagree on an output."""
    for output, want in expected.items():
        have = got[output]
        if have.shape != want.shape or have.dtype != want.dtype:
            raise ModelError(
                f"{name}: {output} is {have.dtype} {have.shape} in ONNX, {want.dtype} {want.shape} "
                "in torch; nothing was written"
            )
        error = float(np.abs(have.astype(np.float64) - want).max())
        allowed = PIXEL_ERROR if want.dtype == np.uint8 else VALUE_ERROR * max(1.0, float(np.abs(want).max()))
        if not error <= allowed:
            raise ModelError(
                f"{name}: {output} differs by {error:.3g} between ONNX and torch, at most "
                f"{allowed:.3g} is allowed; nothing was written"
            )
