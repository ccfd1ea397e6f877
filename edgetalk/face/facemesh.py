"""The face mesh: 468 points of a face whose place is roughly known, from face_landmark.tflite, and what they tell.

Kartynnik et al., Real-time facial surface geometry from monocular video on mobile GPUs, 2019. The network sees an
upright square at 192x192; it says where the points are, how deep, and whether this is a face at all. Pose comes from
the points that hardly move in the face, blinks from the lids. Time is not here: see look.py and tracker.py.
"""

from __future__ import annotations

import math
import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgetalk.arrays import Array, Picture
from edgetalk.backends import open_engine

SIZE = 192  # pixels, of what the network sees
POINTS = 468
MARGIN = 1.5  # side of the square, as a multiple of the face's longer side
EYES = ((33, 133), (362, 263))  # corners, from left to right: eye on the viewer's left, on the right
NOSE = 4
MOUTH = (61, 291)  # corners on the viewer's left and right
JAW = (234, 93, 132, 58, 172, 136, 150, 176, 152, 400, 379, 365, 397, 288, 361, 323, 454)  # from ear to ear
LIDS = (((160, 144), (159, 145), (158, 153)), ((385, 380), (386, 374), (387, 373)))  # upper over lower

# A face of our own measuring: the mesh over a few hundred frames of several heads, brought together by similarities,
# averaged with its own mirror image. Chosen are points that neither speech nor lids move (least deviation within a
# film) and that lie far from each other. Unit: the distance between the outer corners of the eyes; origin between
# them; x to the image's right (of the pair's second point), y down, z away from the viewer. Looking straight ahead
# is what drawn heads at pose 0 and speakers who face the camera have in common, within 2 degrees.
_MIDDLE = (
    (10, -0.590, -0.244),
    (151, -0.405, -0.270),
    (9, -0.213, -0.285),
    (168, -0.030, -0.247),
    (4, 0.412, -0.465),
)
_PAIRS = (
    (109, 338, 0.208, -0.584, -0.226),
    (67, 297, 0.386, -0.559, -0.153),
    (108, 337, 0.182, -0.410, -0.255),
    (54, 284, 0.660, -0.407, 0.126),
    (104, 333, 0.501, -0.386, -0.115),
    (66, 296, 0.313, -0.249, -0.247),
    (70, 300, 0.631, -0.172, -0.005),
    (27, 257, 0.370, -0.088, -0.128),
    (33, 263, 0.500, 0.000, 0.000),
    (133, 362, 0.193, 0.024, -0.057),
    (143, 372, 0.692, 0.046, 0.164),
    (23, 253, 0.352, 0.099, -0.076),
    (196, 419, 0.060, 0.163, -0.318),
    (118, 347, 0.497, 0.231, -0.042),
    (126, 355, 0.192, 0.292, -0.171),
    (123, 352, 0.695, 0.344, 0.149),
    (36, 266, 0.334, 0.401, -0.121),
    (115, 344, 0.163, 0.430, -0.332),
    (206, 426, 0.346, 0.569, -0.092),
    (167, 393, 0.089, 0.605, -0.230),
)
RIGID = np.array([row[0] for row in _MIDDLE] + [i for row in _PAIRS for i in row[:2]])
"""Which points of the mesh tell the pose, int (45,)."""
CANONICAL = np.array(
    [(0, y, z) for _, y, z in _MIDDLE] + [(side * x, y, z) for *_, x, y, z in _PAIRS for side in (-1, 1)], np.float64
)
"""Where they are in a face that looks straight ahead, float64 (45, 3)."""
DISTANCE = 12.0  # of the camera that is assumed, in the unit above: about 1.1 m from a person


class Place(NamedTuple):
    """The square in which a face is looked for."""

    centre: NDArray[np.float64]
    """float64 (2,), pixels."""
    side: float
    """Pixels."""
    angle: float
    """Radians, by which the face is turned clockwise as seen."""


def place_around(points: Array, left_eye: Array, right_eye: Array) -> Place:
    """Return the square around points (N, 2) that is upright when the line from eye to eye (both (2,)) is level."""
    along = np.asarray(right_eye - left_eye, np.float64)
    angle = math.atan2(along[1], along[0])
    turn = _turn(angle)
    upright = points @ turn  # turned back by the angle
    low, high = upright.min(0), upright.max(0)
    return Place(turn @ ((low + high) / 2), MARGIN * float((high - low).max()), angle)


def _turn(angle: float) -> NDArray[np.float64]:
    """What turns (x, y) clockwise as seen."""
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


