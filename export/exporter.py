"""Checkpoint to ONNX files and avatar, of any family, each graph checked against torch before any has its name.

A family is a module with `prepare(checkpoint, *, whole, size, batch) -> Export` and one entry in FAMILIES.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgetalk.arrays import Picture
from edgetalk.avatar import Avatar, halved, save_avatar
from edgetalk.errors import InputError
from edgetalk.files import check_kept, together
from edgetalk.metadata import Metadata, check_stem
from edgetalk.picture import read_picture
from edgetalk.preprocess import square_crop, whole_box
from edgetalk.use import ALLOWED, warn_of_photos

from .dynamic_conv import FORMS
from .graph import Export, Graph
from .onnx_file import check_parity, run, to_bytes, trace
from .published import Licence, check_ours

FAMILIES = ("amnet", "wavsyncswap", "wav2lip", "simswap", "arcface", "syncnet")
"""Each a module in this folder, imported when asked for."""


def to_onnx(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    family: str = "amnet",
    dynamic_conv: str = "conv",
    whole: bool = False,
    size: int | None = None,
    batch: int | None = None,
    avatar: str | None = None,
    source: str | os.PathLike[str] | None = None,
    every_avatar: bool = False,
    identity: str | os.PathLike[str] | None = None,
    licence: str = "",
    use: str | None = None,
) -> list[Path]:
    """Write NAME.onnx, NAME-source.onnx and NAME.avatar for `out` = NAME.onnx and return their paths.

    `dynamic_conv` is the form of AMNet's predicted convolution, "conv" or "shift"; `batch` the number of samples of
    a run, 0 for any number, which AMNet takes in the form "shift" alone (default: 1, and any number in that form).
    `whole` writes one graph with all inputs instead of two. `size` is the side of the picture (default: the
    checkpoint's own). `avatar` names the person in the checkpoint whose picture the avatar shows (default: the first);
    `source` is a picture to use instead. Without any picture there is no avatar. `every_avatar` writes PERSON.avatar
    for each person in the checkpoint, too. `identity` is the extractor that a WavSyncSwap was trained with, which
    becomes NAME-identity.onnx (default: what lies beside the checkpoint).

    `licence` and `use` ("any" or "non-commercial") go into the metadata. Published weights bring the terms that
    their authors set (export/published.py), those of filmed people what these agreed to; where authors state none,
    `licence` has to be given, and a wider use than theirs takes a `licence` too. Other weights of one's own are for any
    use where none is given.

    Files of the same names are replaced, all of them or none; equal arguments give equal bytes. Raises
    FileNotFoundError, ModelError where the checkpoint is none of the family or ONNX Runtime does not reproduce
    torch (1 of 255 in a frame), and InputError.
    """
    checkpoint, out, licence = Path(checkpoint), Path(out), licence.strip()
    if batch is None:
        batch = 0 if dynamic_conv == "shift" else 1
    _check_options(family, dynamic_conv, out, batch, identity, use, whole)
    check_kept(out, checkpoint, identity, source)
    module = importlib.import_module(f".{family}", __package__)
    check_ours(checkpoint, family)
    also: dict[str, Any] = {} if identity is None else {"identity": Path(identity)}
    if family == "amnet":
        also["form"] = dynamic_conv
    # Two samples, where any number is to be allowed, keep the tracer from taking a batch of one for granted.
    export: Export = module.prepare(checkpoint, whole=whole, size=size, batch=batch or 2, **also)
    _check_animates(export, family, avatar, source)
    if every_avatar and not export.sources:
        raise InputError(f"every_avatar: {checkpoint.name} has no pictures of persons; leave it out")
    if every_avatar and out.stem in export.sources:
        raise InputError(
            f"out: got {out.name}, and the checkpoint knows a person {out.stem}, whose avatar would have the model's "
            "name; give another one"
        )
    name, picture = _picture(export, avatar, source)
    if source is not None:
        warn_of_photos(export.metadata.faces, export.metadata.persons, checkpoint.name)
    consent = export.consent if source is None else ""
    licence, use = _terms(export.terms, checkpoint.name, licence, use)
    metadata = dataclasses.replace(export.metadata, licence=licence, use=use)
    with together(out.parent) as parts:
        for graph in export.graphs:
            data = _checked(graph, dataclasses.replace(metadata, role=graph.role), dynamic_batch=batch == 0)
            if graph.role in ("source", "identity") and len(export.graphs) > 1:
                digest: dict[str, Any] = {graph.role: hashlib.sha256(data).hexdigest()}
                metadata = dataclasses.replace(metadata, **digest)
                (parts / f"{out.stem}-{graph.role}.onnx").write_bytes(data)
            else:
                (parts / out.name).write_bytes(data)
            if picture is not None and "source" in graph.inputs:
                save_avatar(_avatar(graph, data, metadata, name, picture, consent), parts / f"{out.stem}.avatar")
                for person, own in export.sources.items() if every_avatar else ():
                    save_avatar(_avatar(graph, data, metadata, person, own, export.consent), parts / f"{person}.avatar")
        names = sorted(part.name for part in parts.iterdir())
    return [out.with_name(name) for name in names]


def _check_options(
    family: str,
    dynamic_conv: str,
    out: Path,
    batch: int,
    identity: str | os.PathLike[str] | None,
    use: str | None,
    whole: bool,
) -> None:
    if family not in FAMILIES:
        raise InputError(f"family: got {family!r}, expected one of {', '.join(FAMILIES)}")
    if dynamic_conv not in FORMS:
        raise InputError(f"dynamic_conv: got {dynamic_conv!r}, expected one of {', '.join(FORMS)}")
    if out.suffix != ".onnx":
        raise InputError(f"out: got {out.name!r}, expected a name that ends in .onnx")
    check_stem(out, "graph")
    if use is not None and use not in ALLOWED:
        raise InputError(f"use: got {use!r}, expected one of {', '.join(ALLOWED)}")
    if family != "amnet" and dynamic_conv != "conv":
        raise InputError(f"dynamic_conv: got {dynamic_conv}, {family} predicts no convolution; leave it out")
    if family == "amnet" and batch == 0 and dynamic_conv == "conv":
        raise InputError(f'batch: got {batch}, expected at least 1; for any batch use dynamic_conv="shift"')
    if batch < 0:
        raise InputError(f"batch: got {batch}, expected at least 1, or 0 for any number")
    if identity is not None and whole:
        raise InputError(
            f"identity: got {identity}, a whole graph takes the vector and brings no extractor; leave it out"
        )
    if identity is not None and family != "wavsyncswap":
        raise InputError(f"identity: got {identity}, {family} has no identity extractor beside it; leave that out")


def _check_animates(export: Export, family: str, avatar: str | None, source: str | os.PathLike[str] | None) -> None:
    """Raise InputError where an avatar is asked for of a family that has none."""
    given = {name: value for name, value in {"avatar": avatar, "source": source}.items() if value is not None}
    if given and not any("source" in graph.inputs for graph in export.graphs):
        raise InputError(
            f"{' and '.join(given)}: got {' and '.join(map(str, given.values()))}, {family} animates no picture; leave "
            f"{'it' if len(given) == 1 else 'them'} out"
        )


def _terms(terms: Licence | None, name: str, licence: str, use: str | None) -> tuple[str, str]:
    """Return licence and use of the weights, from what their authors set and what the caller says."""
    if terms is None:
        return licence, use or "any"
    if not (licence or terms.text):
        raise InputError(
            f"licence: {name} is published without one that we know; say under which terms you may use "
            "it with --licence, and --use any where these allow every use"
        )
    if use == "any" and terms.use != "any" and not licence:
        raise InputError(
            f"use: {name} is for {terms.use} use ({terms.text}), got any; name the licence that allows "
            "it with --licence"
        )
    return licence or terms.text, use or terms.use


def _picture(export: Export, avatar: str | None, source: str | os.PathLike[str] | None) -> tuple[str, Picture | None]:
    """Return whose picture the avatar shows, and the picture."""
    if source is not None:
        return avatar or "", read_picture(source)
    if avatar is None:
        return next(iter(export.sources.items()), ("", None))
    if avatar not in export.sources:
        there = ", ".join(export.sources) or "nobody"
        raise InputError(
            f"avatar: the checkpoint has no picture of {avatar!r}, it has {there}; give a picture with --source"
        )
    return avatar, export.sources[avatar]


def _avatar(graph: Graph, data: bytes, metadata: Metadata, name: str, picture: Picture, consent: str) -> Avatar:
    """What `edgetalk avatar` would prepare, its features computed by ONNX Runtime; none for a whole graph."""
    batch, size = graph.inputs["source"].shape[:2]
    crop = square_crop(picture, size)
    results = run(data, {"source": np.repeat(crop[None], batch, axis=0)}) if graph.role == "source" else {}
    features = halved({key: value[:1] for key, value in results.items()}, "the source graph")
    licence, use = metadata.licence, metadata.use
    return Avatar(crop, features, whole_box(picture), metadata.family, metadata.source, licence, consent, name, use)


def _checked(graph: Graph, metadata: Metadata, dynamic_batch: bool) -> bytes:
    model = graph.model or trace(graph.module, graph.inputs, graph.outputs, dynamic_batch=dynamic_batch)
    data = to_bytes(model, metadata)
    with torch.no_grad():
        results = graph.module(*graph.inputs.values())
    results = results if isinstance(results, tuple) else (results,)
    expected = {name: value.numpy() for name, value in zip(graph.outputs, results, strict=True)}
    check_parity(run(data, {name: value.numpy() for name, value in graph.inputs.items()}), expected, graph.role)
    return data
