"""The ONNX files and the avatar of a model to engines of one kind, all or nothing.

The precision is written into the graph first (precision.py), so that every kind of engine is built from the same
typed graph. Then the frames of the engine are compared with those of the f32 graph (gate.py). TensorRT plans are
built on machines that may not be able to run them: there the typed graph passes the gate in their place.

A source graph that sees a picture stays in f32, since it runs once for a face. One that sees a film's frames runs as
often as the step when nothing is prepared: it gets the step's precision, and both pass the gate as one.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from edgetalk.avatar import Avatar, load_avatar
from edgetalk.backends import open_engine
from edgetalk.errors import InputError, ModelError, word
from edgetalk.files import sha256, together
from edgetalk.metadata import BESIDE, Metadata

from . import gate, openvino
from .calibration import load, made_up, split
from .fold import cheapest, fold, norms, statistics
from .judge import Judge
from .keep import Layer, choose, tightest, write_report
from .onnx_file import Feeds, Progress, Run, Runner, read, set_metadata
from .options import Options, PlanOptions
from .precision import layers, overflow, upsampling
from .typed import arranged, typed_graph

MADE_UP = 4
"""Samples that judge an engine where no calibration file is given, and one that stays in f32."""
UPSAMPLING = "upsampling, not for TensorRT in int8"
NOT_HELD = {"floors": "not held to"}

Part = tuple[onnx.ModelProto, Metadata, str]
"""A graph beside a step, what it says about itself, and the sha256 of its file."""
Judged = Callable[[Run, str], dict[str, Any]]
"""Takes what runs an engine and on what, and returns what its frames are worth; raises ModelError where that is less
than the gate asks for."""
Write = Callable[[onnx.ModelProto, Metadata, Path, Judged | None], Metadata]
"""Writes an engine of a typed graph, and returns what it says about itself."""


class Exported(NamedTuple):
    """What export wrote of a model."""

    step: onnx.ModelProto
    metadata: Metadata
    """Of the step."""
    parts: dict[str, Part]
    """The graphs beside the step that it needs, by their roles."""
    avatar: Path
    """Whose face judges, where there is such a file, and comes along."""

    @property
    def source(self) -> onnx.ModelProto | None:
        return self.parts["source"][0] if "source" in self.parts else None


def build(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    precision: str = "f32",
    calibration: str | os.PathLike[str] | None = None,
    keep: str | Collection[str] = (),
    margin: float | None = None,
    report: str | os.PathLike[str] | None = None,
    fold_statistics: str | os.PathLike[str] | None = None,
    hold: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> Metadata:
    """Build the engines of NAME.onnx as `out`, copy its avatar beside it, and return the step engine's metadata.

    The suffix of `out` chooses OpenVINO (.xml) or TensorRT (.plan, whose `options` are those of PlanOptions in
    options.py). NAME-source.onnx, where the step needs one, becomes an engine too, in f32 where it runs once per
    face, and so does NAME-identity.onnx.
    `precision` is "f32", "bf16" (OpenVINO alone), "fp16" or "int8"; int8 needs the `calibration` file that
    calibration.py describes, and leaves layers whose names begin with one of `keep` in float, with "step:" or
    "source:" before it those of that graph alone. `keep="auto"` chooses
    these itself (keep.py), as few as let the gate pass with a `margin` of SSIM (default: MARGIN), writes what each
    layer costs to `report`, a table of comma-separated values, and tells `progress` how far it is. Every fifth sample
    of the calibration file is kept from calibration and judges the engine; a lone one does both, and the metadata's
    gate says so. With "auto" the samples that judge have chosen the layers, too, so that the gate's figures are
    optimistic. Engines that stay in f32 are held against their graphs by themselves, on made-up samples.
    `fold_statistics` is an avatar: the engine is calibrated and judged on that face alone, and where it costs little
    takes its usual statistics instead of each picture's (fold.py): faster, and for no other face. The metadata's gate
    says so. An engine that is not to `hold` to the gate's floors is measured alone, and the metadata says that: random
    weights make no picture to keep.

    Existing files are replaced, all of them or none. Raises FileNotFoundError; ModelError where a file cannot be
    used or the engine fails the gate; InputError; BackendError where the engine's package or device is missing.
    """
    out = Path(out)
    asked = Options(
        out,
        precision,
        None if calibration is None else Path(calibration),
        (keep,) if isinstance(keep, str) else tuple(keep),
        margin,
        None if report is None else Path(report),
        None if fold_statistics is None else Path(fold_statistics),
        hold,
        options,
    )
    asked.check()
    write = _writer(PlanOptions(**options), progress) if out.suffix == ".plan" else _write_openvino
    exported = _read(Path(model), asked)
    typed, judged = _typed(exported, asked, progress)
    return _write_all(exported, asked, typed, judged, write)


def _read(path: Path, asked: Options) -> Exported:
    """Read the step `path` and what belongs to it; raises where an engine of `asked` cannot be built of that."""
    step, metadata = read(path)
    if metadata.role == "source":
        raise ModelError(f"{path.name} is the source graph of a model; name its step, this is built with it")
    if metadata.precision != "f32":
        raise ModelError(f"{path.name} is in {metadata.precision} already; build from the f32 file that export wrote")
    if asked.fold_statistics is not None and not norms(step):
        raise InputError(f"fold_statistics: {path.name} has no norm to fold into a convolution; leave it out")
    parts = {role: _read_part(path, role, wanted) for role in BESIDE if (wanted := getattr(metadata, role))}
    avatar = asked.fold_statistics or path.with_suffix(".avatar")
    if avatar.is_file() or asked.fold_statistics is not None:
        _check_avatar(avatar, metadata, path, asked)
    asked.check_report(path, *(_beside(path, role) for role in parts), avatar, asked.calibration)
    metadata = dataclasses.replace(metadata, onnx=sha256(path))
    return Exported(step, metadata, parts, avatar)


def _check_avatar(path: Path, step: Metadata, model: Path, asked: Options) -> None:
    """Raise where an avatar is of other weights than the step: it would judge, or go with, what it does not fit."""
    avatar = load_avatar(path)
    if avatar.family == step.family and step.source in ("", avatar.weights):
        return
    what = "PICTURE" if avatar.film is None else "--video FILM --portrait PICTURE"
    again = f"prepare it again: edgetalk avatar {word(model.name)} {what} -o {word(path.name)}"
    message = f"{path.name} was prepared with other weights than those of {model.name}"
    if asked.fold_statistics is not None:
        raise InputError(f"fold_statistics: {message}; {again}")
    raise ModelError(f"{message}; move it away, or {again}")


def _typed(exported: Exported, asked: Options, progress: Progress | None) -> tuple[dict[str, onnx.ModelProto], Judged]:
    """Return the graphs that get the precision, typed, by their roles, and what judges the step's engine."""
    step, source, avatar = exported.step, exported.source, exported.avatar
    runner = Runner(step)
    learn, held = _samples(runner, source, asked.calibration, avatar)
    lone = bool(learn) and learn[0] is held[0]
    folded = ""
    graphs = {"step": step} | ({"source": source} if source is not None and _of_film(source) else {})
    if asked.fold_statistics is not None:
        learn, held = (_with_face(samples, load_avatar(avatar), avatar.name) for samples in (learn, held))
        graphs["step"], folded = _folded(step, learn, avatar.name)
    judge = Judge(runner, held, exported.metadata.family)
    kept, reasons = _in_float(asked, graphs, learn, judge, progress)
    typed = {
        role: typed_graph(graph, asked.precision, asked.out.suffix, learn, kept[role], progress=progress)
        for role, graph in graphs.items()
    }
    if asked.hold and (asked.precision == "fp16" or (asked.precision == "int8" and asked.out.suffix == ".plan")):
        _check_range(typed.values(), held, f"{asked.out.name} in {asked.precision}")
    remarks = _remarks(asked, lone, folded, reasons)

    def judged(run: Run, on: str) -> dict[str, Any]:
        figures = judge(run) | {"on": on, **remarks}
        if asked.hold:
            gate.check(figures, asked.precision, asked.out.name)
        return figures

    return typed, judged


