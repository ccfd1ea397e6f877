"""Avatars: a source with the features that a network's source graph made of it, in one file.

An `.avatar` file is safetensors: `source`, `boxes` and the features in fp16, which are memory-mapped when it is
loaded; for a film also what prepares its frames again and pastes them back. Its header says what family and weights
they belong to, under what licence the face stands and what it may be used for, who gave consent, and the person's
name. Preparing films is in film_avatar.py.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backends import Arrays, Backend, beside, shared_device
from .bundled import find_avatar, find_engine
from .errors import InputError, ModelError, word
from .files import replacing
from .metadata import Metadata
from .model import open_model, weights_of
from .picture import PictureLike, read_picture
from .preprocess import check_text, square_crop, whole_box
from .use import ALLOWED, terms, warn_of_photos

FORMAT = 1
PICTURE = {"source"}
"""Inputs of a source engine that prepares a picture."""
FRAMES = {"target", "reference", "identity"}
"""Inputs of a source engine that prepares a film, frame by frame."""
FILM = {"target": 4, "matrices": 3, "at": 1, "identity": 2}
"""Arrays of a Film, by the same names in the file, and how many axes each has."""
MORE = {"jaws": 3, "pictures": 2}
"""Those that it may lack."""
DTYPES = {"U8": np.uint8, "F16": np.float16, "F32": np.float32}
PICTURES = (b"\x89PNG", b"\xff\xd8\xff")
"""How files of pictures begin that may be taken for an avatar."""
APART = 8
"""Frames between a frame of a film and its reference, where the film allows; as in training."""


@dataclass(frozen=True, eq=False)
class Film:
    """What an avatar keeps of its film: enough to prepare the frames again, and to paste them back."""

    target: NDArray[np.uint8]
    """The aligned crop of each frame, uint8 (N, S, S, 3) RGB."""
    matrices: NDArray[np.float32]
    """From a picture of the film to its crop, float32 (N, 2, 3), as preprocess.align and postprocess.paste take it."""
    at: NDArray[np.float32]
    """Index of each frame's picture in the film, float32 (N,)."""
    identity: NDArray[np.float32]
    """Of the portrait whose face is painted, float32 (1, D)."""
    size: tuple[int, int]
    """Of the film's pictures: width, height in pixels."""
    fps: Fraction
    """Pictures per second of the film; the avatar's frames follow each other at the network's own rate."""
    jaws: NDArray[np.float32] | None = None
    """The edge of the face in each, float32 (N, 17, 2) pixels of the film, as Face.jaw; NaN where nobody told."""
    pictures: NDArray[np.uint8] | None = None
    """The pictures themselves, JPEGs that zeros fill up, uint8 (N, B), at most backdrop.LONGEST pixels long; None
    where the avatar has its crops alone."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what it holds of FILM and MORE, by name."""
        return {key: value for key in FILM | MORE if (value := getattr(self, key)) is not None}

    @property
    def reference(self) -> NDArray[np.uint8]:
        """The other frame that the network looks at for each, as `references` says."""
        frames = range(len(self.target))
        return self.target[references(frames, frames)]


def references(shown: Sequence[int], frames: Sequence[int]) -> list[int]:
    """Return, for each of `frames`, the index in `shown` (frames of its scene with a face) of its reference.

    It is the first, and for those near it the first that is APART from it, or the farthest where none is: another
    frame than itself, unless there is none. Frames are given as positions in time.

    >>> references([0, 1, 2], [0, 1, 2])
    [2, 2, 0]
    """
    away = [abs(at - shown[0]) for at in shown]
    apart = min(APART, max(away))
    later = next(i for i, far in enumerate(away) if far >= apart)
    return [later if abs(at - shown[0]) < apart else 0 for at in frames]


