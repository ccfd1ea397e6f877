"""The head's surface: a profile turned about the neck's axis, hills for nose, brows, cheeks, lips and chin, and
how it moves with the mouth (jaw down, lips forward, cheeks with a spread mouth and an open jaw)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator

from .curves import bump, ramp
from .identity import Identity

LOW, HIGH = -1.03, 1.06
"""Chin and crown of the average head."""
WIDTH = PchipInterpolator(
    [-1.03, -0.98, -0.9, -0.75, -0.55, -0.3, 0, 0.3, 0.6, 0.85, 1.0, 1.06],
    [0.05, 0.23, 0.37, 0.50, 0.595, 0.66, 0.715, 0.735, 0.68, 0.5, 0.28, 0.03],
)
DEPTH = PchipInterpolator([-1.03, -0.95, -0.6, 0, 0.6, 0.9, 1.06], [0.25, 0.62, 0.74, 0.80, 0.78, 0.5, 0.05])


class Shape(NamedTuple):
    """Points of the head at rest and what jaw, protrusion and spread add to them; arrays (…, 3)."""

    rest: np.ndarray
    jaw: np.ndarray
    protrude: np.ndarray
    spread: np.ndarray

    def under(self, mouth) -> np.ndarray:
        """The points with a mouth shape (7,) of visemes.AXES."""
        return self.rest + self.jaw * mouth[0] + self.protrude * mouth[6] + self.spread * mouth[1]


def width(identity: Identity, y):
    """Half the head's width at height y."""
    jaw = np.interp(y, [-1, -0.5, -0.1], [identity.jaw_w**1.5, identity.jaw_w, 1.0])
    return WIDTH(np.clip(y, LOW, HIGH)) * jaw * identity.face_w


def surface(identity: Identity, y: np.ndarray, longitude: np.ndarray) -> tuple[Shape, np.ndarray]:
    """The surface at heights and longitudes (0 = front) of equal shape, and the x of each point."""
    one = identity
    x = width(one, y) * np.sin(longitude)
    facing = np.cos(longitude)
    z = DEPTH(np.clip(y, LOW, HIGH)) * facing * np.where(facing > 0, 1, 1.05)
    front = np.clip(facing, 0, 1) ** 0.5
    nose = one.nose_w

    def hill(cx, cy, sx, sy):
        return bump(x, y, cx, cy, sx, sy)

    def hills(cx, cy, sx, sy):  # one on each side
        return bump(x, y, -cx, cy, sx, sy) + bump(x, y, cx, cy, sx, sy)

    z = z + front * (
        0.16 * hill(0, -0.27, 0.085 * nose, 0.10)
        + 0.085 * hill(0, -0.12, 0.062, 0.17)
        + 0.05 * hill(0, 0.05, 0.06, 0.18)
        + 0.05 * hills(0.10 * nose, -0.31, 0.055, 0.055)
        - 0.085 * hills(0.32, 0.06, 0.17, 0.11)
        + 0.058 * hills(0.325, 0.045, 0.12, 0.085)
        + 0.035 * hills(0.33, 0.25, 0.22, 0.07)
        + 0.055 * hills(0.42, -0.22, 0.18, 0.15)
        + 0.07 * hill(0, -0.56, 0.27, 0.16)
        - 0.035 * hill(0, -0.75, 0.2, 0.06)
        + 0.06 * hill(0, -0.92, 0.2, 0.12)
        - 0.015 * hill(0, -0.43, 0.04, 0.06)
        + 0.028 * hill(0, -0.535, 0.2, 0.035)
        + 0.034 * hill(0, -0.625, 0.18, 0.04)
        - 0.02 * hill(0, -0.575, 0.22, 0.018)
        - 0.02 * one.age * hills(0.27, -0.42, 0.05, 0.1)
    )
    lowered = ramp(-y, 0.57, 0.82) * np.clip(facing * 1.3, 0, 1)
    hollow = front * hills(0.44, -0.52, 0.14, 0.16)
    apple = front * hills(0.40, -0.30, 0.15, 0.13)
    fold = front * hills(0.33 * one.mouth_w, -0.50, 0.06, 0.10)
    none = np.zeros_like(x)
    chin = np.where(y < -0.8, one.chin, 0) * ramp(-y, 0.8, 1.0)
    shape = Shape(
        rest=np.stack([x, y - chin, z], -1),
        jaw=np.stack(
            [-0.035 * np.sign(x) * hollow, -0.13 * lowered - 0.03 * hollow, -0.03 * lowered - 0.025 * hollow], -1
        ),
        protrude=np.stack([none, none, 0.05 * front * (hill(0, -0.535, 0.2, 0.05) + hill(0, -0.625, 0.18, 0.04))], -1),
        spread=np.stack([0.02 * np.sign(x) * fold, 0.03 * apple, 0.035 * apple + 0.02 * fold], -1),
    )
    return shape, x


def at(identity: Identity, points) -> Shape:
    """The surface under painted points (n, 2): x and y as seen from the front with the mouth at rest."""
    points = np.asarray(points, float)
    y = points[:, 1]
    longitude = np.arcsin(np.clip(points[:, 0] / width(identity, y), -1, 1))
    return surface(identity, y, longitude)[0]


class Grid(NamedTuple):
    """The head as a (rows, columns) grid, denser in front; `uv` maps it to the face texture."""

    longitude: np.ndarray
    y: np.ndarray
    shape: Shape
    uv: np.ndarray


def grid(identity: Identity, cells: int) -> Grid:
    """The head with cells × cells vertices."""
    t = np.linspace(-1, 1, cells)
    y, longitude = np.meshgrid(np.linspace(LOW, HIGH, cells), (t * 0.55 + t**3 * 0.45) * np.pi, indexing="ij")
    shape, x = surface(identity, y, longitude)
    return Grid(longitude, y, shape, np.stack([(x + 1.2) / 2.4, (1.2 - y) / 2.4], -1))
