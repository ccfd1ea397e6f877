"""Whose face a swap paints: a portrait's identity, by the extractor that the network was trained with, or an avatar's.

An avatar brings the terms of its person: what it may be used for, its licence, and who gave consent.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import Picture
from .avatar import Avatar, AvatarLike, load_avatar
from .backends import beside
from .errors import InputError, ModelError
from .face import find, read_track, track_beside
from .metadata import Metadata
from .model import open_model, weights_of
from .picture import PictureLike, name_of, read_picture
from .preprocess import align, crop_matrix, reduction
from .use import check_use

FAMILIES = ("arcface", "wavsyncswap")
"""Families of networks that tell identities."""
SHARED = "arcface"
"""Stem of the extractor that is taken where a network has no STEM-identity beside it."""

ENLARGED = 2.0
"""How many times the face of a portrait is enlarged before that is told."""

Cut = Callable[[str, int], Picture]
"""cut(template, size) -> the face as an extractor takes it, uint8 (size, size, 3); templates are preprocess's."""


class Extracted(NamedTuple):
    """Whose face a portrait shows."""

    crop: Picture
    """What the extractor saw, uint8 (S, S, 3)."""
    identity: NDArray[np.float32]
    """What it made of it, float32 (1, D)."""
    metadata: Metadata
    """The extractor's."""


def extractor(engine: Path, named: str | os.PathLike[str] | None = None) -> Path:
    """Return the extractor that was `named`, or else the one beside a network.

    That is STEM-identity, else arcface, of the same kind or else .xml or .onnx. Raises ModelError where there is none.
    """
    if named is not None:
        return Path(named)
    path = beside(engine, f"{engine.stem}-identity", SHARED)
    if path is not None:
        return path
    raise ModelError(
        f"{engine.name} takes an identity, and there is neither {engine.stem}-identity{engine.suffix} nor "
        f"{SHARED}{engine.suffix} beside it that tells a portrait's; name the extractor with --identity"
    )


def points(
    portrait: PictureLike,
    picture: Picture,
    face_models: str | os.PathLike[str] | None = None,
) -> NDArray[Any]:
    """Return the five points of the largest face of a portrait, (5, 2) pixels.

    PORTRAIT-stem.track.npz beside the file is taken where it is of one picture (that of a film may have the same
    name), else the face is looked for, with the networks in the folder `face_models` (None: those in the user's
    cache). Raises InputError where there is no face or the track is of another picture, FileNotFoundError where the
    folder lacks a network, BackendError where nothing was fetched.
    """
    name = name_of(portrait, "the portrait")
    if not isinstance(portrait, np.ndarray):
        track = track_beside(portrait)
        if track is not None and len((known := read_track(track)).faces) == 1:
            if known.faces[0] is None:
                raise InputError(f"{track.name} has no face in it; take it away to have {name} looked at")
            known.check_size((picture.shape[1], picture.shape[0]), track.name, name)
            return known.faces[0].points
    found = find(picture, face_models=face_models)
    if not found:
        raise InputError(f"{name} shows no face; take a portrait from the front with the whole head in the picture")
    return max(found, key=lambda face: float(np.prod(face.box[2:] - face.box[:2]))).points


def identity(
    engine: str | os.PathLike[str],
    portrait: PictureLike,
    *,
    weights: str = "",
    use: str = "any",
    device: str = "auto",
    threads: int | None = None,
    face_models: str | os.PathLike[str] | None = None,
) -> NDArray[np.float32]:
    """Return the identity of a portrait's largest face, float32 (1, D), of unit length, by the extractor `engine`.

    `weights` is the sha256 of the ONNX that the extractor has to be of, "" where any will do; `device` and `threads`
    are as of `open_engine`, `face_models` is as of `points`.
    Raises FileNotFoundError, ModelError, InputError or BackendError.
    """
    cut = aligned(portrait, face_models)
    return extract(Path(engine), cut, weights=weights, use=use, device=device, threads=threads).identity


def aligned(portrait: PictureLike, face_models: str | os.PathLike[str] | None = None) -> Cut:
    """Return what cuts the largest face out of a portrait, for `extract`; `face_models` and errors as of `points`."""
    picture = read_picture(portrait)

    def cut(template: str, size: int) -> Picture:
        matrix = crop_matrix(template, points(portrait, picture, face_models), size)
        if (enlarged := 1 / reduction(matrix)) > ENLARGED:
            name = name_of(portrait, "the portrait")
            warnings.warn(
                f"{name} shows a face of few pixels, enlarged {enlarged:.1f} times; take a larger picture",
                stacklevel=2,
            )
        return align(picture, matrix, size)

    return cut


def extract(
    engine: Path,
    cut: Cut,
    *,
    weights: str = "",
    use: str = "any",
    device: str = "auto",
    threads: int | None = None,
) -> Extracted:
    """Return the crop that the extractor `engine` takes, and the identity that it makes of it.

    Raises as `identity`, and what `cut` raises.
    """
    backend, metadata = open_model(engine, use=use, device=device, threads=threads)
    with contextlib.closing(backend):
        if set(backend.inputs) != {"portrait"} or "identity" not in backend.outputs or metadata.family not in FAMILIES:
            raise ModelError(
                f"{engine.name} is {metadata.family} {metadata.role} that takes {', '.join(backend.inputs)}, expected "
                "an extractor that makes identity from portrait"
            )
        if weights not in ("", weights_of(metadata, engine)):
            raise ModelError(
                f"{engine.name} is not the extractor that the network was exported with, whose identities alone mean "
                "something to it; copy that one"
            )
        template = f"{metadata.variant}-{metadata.family}" if metadata.variant == "simswap" else metadata.family
        crop = cut(template, backend.inputs["portrait"].shape[1])
        vector: NDArray[np.float32] = backend.run({"portrait": crop[None]})["identity"].astype(np.float32)
    if not np.isfinite(vector).all():
        raise ModelError(f"{engine.name} makes no finite identity; its weights are damaged, export it again")
    return Extracted(crop, vector, metadata)


def of_avatar(face: AvatarLike, weights: str, *, use: str = "any") -> NDArray[np.float32]:
    """Return the identity that an avatar of a film was prepared with, float32 (1, D).

    `weights` is the sha256 of the source ONNX that the network names, "" where it names none. Raises ModelError where
    the avatar is for another network or may not be used for `use`, and InputError where it has no identity.
    """
    avatar = face if isinstance(face, Avatar) else load_avatar(face)
    name = "the avatar" if isinstance(face, Avatar) else Path(face).name
    check_use(avatar, name, use)
    if avatar.film is None:
        raise InputError(f"{name} holds one picture and no identity; give a portrait, or an avatar of a film")
    if avatar.weights != weights:
        raise ModelError(
            f"{name} was prepared for another network, whose identities mean nothing to this one; give a picture of "
            "the person instead"
        )
    return avatar.film.identity
