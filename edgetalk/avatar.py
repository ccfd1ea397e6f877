"""Avatars: a source picture with the features that a network's source graph made of it, in one file.

An `.avatar` file is safetensors: `source`, `boxes` and the features in fp16, which are memory-mapped when it is
loaded. Its header says what family and weights they belong to, under what licence the picture stands, who gave
consent, and the person's name. Films and face tracking are left out.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backends import SUFFIXES, open_engine
from .errors import ModelError
from .metadata import Metadata
from .preprocess import Picture, read_picture, square_crop

FORMAT = 1
DTYPES = {"U8": np.uint8, "F16": np.float16, "F32": np.float32}


@dataclass(frozen=True)
class Avatar:
    """A prepared source."""

    source: NDArray[np.uint8]
    """The cropped picture, uint8 (S, S, 3) RGB."""
    features: dict[str, NDArray[np.float16]]
    """What the source graph made of it, by output name; the first axis counts frames, 1 for a picture."""
    boxes: NDArray[np.float32]
    """Where each crop lay in its picture, float32 (N, 4): left, top, right, bottom in pixels."""
    family: str
    weights: str
    """sha256 of the source ONNX that made the features."""
    licence: str = ""
    consent: str = ""
    """Who agreed, and when, that this face is animated."""
    name: str = ""
    """The person's name."""


def save(avatar: Avatar, path: str | os.PathLike[str]) -> None:
    """Write an avatar, whole or not at all."""
    import safetensors.numpy

    tensors: dict[str, NDArray[Any]] = {"source": avatar.source, "boxes": avatar.boxes, **avatar.features}
    header = {
        "format": str(FORMAT),
        "family": avatar.family,
        "weights": avatar.weights,
        "licence": avatar.licence,
        "consent": avatar.consent,
        "name": avatar.name,
    }
    data = safetensors.numpy.save({key: np.ascontiguousarray(value) for key, value in tensors.items()}, header)
    size = int.from_bytes(data[:8], "little")  # of the header, which safetensors writes in an order that changes
    ordered = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    data = data[:8] + ordered.encode().ljust(size) + data[8 + size :]
    target = Path(path)
    part = target.with_name(target.name + ".part")
    try:
        part.write_bytes(data)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> Avatar:
    """Read an avatar; the features stay in the file until they are used.

    Raises FileNotFoundError, and ModelError where the file is truncated, damaged, no avatar or of a newer format.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    again = "prepare it again: edgetalk avatar ENGINE PICTURE -o " + path.name
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        try:
            with safe_open(path, "np"):  # checks that header and tensors fill the file
                pass
            layout = json.loads(file.read(start - 8))
        except (SafetensorError, ValueError) as error:
            raise ModelError(f"{path.name} is truncated or no avatar ({error}); {again}") from None
    header = layout.pop("__metadata__", {})
    if header.get("format", "").isdecimal() and int(header["format"]) > FORMAT:
        raise ModelError(
            f"{path.name} is an avatar of format {header['format']}, this edgetalk reads up to {FORMAT}; "
            "upgrade it: pip install -U edgetalk"
        )
    memory = np.memmap(path, np.uint8, "r")
    try:
        tensors = {
            name: np.asarray(memory[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]])
            .view(DTYPES[entry["dtype"]])
            .reshape(entry["shape"])
            for name, entry in layout.items()
        }
        fields = {key: header[key] for key in ("family", "weights", "licence", "consent", "name")}
        source, boxes = tensors.pop("source"), tensors.pop("boxes")
    except KeyError as error:
        raise ModelError(f"{path.name} is no avatar: it lacks {error}; {again}") from None
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape != (len(source), len(source), 3):
        raise ModelError(f"{path.name} is no avatar: its picture is {source.dtype} {source.shape}; {again}")
    return Avatar(source, tensors, boxes, **fields)


def source_engine(engine: Path) -> Path | None:
    """Return the engine of the source graph beside a step's engine: of the same kind, else .xml, else .onnx."""
    for suffix in dict.fromkeys((engine.suffix, *SUFFIXES)):
        candidate = engine.with_name(f"{engine.stem}-source{suffix}")
        if candidate.is_file():
            return candidate
    return None


def make(
    engine: str | os.PathLike[str],
    picture: str | os.PathLike[str] | Picture,
    *,
    licence: str = "",
    consent: str = "",
    name: str = "",
    threads: int | None = None,
) -> Avatar:
    """Prepare a picture for the network whose step is in the file `engine`, by the source engine beside it.

    The picture is a square crop of an aligned face, a file or uint8 (S, S, 3). Raises ModelError where the source
    engine is missing or cannot be used, InputError where the picture cannot.
    """
    path = Path(engine)
    found = source_engine(path)
    if found is None:
        raise ModelError(
            f"{path.name} has no {path.stem}-source{path.suffix} beside it, which prepares new faces; "
            "copy that file too, or build the model again"
        )
    original = read_picture(picture)
    backend = open_engine(found, threads=threads)
    try:
        metadata = Metadata.from_json(backend.metadata, found.name)
        if set(backend.inputs) != {"source"}:
            raise ModelError(f"{found.name} takes {', '.join(backend.inputs)}, expected a source picture alone")
        crop = square_crop(original, backend.inputs["source"].shape[1])
        results = backend.run({"source": crop[None]})
        features = {key: value.astype(np.float16) for key, value in results.items()}
    finally:
        backend.close()
    weights = metadata.onnx or _sha256(found)  # of the ONNX: what was built from it carries the same
    for key, value in features.items():
        if not np.isfinite(value).all():
            raise ModelError(f"{found.name} made {key} too large for fp16; its weights are damaged, train it again")
    return Avatar(
        source=crop,
        features=features,
        boxes=np.array([[0, 0, original.shape[1], original.shape[0]]], np.float32),
        family=metadata.family,
        weights=weights,
        licence=licence,
        consent=consent,
        name=name,
    )


def _sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def recompute(avatar: Avatar, engine: Path, *, threads: int | None = None) -> Avatar:
    """Return an avatar with features of the weights beside `engine`, from the picture that it carries."""
    made = make(engine, avatar.source, threads=threads)
    return replace(avatar, features=made.features, family=made.family, weights=made.weights)
