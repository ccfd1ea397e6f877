"""What is seen of the faces in one frame, by two small networks and without a memory.

find and Tracker in tracker.py are what to use; these are their parts.
"""

from __future__ import annotations

import os
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from edgetalk.arrays import Array, Picture

from .blazeface import BlazeFace, overlaps
from .facemesh import EYES, FaceMesh, Place, angles, box_around, five_points, jaw, openness, place_around, rotation
from .models import find_face_models
from .track import Face

PRESENCE = 0.5  # of the mesh, below which there is no face
SAME = 0.3  # overlap (intersection over union) of two boxes of one face

OPEN = 0.30  # aspect ratio of open eyes, until a face has shown its own
WIDER, NARROWER = 0.15, 3.0  # seconds after which a wider, a narrower eye is believed to be the open one
RAISED = 0.6  # part of the opening that the mesh loses per radian that a head is raised: 12 % at 11° in drawn heads
STARTS, SHUT = 0.92, 0.62  # of the open eye's ratio: where a blink starts, and what the mesh shows of closed lids


class Sight(NamedTuple):
    """One face as the mesh saw it in one frame."""

    points: Array
    """float32 (468, 3): x, y in pixels of the frame, depth in the same unit."""
    presence: float

    @property
    def box(self) -> Array:
        return box_around(self.points)

    @property
    def size(self) -> float:
        """The longer side of the box in pixels, which a turning head changes least."""
        box = self.box
        return float((box[2:] - box[:2]).max())

    def place(self) -> Place:
        """Where this face will be looked for in the next frame."""
        return place_around(self.points[:, :2], self.points[EYES[0][0], :2], self.points[EYES[1][1], :2])


class Eyes:
    """Lids from aspect ratios: what counts as open is learnt from the face, quickly upwards and slowly downwards."""

    def __init__(self, fps: Fraction) -> None:
        self._wider, self._narrower = (1 - np.exp(-1 / (seconds * float(fps))) for seconds in (WIDER, NARROWER))
        self.reset()

    def reset(self) -> None:
        """Forget the face."""
        self._open = np.full(2, OPEN)

    def __call__(self, ratios: Array) -> Array:
        """Return blink, float32 (2,): the subject's left and right eye, from ratios in the viewer's order."""
        self._open += np.where(ratios > self._open, self._wider, self._narrower) * (ratios - self._open)
        closed = (STARTS - ratios / self._open) / (STARTS - SHUT)
        return np.array(np.clip(closed, 0, 1)[::-1], np.float32)


class Look:
    """The two networks, opened: what is seen in one frame, without a memory. One thread at a time may use it."""

    def __init__(self, face_models: str | os.PathLike[str] | None) -> None:
        files = find_face_models(face_models)
        self._detector, self._mesh = BlazeFace(files.detector), FaceMesh(files.mesh)

    def at(self, frame: Picture, place: Place) -> Sight | None:
        """Return the face at a place, or None."""
        height, width = frame.shape[:2]
        x, y = place.centre.tolist()
        if not (0 <= x < width and 0 <= y < height and place.side >= 8):
            return None
        sight = Sight(*self._mesh.look(frame, place))
        return sight if sight.presence >= PRESENCE else None

    def all(self, frame: Picture, closely: bool = True) -> list[Sight]:
        """Return the faces of a frame, from left to right; `closely` finds small ones too."""
        seen: list[Sight] = []
        for found in self._detector.find(frame, closely):
            (left, top, right, bottom), eyes = found.box, found.points[:2]
            corners = np.array([(left, top), (right, top), (left, bottom), (right, bottom)])
            sight = self.at(frame, place_around(corners, *eyes))
            sight = sight and self.at(frame, sight.place())  # the mesh sees best in the square that it chose itself
            if sight and not any(overlaps(sight.box, other.box[None])[0] > SAME for other in seen):
                seen.append(sight)
        return sorted(seen, key=lambda sight: float(sight.box[0] + sight.box[2]))

    def close(self) -> None:
        """Free both engines."""
        self._detector.close()
        self._mesh.close()


def pose_blink(sight: Sight, eyes: Eyes) -> tuple[Array, Array]:
    """Return pose and blink of a face as Face has them; `eyes` know what its open eyes look like."""
    turned = rotation(sight.points)
    pose = angles(turned)
    raised = min(max(0.0, float(pose[1])), 1.0)
    return pose, eyes(openness(sight.points, turned) / (1 - RAISED * raised))


def face_of(sight: Sight, eyes: Eyes) -> Face:
    """Return what one frame tells of a face; `eyes` know what its open eyes look like."""
    pose, blink = pose_blink(sight, eyes)
    mesh = sight.points[:, :2].copy()
    return Face(sight.box, five_points(mesh), sight.presence, mesh, pose, blink, jaw(mesh))