class FaceMesh:
    """The network, opened. One thread at a time may use it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._engine = open_engine(path, threads=1)
        (self._input,) = self._engine.inputs
        self._points, self._presence = sorted(
            self._engine.outputs, key=lambda name: -math.prod(self._engine.outputs[name].shape)
        )

    def look(self, picture: Picture, place: Place) -> tuple[Array, float]:
        """Return the points, float32 (468, 3), and how sure it is that a face is there, 0 to 1.

        x and y are pixels of the picture, uint8 (H, W, 3) RGB; z is depth away from the viewer in pixels, 0 at the
        depth of the whole face.
        """
        import cv2

        scale = SIZE / place.side
        linear = scale * _turn(place.angle).T
        # Between the edges of both pictures; between the centres of pixels, which OpenCV counts by, half a pixel less.
        shift = SIZE / 2 - linear @ (place.centre + 0.5)
        matrix = np.concatenate([linear, (shift + linear @ (0.5, 0.5) - 0.5)[:, None]], 1)
        seen = cv2.warpAffine(picture, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
        results = self._engine.run({self._input: seen[None] * np.float32(1 / 255)})
        raw = results[self._points].reshape(POINTS, 3).astype(np.float64)
        points = np.empty((POINTS, 3), np.float32)
        points[:, :2] = (raw[:, :2] - shift) @ np.linalg.inv(linear).T - 0.5
        points[:, 2] = raw[:, 2] / scale
        logit = float(results[self._presence].ravel()[0])
        return points, 1 / (1 + math.exp(-max(-80.0, min(80.0, logit))))

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()


def five_points(points: Array) -> Array:
    """Return eyes, tip of the nose and corners of the mouth, (5, 2), of a mesh (468, 2 or more).

    An eye is halfway between its corners, so that it stays where it is when it blinks.
    """
    eyes = [points[list(corners), :2].mean(0) for corners in EYES]
    return np.stack([*eyes, points[NOSE, :2], points[MOUTH[0], :2], points[MOUTH[1], :2]]).astype(np.float32)


def jaw(points: Array) -> Array:
    """Return the edge of the face from ear to ear by way of the chin, float32 (17, 2), of a mesh (468, 2 or more)."""
    return points[list(JAW), :2].astype(np.float32)


def box_around(points: Array) -> Array:
    """Return left, top, right, bottom, float32 (4,), of a mesh."""
    return np.concatenate([points[:, :2].min(0), points[:, :2].max(0)]).astype(np.float32)


def rotation(points: Array) -> NDArray[np.float64]:
    """Return what turned a face that looks straight ahead into this mesh (468, 2 or more), float64 (3, 3).

    Axes are those of CANONICAL. Perspective-n-point on RIGID, by least squares from an upright face on. The camera
    is assumed right before the face, as the one is that sees a crop of it; so the pose is that of the picture, and
    does not depend on where in the frame the face is.
    """
    import cv2

    seen = np.asarray(points[RIGID, :2], np.float64)
    along = np.asarray(points[EYES[1][1], :2] - points[EYES[0][0], :2], np.float64)
    unit = max(float(np.hypot(*along)), 1e-3)
    centre = seen.mean(0)
    camera = np.array([[DISTANCE, 0, 0], [0, DISTANCE, 0], [0, 0, 1]])
    turned = np.array([0, 0, math.atan2(along[1], along[0])])
    _, turned, _ = cv2.solvePnP(
        CANONICAL,
        (seen - centre) / unit,
        camera,
        None,
        rvec=turned,
        tvec=np.array([0, 0, DISTANCE]),
        useExtrinsicGuess=True,
        flags=cv2.SOLVEPNP_ITERATIVE,
    )
    return np.asarray(cv2.Rodrigues(turned)[0], np.float64)


def angles(turned: NDArray[np.float64]) -> Array:
    """Return the pose, float32 (3,): yaw, pitch, roll in radians, of a rotation (3, 3) in the axes of CANONICAL.

    The head turns first (yaw), then nods (pitch), then leans (roll).
    """
    yaw = math.atan2(turned[2, 0], turned[2, 2])
    pitch = math.asin(max(-1.0, min(1.0, -float(turned[2, 1]))))
    roll = math.atan2(-turned[0, 1], turned[1, 1])
    return np.array([yaw, pitch, roll], np.float32)


def openness(points: Array, turned: NDArray[np.float64]) -> Array:
    """Return the aspect ratio of the eye on the viewer's left and of that on the right, float32 (2,).

    Soukupova and Cech, Real-time eye blink detection using facial landmarks, 2016, Eq. 1, on the mesh (468, 3)
    turned back to look straight ahead, so that neither yaw nor pitch closes the eyes.
    """
    ahead = points @ turned
    ratios = []
    for lids, (left, right) in zip(LIDS, EYES, strict=True):
        gap = np.mean([ahead[lower, 1] - ahead[upper, 1] for upper, lower in lids])
        ratios.append(gap / max(float(np.linalg.norm(ahead[right] - ahead[left])), 1e-6))
    return np.array(ratios, np.float32)
