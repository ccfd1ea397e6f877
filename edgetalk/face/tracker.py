"""Finding faces: `find` looks at a still, `Tracker` follows one face through a film.

Both run two small networks that `edgetalk fetch face` downloads. Where a film has a track file (track.py) neither is
needed. Nobody is recognised here by more than the likeness of two pictures.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np

from edgetalk.arrays import Array, Picture
from edgetalk.clock import frame_rate
from edgetalk.errors import InputError
from edgetalk.picture import read_picture
from edgetalk.preprocess import align, similarity, whole

from .cuts import Scenes
from .facemesh import box_around, five_points, jaw
from .look import Eyes, Look, Sight, face_of, pose_blink
from .smooth import OneEuro
from .track import Face

JUMP = 0.4  # of a face's size, from frame to frame, which no head moves: a cut within a scene
MEMORY = 1.0  # seconds for which a face that left is expected back where it was
CLOSELY = 0.2  # seconds between two searches for small faces, which take longest, while there is none

LARGEST = "largest"
CROP = 48  # pixels, of the crops whose likeness is compared
LIKENESS = np.array([(0.31, 0.36), (0.69, 0.36), (0.5, 0.58), (0.35, 0.78), (0.65, 0.78)])  # five points in that crop

# 1€ filters: cutoff in Hz, and Hz per face size per second for points, per radian per second for poses.
POINTS_FILTER, POSE_FILTER = (2.0, 12.0), (1.5, 6.0)


def find(picture: str | os.PathLike[str] | Picture, *, face_models: str | os.PathLike[str] | None = None) -> list[Face]:
    """Return the faces in a picture, from left to right; an empty list where there is none.

    `picture` is a file or uint8 (H, W, 3) RGB, `face_models` a folder with the two networks. Raises FileNotFoundError,
    InputError where it is no picture, and BackendError where the networks were not fetched.
    """
    frame = read_picture(picture)
    look = Look(face_models)
    try:
        return [face_of(sight, Eyes(Fraction(25))) for sight in look.all(frame)]
    finally:
        look.close()


class Tracker:
    """Follows one face through the frames of a film at `fps`; a context manager.

    `face` says which face where there are several: "largest", a number that counts from the left (0 is the first),
    or the path of a portrait. It is asked when a face is first seen, after a cut, and when the face has been away
    for a second or comes back elsewhere; in between the same face is followed, whoever else comes. During
    that second nobody who stood beside it is taken for it. A portrait's likeness is that of aligned pictures,
    colour by colour: it tells apart two people who look different, but it always picks the most similar face,
    even if the person is absent. `face_models` is a folder with the two networks.

    Points and pose are smoothed over time without a delay of frames; blinks are not, they are too short. A cut
    between scenes, or a jump within one, ends the smoothing: nothing is interpolated over it. Frames without the
    face give None. Raises as find_face_models, and FileNotFoundError or InputError for `face`.

    >>> with Tracker(Fraction(25)) as tracker:
    ...     faces = [tracker.update(frame) for frame in frames]
    """

    def __init__(
        self,
        fps: int | float | str | Fraction,
        *,
        face_models: str | os.PathLike[str] | None = None,
        face: str | int | os.PathLike[str] = LARGEST,
    ) -> None:
        rate = frame_rate(fps)
        self._wanted = whole(face)  # None where it is no number
        if self._wanted is not None and self._wanted < 0:
            raise InputError(f"face: got {face}, expected 0 for the leftmost face, or more")
        if self._wanted is None and not isinstance(face, os.PathLike):
            if not isinstance(face, str) or not (face == LARGEST or os.path.splitext(face)[1] or os.path.exists(face)):
                raise InputError(f"face: got {face!r}, expected largest, a number from the left, or a picture")
        self._look = Look(face_models)
        try:
            self._portrait: Array | None = None
            if isinstance(face, str | os.PathLike) and face != LARGEST:
                self._portrait = self._read_portrait(face)
        except BaseException:
            self._look.close()
            raise
        self._eyes = Eyes(rate)
        self._smooth_points, self._smooth_pose = OneEuro(rate, *POINTS_FILTER), OneEuro(rate, *POSE_FILTER)
        self._memory, self._pause = round(MEMORY * rate), max(1, round(CLOSELY * rate))
        self.reset()

    @property
    def scene(self) -> int:
        """The number of the scene that the last frame is of: how many cuts came before."""
        return self._scenes.number

    def reset(self) -> None:
        """Forget the face and the scenes: the next frame is the first of another film."""
        self._scenes = Scenes()
        self._forget_face()

    def _forget_face(self) -> None:
        self._last: tuple[Sight, Picture] | None = None  # of the face, and the frame it was seen in
        self._away = 0  # frames since then
        self._forget_motion()

    def _forget_motion(self) -> None:
        self._eyes.reset()
        self._smooth_points.reset()
        self._smooth_pose.reset()

    def update(self, frame: Picture) -> Face | None:
        """Return the face in the next frame, uint8 (H, W, 3) RGB, or None where it is not to be seen.

        Every frame is to be an array of its own: where the face is missed, the one before is looked at again.
        """
        frame = read_picture(frame)
        if self._scenes.cut(frame):
            self._forget_face()
        before = self._last[0] if self._last else None
        sight = self._look.at(frame, before.place()) if before and not self._away else None
        if sight is None:
            sight = self._search(frame)
        if sight is None:
            self._away += 1
            return None
        if self._away or before is None or _distance(before, sight) > JUMP * before.size:
            self._forget_motion()
        self._last, self._away = (sight, frame), 0
        return self._smoothed(sight)

    def _search(self, frame: Picture) -> Sight | None:
        """Look all over the frame for the face that just left, near where it was, else for the one that is wanted."""
        seen = self._look.all(frame, closely=self._away % self._pause == 0)
        if not seen:
            return None
        found = seen[self._wanted : self._wanted + 1] if self._wanted is not None else seen
        if self._last is not None and self._away < self._memory:
            last, before = self._last
            near = min(seen, key=lambda sight: _distance(last, sight))
            if _distance(last, near) < last.size / 2:
                return near
            found = [sight for sight in found if not self._beside(last, before, sight)]
        if not found:
            return None
        if (portrait := self._portrait) is not None:
            return max(found, key=lambda sight: float((_crop(frame, sight) * portrait).sum()))
        return max(found, key=lambda sight: sight.size)

    def _beside(self, last: Sight, before: Picture, sight: Sight) -> bool:
        """Whether somebody was where `sight` is when the face was last seen, elsewhere in the same picture."""
        there = self._look.at(before, sight.place())
        return there is not None and _distance(last, there) >= last.size / 2

    def _smoothed(self, sight: Sight) -> Face:
        pose, blink = pose_blink(sight, self._eyes)
        points, pose = self._smooth_points(sight.points[:, :2], sight.size), self._smooth_pose(pose)
        return Face(box_around(points), five_points(points), sight.presence, points, pose, blink, jaw(points))

    def _read_portrait(self, path: str | os.PathLike[str]) -> Array:
        picture = read_picture(path)
        seen = self._look.all(picture)
        if not seen:
            raise InputError(f"{Path(path).name} shows no face; expected the portrait of the person to follow")
        return _crop(picture, max(seen, key=lambda sight: sight.size))

    def close(self) -> None:
        """Free both engines."""
        self._look.close()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _distance(one: Sight, other: Sight) -> float:
    """Between the middles of two faces, in pixels."""
    return float(np.hypot(*(one.points[:, :2].mean(0) - other.points[:, :2].mean(0))))


def _crop(frame: Picture, sight: Sight) -> Array:
    """The inner face, aligned and small, as a vector of length 1: two of them are multiplied for their likeness."""
    matrix = similarity(five_points(sight.points), LIKENESS * CROP - 0.5)
    small = align(frame, matrix, CROP).astype(np.float32) - 128
    return np.asarray(small / max(float(np.linalg.norm(small)), 1e-6), np.float32)