def _remarks(asked: Options, lone: bool, folded: str, kept: Mapping[str, str]) -> dict[str, Any]:
    """Return what the gate of a step says beside its figures; `lone` is whether the sample that judges also taught."""
    taught = lone and (asked.precision == "int8" or asked.fold_statistics is not None)
    remarks: dict[str, Any] = {"samples": "calibrated on" if taught else "held out" if asked.calibration else "made up"}
    remarks |= {} if asked.hold else NOT_HELD
    remarks |= {"folded_statistics": folded} if folded else {}
    return remarks | ({"kept": kept} if asked.keep or kept else {})


def _write_all(
    exported: Exported, asked: Options, typed: Mapping[str, onnx.ModelProto], judged: Judged, write: Write
) -> Metadata:
    """Write the engines and copy the avatar, all or nothing; return what the step's engine says about itself."""
    out = asked.out
    with together(out.parent) as folder:
        for role, (graph, stated, onnx_hash) in exported.parts.items():
            precision = asked.precision if role in typed else "f32"
            described = dataclasses.replace(stated, onnx=onnx_hash, precision=precision)
            engine = folder / asked.beside(role).name
            alone = None if role in typed else _alone(graph, stated.family, exported.avatar, asked, engine.name)
            write(typed.get(role, graph), described, engine, alone)
        if "source" in typed:
            judged = _joined(judged, _runs(typed["source"], folder / asked.beside("source").name))
        described = dataclasses.replace(exported.metadata, precision=asked.precision)
        metadata = write(typed["step"], described, folder / out.name, judged)
        copy = out.with_suffix(".avatar")
        if exported.avatar.is_file() and not (copy.exists() and copy.samefile(exported.avatar)):
            shutil.copyfile(exported.avatar, folder / copy.name)
    return metadata


