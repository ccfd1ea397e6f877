"""What is known of a face in a frame, and track files: that of every frame of a film.

A track file (.track.npz) holds what a tracker saw, so that nobody has to look again; drawn films come with exact
ones. Points are (x, y) in pixels, the centre of the first pixel at (0, 0). Who sees faces: tracker.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgetalk.arrays import Array
from edgetalk.clock import frame_rate
from edgetalk.errors import InputError
from edgetalk.files import replacing
from edgetalk.npz import read_npz

TRACK = {"points": (5, 2), "boxes": (4,), "pose": (3,), "blink": (2,)}
"""The arrays of a track file and the shape of each for one frame."""
JAW = (17, 2)
"""The shape of `jaws`, which older track files lack."""


@dataclass(frozen=True, eq=False)
class Face:
    """A face in one frame."""

    box: Array
    """float32 (4,): left, top, right, bottom in pixels, of the face from brow to chin."""
    points: Array
    """float32 (5, 2) pixels: the centre of the eye on the viewer's left, of that on the right, the tip of the nose,
    the corner of the mouth on the viewer's left, that on the right."""
    score: float
    """How sure it is that this is a face, 0 to 1."""
    mesh: Array | None
    """float32 (468, 2) pixels, the points of the face mesh; None where the face comes from a track file."""
    pose: Array
    """float32 (3,): yaw, pitch, roll in radians; the nose to the image's right, up, clockwise as seen."""
    blink: Array
    """float32 (2,): the subject's left and right eye, 0 open to 1 closed."""
    jaw: Array | None = None
    """float32 (17, 2) pixels: the edge of the face from the ear on the viewer's left by way of the chin to the other
    ear, as the first 17 of the 68 landmarks that are usual; None where an older track file does not tell."""

    def without_mesh(self) -> Face:
        """Return the face without its mesh, which is most of it: for what is kept of every frame."""
        return replace(self, mesh=None)


class Track(NamedTuple):
    """What a track file holds."""

    faces: list[Face | None]
    """Of every frame of the film."""
    fps: Fraction
    """Frames per second of the film."""
    size: tuple[int, int] | None
    """Width and height of its pictures in pixels; None where the file does not tell, as older ones."""

    def check_size(self, size: tuple[int, int], name: str, pictures: str) -> None:
        """Raise InputError where this, the track `name`, is not of `pictures` of that width and height.

        Where it does not tell, its faces do: those of another film lie, for the most part, outside the picture.
        """
        has = f"{size[0]}×{size[1]}"
        if self.size is not None and self.size != size:
            had = f"{self.size[0]}×{self.size[1]}"
            raise InputError(f"{name} is of pictures of {had} pixels, {pictures} has {has}; make it again")
        if self.size is None and self._is_outside(size):
            raise InputError(f"{name} has its faces outside the {has} pixels of {pictures}; make it again")

    def _is_outside(self, size: tuple[int, int]) -> bool:
        """Whether of most faces the greater part lies outside a picture of that width and height."""
        boxes = np.array([face.box for face in self.faces if face is not None], np.float32).reshape(-1, 2, 2)
        inside = np.clip(boxes, 0, size)
        shown, whole = (np.prod(corners[:, 1] - corners[:, 0], axis=1) for corners in (inside, boxes))
        return bool(np.count_nonzero(shown < whole / 2) > len(boxes) / 2)


def write_track(
    path: str | os.PathLike[str],
    faces: Sequence[Face | None],
    fps: int | float | str | Fraction,
    size: tuple[int, int] | None = None,
) -> None:
    """Write one face, or None, for every frame of a film at `fps`; the file appears whole or not at all.

    `size` is the width and height of its pictures in pixels, upright; with it the track is refused beside a film of
    another size. The mesh and the score are not kept. Raises InputError where `fps` is no rate.
    """
    rate = frame_rate(fps)
    arrays = {name: np.full((len(faces), *shape), np.nan, np.float32) for name, shape in TRACK.items()}
    for i, face in enumerate(faces):
        if face is not None:
            values = {"points": face.points, "boxes": face.box, "pose": face.pose, "blink": face.blink}
            for name, value in values.items():
                arrays[name][i] = value
    if any(face is not None and face.jaw is not None for face in faces):
        jaws = (np.full(JAW, np.nan) if face is None or face.jaw is None else face.jaw for face in faces)
        arrays["jaws"] = np.stack([*jaws]).astype(np.float32)
    header = {"fps": np.array([rate.numerator, rate.denominator])}
    if size is not None:
        header["size"] = np.array(size)
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **header, **arrays)  # type: ignore[arg-type]


def read_track(path: str | os.PathLike[str]) -> Track:
    """Return what a track file holds: the face, or None, of every frame of its film, their rate and size.

    Raises FileNotFoundError, and InputError where the file is no track or damaged.
    """
    arrays = _track_arrays(path)
    there = np.isfinite(arrays["points"]).all((1, 2))
    jaws: list[Array | None] = [None] * len(there)
    if "jaws" in arrays:
        jaws = [jaw if np.isfinite(jaw).all() else None for jaw in arrays["jaws"]]
    faces = [
        Face(arrays["boxes"][i], arrays["points"][i], 1.0, None, arrays["pose"][i], arrays["blink"][i], jaws[i])
        if seen
        else None
        for i, seen in enumerate(there)
    ]
    size = tuple(arrays["size"].tolist()) if "size" in arrays else None
    return Track(faces, Fraction(*arrays["fps"].tolist()), size)


def track_beside(film: str | os.PathLike[str]) -> Path | None:
    """Return FILM-stem.track.npz where it lies beside the film, else None."""
    track = track_of(film)
    return track if track.is_file() else None


def track_of(film: str | os.PathLike[str]) -> Path:
    """Return FILM-stem.track.npz, where the track of a film is looked for."""
    return Path(f"{os.path.splitext(Path(film))[0]}.track.npz")


def _track_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    name = Path(path).name
    wanted = (*TRACK, "fps")
    arrays = read_npz(path, f"{name} is no track of a face, or it is damaged; make it again", (*wanted, "size", "jaws"))
    if lacks := next((key for key in wanted if key not in arrays), None):
        raise InputError(f"{name} is no track of a face: it has no {lacks}; make it again")
    for key in ("fps", "size"):
        pair = arrays.get(key)
        if pair is not None and (pair.shape != (2,) or pair.dtype.kind not in "iu" or pair.min() < 1):
            raise InputError(f"{name} has {key} {pair.tolist()}, expected two whole numbers above 0; make it again")
    count = len(arrays["points"]) if arrays["points"].ndim else 0
    for key, shape in (TRACK | {"jaws": JAW}).items():
        if key not in arrays:
            continue
        got = arrays[key]
        if got.shape != (count, *shape) or got.dtype.kind != "f":
            raise InputError(
                f"{name} has {key} {got.dtype} {got.shape}, expected float32 {(count, *shape)}; make it again"
            )
        arrays[key] = got.astype(np.float32, copy=False)
    seen = np.isfinite(arrays["points"]).all((1, 2))
    for key in TRACK:
        if not np.isfinite(arrays[key][seen]).all():
            raise InputError(f"{name} has {key} that are no numbers where it has points; make it again")
    return arrays
