"""Where the head stands in the picture: framing, head pose, projection."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

PIVOT = np.array([0, -0.7, -0.1])
"""The point about which the head turns: the top of the neck."""


@dataclass(frozen=True)
class Framing:
    """How a picture is cropped, in pixels of a 256-pixel picture."""

    zoom: float
    """Pixels per unit of head space at the head's depth."""
    oy: float
    """Row of the head's origin, a little below the eyes."""


PORTRAIT = Framing(100.0, 122.0)
"""Head and shoulders, tight: what AMNet is trained on."""
FACE = Framing(128.0, 92.0)
"""Brows to chin, the crop of lip-sync networks."""


def rotation(pose) -> np.ndarray:
    """float64 (3, 3) for yaw (> 0: nose to the image's right), pitch (> 0: up), roll (> 0: clockwise), radians."""
    (cy, cp, cr), (sy, sp, sr) = ([f(float(angle)) for angle in pose] for f in (math.cos, math.sin))
    roll = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return roll @ pitch @ yaw


def turn(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (n, 3) of the head under a pose."""
    return (points - PIVOT) @ matrix.T + PIVOT


def project(points: np.ndarray, framing: Framing, size: int) -> np.ndarray:
    """Points (n, 3) -> x, y in pixels of a picture of `size` and depth towards the viewer, float32 (n, 3)."""
    scale = size / 256
    nearness = 6.5 / (7.1 - points[:, 2])
    out = np.empty(points.shape, np.float32)
    out[:, 0] = (128 + points[:, 0] * nearness * framing.zoom) * scale
    out[:, 1] = (framing.oy - points[:, 1] * nearness * framing.zoom) * scale
    out[:, 2] = points[:, 2]
    return out
