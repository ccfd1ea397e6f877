"""A graph in a precision, and in the form that engines of its kind run fastest: what is built, and what is judged."""

from __future__ import annotations

from collections.abc import Collection

import onnx

from .concat import quantize_early
from .onnx_file import Feeds, Progress
from .precision import to_fp16, to_int8, upsampling
from .rewrite import BEFORE, rewritten


def typed_graph(
    model: onnx.ModelProto,
    precision: str,
    suffix: str,
    samples: list[Feeds],
    keep: Collection[str],
    without: Collection[str] = (),
    progress: Progress | None = None,
) -> onnx.ModelProto:
    """Return the graph in a precision, and in the form that engines of this suffix run fastest.

    Rewrites named in `without` are left out. int8 for TensorRT leaves `upsampling` in fp16.
    """
    if suffix == ".xml":
        model = arranged(model, suffix, without)
        if precision == "int8":
            quantised = to_int8(model, samples, keep, rest="f32", unsigned=True, progress=progress)
            return rewritten(quantised, (quantize_early,), without)
        return model  # OpenVINO takes 16-bit arithmetic from the metadata
    if precision == "fp16":
        return to_fp16(model)
    if precision == "int8":
        keep = [*keep, *upsampling(model)]
        return to_int8(model, samples, keep, rest="fp16", progress=progress)
    return model


def arranged(model: onnx.ModelProto, suffix: str, without: Collection[str] = ()) -> onnx.ModelProto:
    """Return the graph as it is before it is quantised."""
    return rewritten(model, BEFORE, without) if suffix == ".xml" else model
