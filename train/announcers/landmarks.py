"""The 106 landmarks: Face++'s counts in this order (left and right are the viewer's, fractions of the picture).

    0–32    contour from the left temple over the chin (16) to the right temple: the visible outline of the head
    33–37   left brow, upper edge from left (outer) to right;  38–41 its lower edge from left to right
    42–46   right brow, upper edge from left (inner) to right; 47–50 its lower edge from left to right
    51–54   ridge of the nose from between the eyes to the tip
    55–59   left side of the nose from the bridge over the wing to beneath the nostril; 60–64 the right side
    65      base of the nose above the lip
    66–70   left eye, upper lid from left to right; 71–73 lower lid from right to left; 74 centre; 75 pupil
    76–80   right eye, upper lid from left to right; 81–83 lower lid from right to left; 84 centre; 85 pupil
    86–92   upper lip's outer edge from left (corner) to right (corner); 93–97 lower lip's outer edge back to the left
    98–102  upper lip's inner edge from left to right; 103–105 lower lip's inner edge from right to left

Lip gap: |y(104) − y(100)|. Lid gap of an eye whose ring starts at e: |y(e + 6) − y(e + 2)|.
"""

from __future__ import annotations

import numba
import numpy as np

from .camera import Framing, project, rotation, turn
from .curves import along
from .features import Controls, Features
from .head import Shape, at
from .identity import Identity

CONTOUR, BROW_LEFT, BROW_RIGHT, NOSE = slice(0, 33), slice(33, 42), slice(42, 51), slice(51, 66)
EYE_LEFT, EYE_RIGHT, MOUTH = slice(66, 76), slice(76, 86), slice(86, 106)

_ANGLES = np.linspace(-0.06, np.pi + 0.06, 33)


def landmarks(
    identity: Identity, lower_head: Shape, shapes: Features, controls: Controls, framing: Framing, size: int
) -> np.ndarray:
    """float32 (106, 2); `lower_head` is the part of the head's grid below the hair."""
    matrix = rotation(controls.pose)

    def seen(points: np.ndarray) -> np.ndarray:
        return project(turn(points, matrix), framing, size)[:, :2].astype(float)

    nose = identity.nose_w
    wing = np.array([(0.06, 0.03), (0.075, -0.12), (0.13, -0.26), (0.14, -0.33), (0.08, -0.37)]) * [nose, 1]
    painted = []
    for brow, order in zip(shapes.brows, (-1, 1), strict=True):
        painted += [
            along(brow.upper[::order], np.linspace(0, 1, 5)),
            along(brow.lower[::order], [0.05, 0.35, 0.65, 0.95]),
        ]
    painted += [np.array([(0, 0.05), (0, -0.06), (0, -0.17), (0, -0.27)]), wing * [-1, 1], wing, np.array([(0, -0.39)])]
    for eye in shapes.eyes:
        painted += [
            along(eye.top, np.linspace(0, 1, 5)),
            along(eye.bottom, [0.25, 0.5, 0.75]),
            np.array([(eye.x, eye.y), eye.pupil]),
        ]
    mouth = shapes.mouth
    painted += [
        along(mouth.upper_outer, np.linspace(0, 1, 7)),
        along(mouth.lower_outer, np.linspace(1, 0, 7)[1:-1]),
        along(mouth.upper_inner, np.linspace(0, 1, 5)),
        along(mouth.lower_inner, [0.75, 0.5, 0.25]),
    ]
    points = seen(at(identity, np.vstack(painted)).under(controls.mouth))
    outline = _outline(
        seen(lower_head.under(controls.mouth).reshape(-1, 3)),
        seen(at(identity, [(0, -0.05)]).rest * [1, 1, 0])[0],
        float(controls.pose[2]),
    )
    return (np.vstack([outline, points]) / size).astype(np.float32)


def _outline(points: np.ndarray, centre: np.ndarray, roll: float) -> np.ndarray:
    """The farthest point of the head in 33 directions about its centre, from the left over the chin to the right."""
    radius = np.convolve(np.pad(_farthest(points - centre, roll, _ANGLES), 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
    angle = _ANGLES - roll
    return centre + np.stack([-np.cos(angle) * radius, np.sin(angle) * radius], 1)


@numba.njit(cache=True)
def _farthest(offsets, roll, angles):
    radius = np.zeros(len(angles))
    step = angles[1] - angles[0]
    for x, y in offsets:
        angle = np.arctan2(y, -x) + roll
        if angle < -np.pi / 2:
            angle += 2 * np.pi
        place = (angle - angles[0]) / step
        distance = np.sqrt(x * x + y * y)
        for k in (int(np.floor(place)), int(np.floor(place)) + 1):  # both neighbours see the point
            if 0 <= k < len(angles) and distance > radius[k] and abs(place - k) < 0.5:
                radius[k] = distance
    return radius
