"""The 106 landmarks of announcers/landmarks.py on a tracked face: which points of the 468-point mesh they lie on.

Every point but those of the outline lies on a line of the mesh: at one of its points, or where so many landmarks
divide its length evenly. The outline is defined as the drawn one is: the farthest point of the face in 33 directions.
Two differ in kind from drawn ones: the mesh sees neither pupils, which are taken to look ahead, nor what hair covers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

OUTLINE = 33
EARS = (234, 454)
"""Left and right end of the face as seen, beside the ears: the outline's directions turn about their middle."""


class Line(NamedTuple):
    """Landmarks that lie on a line of the mesh, in order."""

    points: tuple[int, ...]
    """Of the mesh."""
    at: tuple[float, ...]
    """Of the line's length, 0 to 1, for each landmark."""


def _even(count: int) -> tuple[float, ...]:
    return tuple(np.linspace(0, 1, count).tolist())


def _each(*points: int) -> list[Line]:
    return [Line((point, point), (0.0,)) for point in points]


_AFTER = (0.25, 0.5, 0.75)
LINES = (
    *_each(70, 63, 105, 66, 107),  # 33–37
    Line((46, 53, 52, 65, 55), (0.05, 0.35, 0.65, 0.95)),
    *_each(336, 296, 334, 293, 300),  # 42–46
    Line((285, 295, 282, 283, 276), (0.05, 0.35, 0.65, 0.95)),
    *_each(6, 197, 5, 4),  # 51–54
    *_each(122, 174, 131, 59, 99, 351, 399, 360, 289, 328, 2),  # 55–65
    Line((33, 246, 161, 160, 159, 158, 157, 173, 133), _even(5)),  # 66–70
    Line((133, 155, 154, 153, 145, 144, 163, 7, 33), _AFTER),
    Line((33, 133), (0.5, 0.5)),  # centre and pupil
    Line((362, 398, 384, 385, 386, 387, 388, 466, 263), _even(5)),  # 76–80
    Line((263, 249, 390, 373, 374, 380, 381, 382, 362), _AFTER),
    Line((362, 263), (0.5, 0.5)),
    # Lips are halved where they are parted in the middle, so that a turned head opens no mouth.
    Line((61, 185, 40, 39, 37, 0), _even(4)),  # 86–92
    Line((0, 267, 269, 270, 409, 291), _even(4)[1:]),
    Line((291, 375, 321, 405, 314, 17), _even(4)[1:]),
    Line((17, 84, 181, 91, 146, 61), _even(4)[1:-1]),
    Line((78, 191, 80, 81, 82, 13), _even(3)),  # 98–102
    Line((13, 312, 311, 310, 415, 308), _even(3)[1:]),
    Line((308, 324, 318, 402, 317, 14), _even(3)[1:]),
    Line((14, 87, 178, 88, 95, 78), (0.5,)),
)
"""All landmarks from 33 on, in their order."""


def landmarks(mesh: np.ndarray) -> np.ndarray:
    """Return the landmarks, float32 (106, 2), of a mesh (468, 2 or more), in the mesh's unit."""
    points = np.asarray(mesh[:, :2], np.float64)
    rest = [_along(points[list(line.points)], line.at) for line in LINES]
    return np.concatenate([_outline(points), *rest]).astype(np.float32)


def _along(line: np.ndarray, at: tuple[float, ...]) -> np.ndarray:
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    return np.stack([np.interp(np.array(at) * length[-1], length, column) for column in line.T], 1)


def _outline(points: np.ndarray) -> np.ndarray:
    """Where rays from between the ears leave the face: from the left ear over the chin to the right one."""
    import cv2

    left, right = points[list(EARS)]
    centre = (left + right) / 2
    angle = np.arctan2(*(right - left)[::-1]) + np.linspace(np.pi, 0, OUTLINE)
    way = np.stack([np.cos(angle), np.sin(angle)], 1)[:, None]  # of each ray
    begin = cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64) - centre
    edge = np.roll(begin, -1, 0) - begin
    # centre + far * way = begin + part * edge, for every ray and edge
    across = way[..., 0] * edge[:, 1] - way[..., 1] * edge[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        far = (begin[:, 0] * edge[:, 1] - begin[:, 1] * edge[:, 0]) / across
        part = (begin[:, 0] * way[..., 1] - begin[:, 1] * way[..., 0]) / across
    crossed = (far >= 0) & (part >= -1e-9) & (part <= 1 + 1e-9)
    return centre + np.where(crossed, far, 0).max(1)[:, None] * way[:, 0]
