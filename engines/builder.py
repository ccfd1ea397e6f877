"""The ONNX files and the avatar of a model to engines of one kind, all or nothing.

The precision is written into the graph first (precision.py), so that every kind of engine is built from the same
typed graph. Then the frames of the engine are compared with those of the f32 graph (gate.py). TensorRT plans are
built on machines that may not be able to run them: there the typed graph passes the gate in their place.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgetalk.avatar import load as load_avatar
from edgetalk.backends import open_engine
from edgetalk.errors import InputError, ModelError
from edgetalk.files import together
from edgetalk.metadata import Metadata

from . import gate, openvino
from .calibration import load, made_up, split
from .onnx_file import Feeds, Runner, read, set_metadata, sha256
from .precision import to_fp16, to_int8
from .rewrite import phase_grid, sub_pixel

PRECISIONS = ("f32", "bf16", "fp16", "int8")
SUFFIXES = (".xml", ".plan")
MADE_UP = 4
"""Samples that judge an engine where no calibration file is given."""

Run = Callable[[Feeds], Feeds]


def build(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    precision: str = "f32",
    calibration: str | os.PathLike[str] | None = None,
    keep: Collection[str] = (),
    **options: Any,
) -> Metadata:
    """Build the engines of NAME.onnx as `out`, copy its avatar beside it, and return the step engine's metadata.

    The suffix of `out` chooses OpenVINO (.xml) or TensorRT (.plan, whose `options` are those of build_plan in
    tensorrt.py). NAME-source.onnx, where the step needs one, becomes an engine too, in f32: it runs once per face.
    `precision` is "f32", "bf16" (OpenVINO alone), "fp16" or "int8"; int8 needs the `calibration` file that
    calibration.py describes, and leaves layers whose names begin with one of `keep` in float. Every fifth sample of
    the file is kept from calibration and judges the engine.

    Existing files are replaced, all of them or none. Raises FileNotFoundError; ModelError where a file cannot be
    used or the engine fails the gate; InputError; BackendError where the engine's package or device is missing.
    """
    path, out = Path(model), Path(out)
    _check_options(out, precision, calibration, keep, options)
    step, metadata = read(path)
    if metadata.precision != "f32":
        raise ModelError(f"{path.name} is in {metadata.precision} already; build from the f32 file that export wrote")
    source_path = path.with_name(f"{path.stem}-source.onnx")
    source, source_metadata = _read_source(source_path, path.name, metadata)
    graph, source_graph = Runner(step), source and Runner(source)
    avatar = path.with_suffix(".avatar")
    if calibration is None:
        picture = load_avatar(avatar).source if avatar.is_file() else None
        learn, judge = [], made_up(MADE_UP, graph, source_graph, picture)
    else:
        learn, judge = split(load(calibration, graph, source_graph))
    typed = phase_grid(sub_pixel(step)) if out.suffix == ".xml" else step
    if precision == "fp16" and out.suffix == ".plan":  # OpenVINO takes 16-bit arithmetic from the metadata
        typed = to_fp16(typed)
    elif precision == "int8":
        free = out.suffix == ".xml"  # from TensorRT's limits
        typed = to_int8(typed, learn, keep, rest="f32" if free else "fp16", unsigned=free)
    metadata = dataclasses.replace(metadata, precision=precision, onnx=sha256(path))
    write = _write_openvino if out.suffix == ".xml" else _write_tensorrt

    def judged(run: Run, on: str) -> dict[str, Any]:
        figures = _compare(graph, run, judge) | {"on": on, "samples": "made up" if calibration is None else "held out"}
        gate.check(figures, precision, out.name)
        return figures

    with together(out.parent) as parts:
        metadata = write(typed, metadata, parts / out.name, judged, options)
        if source is not None and source_metadata is not None:
            described = dataclasses.replace(source_metadata, onnx=sha256(source_path))
            write(source, described, parts / f"{out.stem}-source{out.suffix}", None, options)
        copy = out.with_suffix(".avatar")
        if avatar.is_file() and not (copy.exists() and copy.samefile(avatar)):
            shutil.copyfile(avatar, parts / copy.name)
    return metadata


def _check_options(
    out: Path,
    precision: str,
    calibration: str | os.PathLike[str] | None,
    keep: Collection[str],
    options: dict[str, Any],
) -> None:
    if out.suffix not in SUFFIXES:
        raise InputError(f"out: got {out.name!r}, expected a name that ends in {' or '.join(SUFFIXES)}")
    if precision not in PRECISIONS:
        raise InputError(f"precision: got {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if precision == "bf16" and out.suffix == ".plan":
        raise InputError("precision: bf16 is for OpenVINO; use fp16 for a .plan")
    if precision == "int8" and calibration is None:
        raise InputError("calibration: int8 needs a calibration file; write one with: edgetalk data calibration")
    if keep and precision != "int8":
        raise InputError(f"keep: layers are kept in float in int8 alone, got precision {precision}")
    if options and out.suffix == ".xml":
        raise InputError(f"{min(options)}: is an option of TensorRT; {out.name} is built for OpenVINO")


def _read_source(path: Path, step: str, metadata: Metadata) -> tuple[onnx.ModelProto | None, Metadata | None]:
    if not metadata.source:
        return None, None
    if not path.is_file():
        raise ModelError(f"{step} has no {path.name} beside it; copy both files that export wrote")
    if sha256(path) != metadata.source:
        raise ModelError(f"{path.name} is not of the same export as {step}; copy both files that export wrote")
    return read(path)


def _compare(reference: Runner, run: Run, samples: list[Feeds]) -> dict[str, Any]:
    """Return the gate's figures of what `run` makes of the samples, beside what the f32 graph makes of them.

    Graphs without a frame make unit vectors (of identity, of mouth and sound), which are compared instead.
    """
    wanted, made = [reference(feeds) for feeds in samples], []
    for feeds in samples:
        made.append({name: value.copy() for name, value in run(feeds).items()})  # engines reuse their outputs
    if "frame" not in reference.outputs:
        vectors = [
            np.concatenate([result[name] for result in results for name in reference.outputs])
            for results in (wanted, made)
        ]
        return gate.compare_vectors(*vectors)
    frames = [np.concatenate([result["frame"] for result in results]) for results in (wanted, made)]
    if "landmarks" not in reference.outputs:
        return gate.compare(*frames)
    points = [np.concatenate([result["landmarks"] for result in results]) for results in (wanted, made)]
    figures = gate.compare(*frames, points[0])
    figures["landmarks_error"] = round(float(np.abs(points[0] - points[1]).max()), 6)
    return figures


def _write_openvino(
    model: onnx.ModelProto,
    metadata: Metadata,
    path: Path,
    judged: Callable[[Run, str], dict[str, Any]] | None,
    options: dict[str, Any],
) -> Metadata:
    """Write an .xml; the engine itself passes the gate, and its figures are then written into it."""
    halve = metadata.precision != "f32"
    metadata = dataclasses.replace(metadata, engine={"name": "OpenVINO", "version": openvino.version()})
    set_metadata(model, metadata)
    openvino.write(model, path, halve=halve)
    if judged is not None:
        engine = open_engine(path)
        try:
            metadata = dataclasses.replace(metadata, gate=judged(engine.run, "OpenVINO"))
        finally:
            engine.close()
        set_metadata(model, metadata)
        openvino.write(model, path, halve=halve)
    return metadata


def _write_tensorrt(
    model: onnx.ModelProto,
    metadata: Metadata,
    path: Path,
    judged: Callable[[Run, str], dict[str, Any]] | None,
    options: dict[str, Any],
) -> Metadata:
    """Write a .plan; its typed graph passes the gate in ONNX Runtime, as the plan's device may be another."""
    from .tensorrt import build_plan

    if judged is not None:
        metadata = dataclasses.replace(metadata, gate=judged(Runner(model), "ONNX Runtime"))
    set_metadata(model, metadata)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        typed = Path(folder) / f"{path.stem}.onnx"
        onnx.save(model, typed)
        plan = build_plan(typed, path, metadata=metadata, **options)
    return Metadata.from_json(plan.text, path.name)