@dataclass(frozen=True, eq=False)
class Avatar:
    """A prepared source."""

    source: NDArray[np.uint8]
    """The cropped picture, uint8 (S, S, 3) RGB: the face itself, or the portrait whose face a film is given."""
    features: dict[str, NDArray[np.float16]]
    """What the source graph made of it, by output name; the first axis counts frames, 1 for a picture."""
    boxes: NDArray[np.float32]
    """Where the face lay in each frame of a film, from brow to chin; for a picture all of it, as the face fills it.

    float32 (N, 4): left, top, right, bottom in pixels.
    """
    family: str
    weights: str
    """sha256 of the source ONNX that made the features."""
    licence: str = ""
    consent: str = ""
    """Who agreed, and when, that this face is animated."""
    name: str = ""
    """The person's name."""
    use: str = "any"
    """What the face may be used for: "any" or "non-commercial"."""
    film: Film | None = None

    @property
    def frames(self) -> int:
        """How many frames it has: 1 for a picture."""
        return len(self.boxes)

    def __repr__(self) -> str:
        what = f"{self.frames} frames of a film" if self.film else "a picture"
        return f"<Avatar of {self.name or 'nobody named'}, {what}, for {self.family}, {self.use} use>"


AvatarLike = str | os.PathLike[str] | Avatar
"""A file, the bare name of a bundled one, or what was read from one."""