def _joined(judged: Judged, before: Run) -> Judged:
    """Return what judges a step together with what runs before it, on the samples of both."""
    return lambda run, on: judged(lambda feeds: run(feeds | before(feeds)), on)


def _alone(graph: onnx.ModelProto, family: str, avatar: Path, asked: Options, name: str) -> Judged:
    """Return what judges the f32 engine of a graph beside the step by itself, on made-up samples."""
    runner = Runner(graph)
    judge = Judge(runner, made_up(MADE_UP, runner, None, _picture(avatar)), family)

    def judged(run: Run, on: str) -> dict[str, Any]:
        figures = judge(run) | {"on": on, "samples": "made up"} | ({} if asked.hold else NOT_HELD)
        if asked.hold:
            gate.check(figures, "f32", name)
        return figures

    return judged


def _picture(avatar: Path) -> np.ndarray | None:
    return load_avatar(avatar).source if avatar.is_file() else None


def _in_float(
    asked: Options, graphs: Mapping[str, onnx.ModelProto], learn: list[Feeds], judge: Judge, progress: Progress | None
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the layers of each graph that int8 leaves in float, and of each why; those chosen have to suffice."""
    suffix = asked.out.suffix
    plan = asked.precision == "int8" and suffix == ".plan"
    never = [Layer(role, name) for role, graph in graphs.items() if plan for name in upsampling(graph)]
    always = {str(layer): UPSAMPLING for layer in never}
    if not asked.chooses:
        reasons = dict.fromkeys(asked.keep, "asked for")
        return {role: _named(asked.keep, role, graphs) for role in graphs}, reasons | always
    choice = choose(
        {role: arranged(graph, suffix) for role, graph in graphs.items()},
        learn,
        judge,
        asked.allowed,
        never=never,
        unsigned=suffix == ".xml",
        progress=progress,
    )
    if asked.report is not None:
        write_report(choice, asked.report)
    if asked.hold and not choice.passed:
        figure = tightest(choice.trail[-1], choice.margin)
        raise ModelError(
            f"{asked.out.name} in int8 has {figure} {choice.trail[-1][figure]} against f32 with half of its layers in "
            f"float; build it in a higher precision: --precision {'bf16' if suffix == '.xml' else 'fp16'}"
        )
    return {role: choice.names(role) for role in graphs}, choice.reasons() | always


def _named(keep: Sequence[str], role: str, graphs: Mapping[str, onnx.ModelProto]) -> list[str]:
    """Return those of `keep` that are about the graph of `role`, without that role before them.

    What names layers of other graphs alone, or has another role before it, is not.
    """
    there = {other: layers(graph) for other, graph in graphs.items()}

    def begins(name: str, *roles: str) -> bool:
        return any(layer.startswith(name) for other in roles for layer in there[other])

    plain = [name for name in keep if not name.startswith(tuple(f"{other}:" for other in there))]
    own = [name.removeprefix(f"{role}:") for name in keep if name.startswith(f"{role}:")]
    return own + [name for name in plain if begins(name, role) or not begins(name, *there)]


def _samples(
    runner: Runner, source: onnx.ModelProto | None, calibration: Path | None, avatar: Path
) -> tuple[list[Feeds], list[Feeds]]:
    """Return the samples to calibrate with, none without a calibration file, and those that judge."""
    source_runner = source and Runner(source)
    if calibration is not None:
        return split(load(calibration, runner, source_runner))
    return [], made_up(MADE_UP, runner, source_runner, _picture(avatar))


def _of_film(source: onnx.ModelProto) -> bool:
    """Whether a source graph sees a film's frames, and not a picture."""
    return "target" in {given.name for given in source.graph.input}


def _folded(step: onnx.ModelProto, samples: list[Feeds], name: str) -> tuple[onnx.ModelProto, str]:
    """Return the step with the usual statistics of the samples' face, and what to tell of it."""
    chosen = cheapest(step, samples)
    folded = fold(step, statistics(step, samples, chosen), chosen)
    return folded, f"{len(chosen)} of {len(norms(step))} norms, for {name}"


def _with_face(samples: list[Feeds], avatar: Avatar, name: str) -> list[Feeds]:
    """Return the samples with the avatar's features in place of their own; raises InputError where they do not fit."""
    features = {key: values[:1].astype(np.float32) for key, values in avatar.features.items()}
    fits = all(key in samples[0] and samples[0][key].shape[1:] == values.shape[1:] for key, values in features.items())
    if not features or not fits:
        raise InputError(f"fold_statistics: {name} has no features of this model; make an avatar with: edgetalk avatar")
    return [s | {key: np.repeat(values, len(s[key]), axis=0) for key, values in features.items()} for s in samples]


def _check_range(graphs: Iterable[onnx.ModelProto], samples: list[Feeds], name: str) -> None:
    """Raise ModelError where fp16 does not hold what a graph makes: the gate may compute in f32, which does."""
    for graph in graphs:
        if layer := overflow(graph, samples):
            raise ModelError(
                f"{name}: {layer} makes values above {np.finfo(np.float16).max:.0f}, more than fp16 holds; "
                "build it in f32, or an .xml in bf16"
            )


def _runs(model: onnx.ModelProto, engine: Path) -> Run:
    """Return what runs an engine that was just written: itself, or its typed graph where it is of another device."""
    if engine.suffix == ".plan":
        return Runner(model)
    opened = open_engine(engine)
    return lambda feeds: opened.run({name: feeds[name] for name in opened.inputs})


def _beside(path: Path, role: str) -> Path:
    return path.with_name(f"{path.stem}-{role}.onnx")


def _read_part(path: Path, role: str, wanted: str) -> Part:
    """Return the graph of a role beside the step `path`; `wanted` is the hash that it has to have."""
    part = _beside(path, role)
    if not part.is_file():
        raise ModelError(f"{path.name} has no {part.name} beside it; copy all files that export wrote")
    if sha256(part) != wanted:
        raise ModelError(f"{part.name} is not of the same export as {path.name}; copy all files that export wrote")
    return *read(part), wanted


def _write_openvino(model: onnx.ModelProto, metadata: Metadata, path: Path, judged: Judged | None) -> Metadata:
    """Write an .xml; the engine itself passes the gate, and its figures are then written into it."""
    halve = metadata.precision != "f32"
    metadata = dataclasses.replace(metadata, engine={"name": "OpenVINO", "version": openvino.version()})
    set_metadata(model, metadata)
    openvino.write(model, path, halve=halve)
    if judged is not None:
        metadata = dataclasses.replace(
            metadata, gate=judged(_runs(model, path), openvino.judged_on(metadata.precision))
        )
        set_metadata(model, metadata)
        openvino.write(model, path, halve=halve)
    return metadata


def _writer(options: PlanOptions, progress: Progress | None) -> Write:
    """Return what writes plans of these options; raises what find_target does, before minutes of calibration."""
    from .tensorrt import build_plan, find_target

    target = find_target(options)

    def write(model: onnx.ModelProto, metadata: Metadata, path: Path, judged: Judged | None) -> Metadata:
        """Write a .plan; its typed graph passes the gate in ONNX Runtime, as the plan's device may be another."""
        if judged is not None:
            on = "ONNX Runtime" if metadata.precision == "f32" else "ONNX Runtime (f32 where it has no fp16)"
            metadata = dataclasses.replace(metadata, gate=judged(Runner(model), on))
        set_metadata(model, metadata)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            typed = Path(folder) / f"{path.stem}.onnx"
            onnx.save(model, typed)
            plan = build_plan(typed, path, metadata=metadata, target=target, progress=progress)
        return Metadata.from_json(plan.text, path.name)

    return write
