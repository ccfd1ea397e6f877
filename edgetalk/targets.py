"""The frames of a film in the order in which they are dubbed, each with the face that is to speak.

Says how long a dubbed film is, what is shown where the film is too short, and which other frame a network may look at.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .avatar import APART
from .errors import InputError
from .face import Face, Tracker, read_track, track_beside, track_rate
from .face.tracker import LARGEST
from .planes import to_rgb
from .preprocess import Picture
from .reader import Reader

Image = NDArray[np.uint8]

FITS = ("ping-pong", "hold", "trim")
"""ping-pong: as long as the sound; a film that is too short runs back and forth, one that is too long is cut.
hold: as long as the longer of the two; the film's last picture is held, the sound is followed by silence.
trim: as long as the shorter of the two."""
LOOK = 64  # frames after the first face within which the second reference is looked for


class Target(NamedTuple):
    """One frame to dub."""

    at: int
    """Index of the picture in the film."""
    planes: Image
    """The picture, see planes.py; its own copy."""
    face: Face | None


class Faces:
    """The face that speaks in each picture of a film: from a track file, or looked for once.

    `track` is a track file; where it is None, FILM-stem.track.npz beside the film is taken if there is one, else the
    face is tracked: the largest, the one of that index from the left, or the one like a portrait (`pick`), with the
    networks in the folder `face_models` (None: those in the user's cache). Raises FileNotFoundError, InputError where
    the track is of another film or a face is to be picked from one, BackendError where nothing was fetched.
    """

    def __init__(
        self,
        film: Reader,
        track: str | os.PathLike[str] | None = None,
        pick: int | str | os.PathLike[str] = LARGEST,
        face_models: str | os.PathLike[str] | None = None,
    ) -> None:
        self._film = film
        self._tracker: Any = None
        path = track_beside(film.path) if track is None else Path(track)
        self._track: list[Face | None] = []
        if path is None:
            self._tracker = Tracker(film.fps, models=face_models, pick=pick)
        elif pick != LARGEST:
            raise InputError(
                f"face: got {pick}, and {path.name} holds one face, picked when it was made; leave face out, or move "
                "the track away to have the film tracked"
            )
        else:
            self._track, self._name = read_track(path), path.name
            if track_rate(path) != film.fps:
                raise InputError(
                    f"{path.name} is of a film of {track_rate(path)} frames per second, {film.path.name} has "
                    f"{film.fps}; make it again"
                )
        self.whom = f"face {pick} (0 is the leftmost)" if isinstance(pick, int) else "face"
        self._seen: list[Face | None] = []

    @property
    def found(self) -> int:
        """How many of the pictures seen so far have a face."""
        return sum(face is not None for face in self._seen)

    def close(self) -> None:
        """Free the tracker's engines."""
        if self._tracker is not None:
            self._tracker.close()

    def of(self, index: int, planes: Image) -> Face | None:
        """Return the face of a picture; new ones are to come in their order."""
        if index == len(self._seen):
            if self._tracker is not None:
                width, height = self._film.size
                self._seen.append(self._tracker.update(to_rgb(planes)[:height, :width]))
            elif index < len(self._track):
                self._seen.append(self._track[index])
            else:
                raise InputError(
                    f"{self._name} has {len(self._track)} frames and {self._film.path.name} has more; make it again"
                )
        return self._seen[index]


def length(film: Reader, sounding: int, fit: str) -> int:
    """Return how many frames the dubbed film has, as far as its header tells; `sounding` is the frames of sound."""
    if not film.length or fit == "ping-pong":
        return sounding
    return max(film.length, sounding) if fit == "hold" else min(film.length, sounding)


def targets(film: Reader, faces: Faces, sounding: int, fit: str) -> Iterator[Target]:
    """Yield the frames to dub, for `sounding` frames of sound.

    Raises InputError where no picture of the film had a face.
    """
    count = 0
    wanted = itertools.count() if fit == "hold" else range(sounding)
    for index, planes in zip(wanted, film.planes(), strict=False):
        count = index + 1
        yield Target(index, planes, faces.of(index, planes))
    if not faces.found:
        raise InputError(f"{film.path.name} shows no {faces.whom} in {count} pictures; nothing was dubbed")
    if fit == "ping-pong":
        given = count
        for index, planes in _back_and_forth(film, count) if given < sounding else ():
            yield Target(index, planes, faces.of(index, planes))
            given += 1
            if given == sounding:
                return
    elif fit == "hold" and count < sounding:
        last = next(film.planes(count - 1))
        for _ in range(count, sounding):
            yield Target(count - 1, last.copy(), faces.of(count - 1, last))


def _back_and_forth(film: Reader, count: int) -> Iterator[tuple[int, Image]]:
    """Yield what follows a film of `count` pictures that was shown once: back to the first, on to the last, …"""
    while True:
        if count == 1:
            yield 0, next(film.planes())
            continue
        yield from zip(range(count - 2, -1, -1), film.backwards(count - 1), strict=True)
        yield from zip(range(1, count), film.planes(1), strict=False)


def with_references(
    frames: Iterator[Target], crop: Callable[[Image, Face], list[Picture | None]]
) -> Iterator[tuple[Target, list[Picture | None]]]:
    """Yield each frame with the crops of a reference: another frame, at least APART away where the film allows.

    It is the first with a face, and for those near it the first one far enough from it. `crop` returns what the
    stages cut out of a frame, an empty list where there is nothing to cut.
    """
    held: deque[Target] = deque()  # until both are known
    first: Target | None = None
    crops: list[list[Picture | None]] = []

    def given(frame: Target) -> tuple[Target, list[Picture | None]]:
        near = first is None or abs(frame.at - first.at) < APART
        return frame, crops[-1 if near else 0] if crops else []

    for frame in frames:
        held.append(frame)
        apart = first is None or (len(crops) == 1 and frame.at - first.at >= APART)
        if apart and frame.face is not None and (cut := crop(frame.planes, frame.face)):
            first = first or frame
            crops.append(cut)
        if first is None or len(crops) == 2 or len(held) > LOOK:
            while held:
                yield given(held.popleft())
    for frame in reversed(held):  # a film that is too short: the farthest that there is
        if len(crops) == 1 and frame.face is not None:
            crops += [cut] if (cut := crop(frame.planes, frame.face)) else []
    while held:
        yield given(held.popleft())