def save_avatar(avatar: Avatar, path: str | os.PathLike[str]) -> None:
    """Write an avatar, whole or not at all; equal avatars give equal bytes.

    Features go to the file one by one, so that those of a film need not fit into memory twice. Raises InputError where
    an array, a text or what the face may be used for is none that an avatar has.
    """
    check_words(avatar.licence, avatar.consent, avatar.name, avatar.use)
    tensors: dict[str, NDArray[Any]] = {"source": avatar.source, "boxes": avatar.boxes, **avatar.features}
    header = {
        "format": str(FORMAT),
        "family": avatar.family,
        "weights": avatar.weights,
        "licence": avatar.licence,
        "consent": avatar.consent,
        "name": avatar.name,
    }
    if avatar.use != "any":
        header["use"] = avatar.use
    if avatar.film is not None:
        tensors |= avatar.film.arrays()
        header["film"] = "{}x{} {}".format(*avatar.film.size, avatar.film.fps)
    names = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
    for key, values in tensors.items():
        if values.dtype not in names:
            raise InputError(f"{key}: got {values.dtype}, an avatar holds {', '.join(map(str, names))}")
    if misfit := _misfit(avatar.source, avatar.boxes, avatar.features, avatar.film):
        raise InputError(f"this is no avatar: {misfit}; take what make_avatar and load_avatar return")
    for key, values in avatar.features.items():
        if not all(np.isfinite(frame).all() for frame in np.atleast_1d(values)):
            raise InputError(f"{key}: got NaN or infinite numbers; look at what computed it")
    layout: dict[str, Any] = {"__metadata__": header}
    end = 0
    order = sorted(tensors, key=lambda key: (-tensors[key].itemsize, key))  # as safetensors aligns them
    for key in order:
        values = tensors[key]
        layout[key] = {
            "dtype": names[values.dtype],
            "shape": list(values.shape),
            "data_offsets": [end, end + values.nbytes],
        }
        end += values.nbytes
    head = json.dumps(layout, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    head = head.ljust(-(-len(head) // 8) * 8)
    with replacing(path) as part, part.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for key in order:
            file.write(np.ascontiguousarray(tensors[key]).data)


def load_avatar(path: str | os.PathLike[str]) -> Avatar:
    """Read an avatar; the features stay in the file until they are used.

    `path` is an .avatar file, or the bare name of a bundled one. Raises FileNotFoundError, IsADirectoryError,
    InputError where it is no name, and ModelError where the file is truncated, damaged, no avatar or of a newer format.

    >>> load_avatar("ada").licence
    'Apache-2.0'
    """
    path = find_avatar(path)
    if path.is_dir():  # of which some have no name to tell of
        raise IsADirectoryError(errno.EISDIR, "Is a folder, expected an .avatar file; name the one in it", str(path))
    again = f"prepare it again: edgetalk avatar ENGINE PICTURE -o {_kept(path)}"
    layout, start = _read_layout(path, again)
    header = layout.pop("__metadata__", {})
    if re.fullmatch("[0-9]+", made := header.get("format", "")) and (len(made) > 9 or int(made) > FORMAT):
        raise ModelError(
            f"{path.name} is an avatar of format {made[:9]}, this edgetalk reads up to {FORMAT}; "
            "upgrade it: pip install -U edgetalk"
        )
    tensors = _map_tensors(path, layout, start, again)
    try:
        fields = {key: header[key] for key in ("family", "weights", "licence", "consent", "name")}
        source, boxes = tensors.pop("source"), tensors.pop("boxes")
        film = _read_film(header["film"], tensors) if "film" in header else None
    except KeyError as error:
        raise ModelError(f"{path.name} is no avatar: it lacks {error}; {again}") from None
    if misfit := _misfit(source, boxes, tensors, film):
        raise ModelError(f"{path.name} is no avatar: {misfit}; {again}")
    return Avatar(source, tensors, boxes, use=header.get("use", "any"), film=film, **fields)


def _kept(path: Path) -> str:
    """How a command that a message tells names the avatar of a file."""
    return word(path.with_suffix(".avatar").name)


def _read_layout(path: Path, again: str) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file, and where its tensors start; ModelError where it is none."""
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        head = file.read(8)
        start = 8 + int.from_bytes(head, "little")
        try:
            with safe_open(path, "np"):  # checks that header and tensors fill the file
                pass
            return json.loads(file.read(start - 8)), start
        except (SafetensorError, ValueError) as error:
            if head.startswith(PICTURES):
                raise ModelError(
                    f"{path.name} is a picture and no avatar; pass it as source= or --source, or prepare it: "
                    f"edgetalk avatar ENGINE {word(path.name)} -o {_kept(path)}"
                ) from None
            raise ModelError(f"{path.name} is truncated or no avatar ({error}); {again}") from None


def _map_tensors(path: Path, layout: dict[str, Any], start: int, again: str) -> dict[str, NDArray[Any]]:
    """Return the tensors of a safetensors file, mapped; ModelError where one is of a type that no avatar has."""
    for name, entry in layout.items():
        if entry["dtype"] not in DTYPES:
            expected = ", ".join(DTYPES)
            raise ModelError(f"{path.name} is no avatar: its {name} is {entry['dtype']}, expected {expected}; {again}")
    memory = np.memmap(path, np.uint8, "r")
    return {
        name: np.asarray(memory[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]])
        .view(DTYPES[entry["dtype"]])
        .reshape(entry["shape"])
        for name, entry in layout.items()
    }


def _misfit(source: NDArray[Any], boxes: NDArray[Any], features: dict[str, NDArray[Any]], film: Film | None) -> str:
    """Say what of the arrays of a file no avatar has, "" where nothing is wrong."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        return f"its boxes have shape {boxes.shape}"
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape != (len(source), len(source), 3):
        return f"its picture is {source.dtype} {source.shape}"
    axes = [("boxes", boxes, 2), *((key, values, max(1, values.ndim)) for key, values in features.items())]
    axes += [(key, values, (FILM | MORE)[key]) for key, values in film.arrays().items()] if film else []
    for key, values, count in axes:
        if values.ndim != count:
            return f"its {key} has shape {values.shape}"
    lengths = {len(values) for key, values, _ in axes if key != "identity"}
    if 0 in lengths:
        return "it has no frames"
    return f"it has {min(lengths)} and {max(lengths)} frames" if len(lengths) > 1 else ""


def _read_film(text: str, tensors: dict[str, NDArray[Any]]) -> Film:
    """Return the film of a file, whose arrays are taken out of `tensors`; KeyError tells what is missing."""
    arrays = {key: tensors.pop(key) for key in FILM} | {key: tensors.pop(key) for key in MORE if key in tensors}
    found = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9}) ([1-9][0-9]{0,9}(?:/[1-9][0-9]{0,9})?)", text)
    if found is None:
        raise KeyError("film")
    return Film(**arrays, size=(int(found[1]), int(found[2])), fps=Fraction(found[3]))


def make_avatar(
    engine: str | os.PathLike[str],
    picture: PictureLike,
    *,
    licence: str = "",
    consent: str = "",
    name: str = "",
    use: str | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Avatar:
    """Prepare a picture for the network whose step is `engine`, by the source engine beside it.

    `engine` is a file, or the bare name of a bundled model. The picture is a square crop of an aligned face, a file or
    uint8 (S, S, 3). `device` and `threads` are as of `open_engine`, the device that of the step; licence, consent, name
    and use are as of `Avatar`, use None is what the source engine allows. Raises FileNotFoundError, ModelError where
    the source engine is missing or cannot be used, InputError where the picture cannot or `use` is none of a face or
    more than the source engine allows, and BackendError.
    """
    check_words(licence, consent, name, use)
    original = read_picture(picture)
    source, metadata = open_source(engine, PICTURE, device, threads)
    with closing(source):
        licence, use = terms(licence, use, (f"{Path(engine).stem}-source", metadata))
        warn_of_photos(metadata.faces, metadata.persons, Path(engine).stem)
        crop = square_crop(original, source.inputs["source"].shape[1]).copy()  # not the caller's own array
        features = halved(source.run({"source": crop[None]}), f"{Path(engine).stem}-source")
    return Avatar(
        source=crop,
        features=features,
        boxes=whole_box(original),
        family=metadata.family,
        weights=metadata.onnx,
        licence=licence,
        consent=consent,
        name=name,
        use=use,
    )


def check_words(licence: str, consent: str, name: str, use: str | None) -> None:
    """Raise InputError if these texts cannot be stored; `use=None` means not stated."""
    for key, text in (("licence", licence), ("consent", consent), ("name", name)):
        check_text(key, text)
    if use is not None:
        check_allowed(use)


def check_allowed(use: str) -> None:
    """Raise InputError where `use` is nothing that a face may be used for."""
    if use not in ALLOWED:
        raise InputError(f'use: got {use!r}, expected "any" or "non-commercial", what the face may be used for')


def open_source(
    engine: str | os.PathLike[str], takes: Collection[str], device: str = "auto", threads: int | None = None
) -> tuple[Backend, Metadata]:
    """Open the source engine beside the step `engine`, which has to take these inputs; it is to be closed.

    `engine` is a file, or the bare name of a bundled model. The returned metadata always has the ONNX's
    hash, also when the file is the ONNX itself. Raises ModelError where it is missing or takes something else, and as
    `open_engine`.
    """
    step = find_engine(engine)
    found = beside(step, f"{step.stem}-source")
    if found is None:
        raise ModelError(
            f"{step.name} has no {step.stem}-source{step.suffix} beside it, which prepares avatars; "
            "copy that file too, or build the model again"
        )
    backend, metadata = open_model(found, device=shared_device(device, step, found), threads=threads)
    if set(backend.inputs) != set(takes):
        backend.close()
        other = "PICTURE" if "source" in backend.inputs else "--video FILM --portrait PICTURE"
        raise ModelError(
            f"{found.name} takes {', '.join(backend.inputs)}, expected {', '.join(sorted(takes))}; "
            f"this model's avatars are made by: edgetalk avatar ENGINE {other}"
        )
    return backend, replace(metadata, onnx=weights_of(metadata, found))


def halved(results: Arrays, name: str) -> dict[str, NDArray[np.float16]]:
    """Return copies of what the engine `name` made in half precision; raises ModelError where that is too large."""
    with np.errstate(over="ignore"):
        features = {key: value.astype(np.float16) for key, value in results.items()}
    for key, value in features.items():
        if not np.isfinite(value).all():
            raise ModelError(f"{name} made {key} too large for fp16; its weights are damaged, train it again")
    return features
