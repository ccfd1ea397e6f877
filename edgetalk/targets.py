"""The frames of a film in the order in which they are dubbed, each with the face that is to speak.

Says how long a dubbed film is, what is shown where the film is too short, and which other frame a network may look at.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from .arrays import Picture, Planes
from .avatar import APART, references
from .errors import InputError, counted
from .face import Face, Tracker, read_track, track_beside
from .face.cuts import THUMB, Scenes
from .face.tracker import LARGEST
from .planes import small, to_rgb
from .preprocess import whole
from .reader import Reader

FITS = ("ping-pong", "hold", "trim")
"""ping-pong: as long as the sound; a film that is too short runs back and forth, one that is too long is cut.
hold: as long as the longer of the two; the film's last picture is held, the sound is followed by silence.
trim: as long as the shorter of the two."""
LOOK = 64  # frames after the first face within which the second reference is looked for


class Target(NamedTuple):
    """One frame to dub."""

    at: int
    """Index of the picture in the film."""
    planes: Planes
    """The picture, see planes.py; its own copy."""
    face: Face | None
    scene: int
    """Number of the scene that the picture is of: how many cuts come before it in the film."""


class Faces:
    """The face that speaks in each picture of a film: from a track file, or looked for once.

    `track` is a track file; where it is None, FILM-stem.track.npz beside the film is taken if there is one, else the
    face is tracked: the largest, the one of that index from the left, or the one like a portrait (`face`), with the
    networks in the folder `face_models` (None: those in the user's cache). Raises FileNotFoundError, InputError where
    the track is of another film or a face is to be picked from one, BackendError where nothing was fetched.
    """

    def __init__(
        self,
        film: Reader,
        track: str | os.PathLike[str] | None = None,
        face: int | str | os.PathLike[str] = LARGEST,
        face_models: str | os.PathLike[str] | None = None,
    ) -> None:
        self._film = film
        self._tracker: Tracker | None = None
        path = track_beside(film.path) if track is None else Path(track)
        self._track: list[Face | None] = []
        if path is None:
            self._tracker = Tracker(film.fps, face_models=face_models, face=face)
        elif face != LARGEST:
            raise InputError(
                f"face: got {face}, and {path.name} holds one face, picked when it was made; leave face out, or move "
                "the track away to have the film tracked"
            )
        else:
            known, self._name = read_track(path), path.name
            if known.fps != film.fps:
                raise InputError(
                    f"{path.name} is of a film of {known.fps} frames per second, {film.path.name} has {film.fps}; "
                    "make it again"
                )
            known.check_size(film.size, path.name, film.path.name)
            self._track = known.faces
        self.whom = f"face {face} (0 is the leftmost)" if whole(face) is not None else "face"
        self._seen: list[Face | None] = []
        self._scenes, self._numbers = Scenes(), list[int]()
        self.ended = False
        """Whether the film had no more pictures when `check_end` looked."""

    @property
    def found(self) -> int:
        """How many of the pictures seen so far have a face."""
        return sum(face is not None for face in self._seen)

    def close(self) -> None:
        """Free the tracker's engines."""
        if self._tracker is not None:
            self._tracker.close()

    def of(self, index: int, planes: Planes) -> Face | None:
        """Return the face of a picture.

        Indices must be consecutive at first; only the first call for one returns a mesh.
        """
        if index == len(self._seen):
            if self._tracker is not None:
                width, height = self._film.size
                face: Face | None = self._tracker.update(to_rgb(planes)[:height, :width])
                self._seen.append(face and face.without_mesh())  # these are kept for good
                self._numbers.append(self._tracker.scene)
                return face
            elif index < len(self._track):
                self._seen.append(self._track[index])
                self._scenes.cut(small(planes, THUMB))
                self._numbers.append(self._scenes.number)
            else:
                raise InputError(
                    f"{self._name} has {len(self._track)} frames and {self._film.path.name} has more; make it again"
                )
        return self._seen[index]

    def check_end(self, pictures: Iterator[Planes]) -> None:
        """Look whether the film's `pictures` have ended after those seen so far; InputError where its track goes on."""
        self.ended = next(pictures, None) is None
        if self.ended and len(self._seen) < len(self._track):
            raise InputError(
                f"{self._name} has {len(self._track)} frames and {self._film.path.name} has {len(self._seen)}; "
                "make it again"
            )

    def scene(self, index: int) -> int:
        """Return the number of the scene of a picture whose face was asked for: how many cuts come before it."""
        return self._numbers[index]

    def target(self, index: int, planes: Planes) -> Target:
        """Return a picture with its face and its scene; new ones are to come in their order."""
        return Target(index, planes, self.of(index, planes), self.scene(index))


def length(film: Reader, sounding: int, fit: str) -> int:
    """Return how many frames the dubbed film has, as far as its header tells; `sounding` is the frames of sound."""
    if not film.length or fit == "ping-pong":
        return sounding
    return max(film.length, sounding) if fit == "hold" else min(film.length, sounding)


def targets(film: Reader, faces: Faces, sounding: int, fit: str) -> Iterator[Target]:
    """Yield the frames to dub, for `sounding` frames of sound.

    Raises InputError where no picture of the film had a face, or its track goes on after its end.
    """
    count, pictures = 0, film.planes()
    wanted = itertools.count() if fit == "hold" else range(sounding)
    last: Target | None = None  # one behind, for the film's last picture is kept, and what was yielded is painted
    for index, planes in zip(wanted, pictures, strict=False):  # in this order, which draws no picture too many
        if last is not None:
            yield last
        count, last = index + 1, faces.target(index, planes)
    faces.check_end(pictures)
    if last is None or not faces.found:
        raise InputError(f"{film.path.name} shows no {faces.whom} in {counted(count, 'picture')}; nothing was dubbed")
    kept = last.planes.copy()
    yield last
    if fit == "ping-pong":
        given = count
        for index, planes in _back_and_forth(film, count) if given < sounding else ():
            yield faces.target(index, planes)
            given += 1
            if given == sounding:
                return
    elif fit == "hold" and count < sounding:
        for _ in range(count, sounding):
            yield last._replace(planes=kept.copy())


def _back_and_forth(film: Reader, count: int) -> Iterator[tuple[int, Planes]]:
    """Yield what follows a film of `count` pictures that was shown once: back to the first, on to the last, …"""
    if count == 1:
        only = next(film.planes())
        while True:
            yield 0, only.copy()
    while True:
        yield from zip(range(count - 2, -1, -1), film.backwards(count - 1), strict=True)
        yield from zip(range(1, count), film.planes(1), strict=False)


Crops = Callable[[Planes, Face], list[Picture | None]]


def with_references(frames: Iterator[Target], crop: Crops) -> Iterator[tuple[Target, list[Picture | None]]]:
    """Yield each frame with the crops of a reference: another frame of its scene, at least APART away where it can be.

    It is the scene's first with a face, and for those near it the first one far enough from it; a scene that is too
    short for that has the farthest. A scene that is shown backwards begins at its end. `crop` returns what the painters
    cut out of a frame, an empty list where there is nothing to cut.
    """
    for _, scene in itertools.groupby(frames, lambda frame: frame.scene):  # beyond a cut may be somebody else
        yield from _within_scene(scene, crop)


def _within_scene(frames: Iterator[Target], crop: Crops) -> Iterator[tuple[Target, list[Picture | None]]]:
    crops: dict[int, list[Picture | None]] = {}  # of the frames that may be references, by their index in the film
    held: deque[Target] = deque()  # until both references are known
    far = looked = False

    def with_reference(frame: Target) -> tuple[Target, list[Picture | None]]:
        shown = list(crops)
        return frame, crops[shown[references(shown, [frame.at])[0]]] if crops else []

    for frame in frames:
        held.append(frame)
        if not far and frame.face is not None and frame.at not in crops and (cut := crop(frame.planes, frame.face)):
            crops[frame.at] = cut
            far = abs(frame.at - next(iter(crops))) >= APART
        looked |= len(held) > LOOK  # the face left, or the film runs back and forth within a few pictures
        while held and (far or looked or not crops):
            yield with_reference(held.popleft())
    yield from map(with_reference, held)
