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
WIDTH = PchipInterpolator([-1.03, -.98, -.9, -.75, -.55, -.3, 0, .3, .6, .85, 1.0, 1.06],
                          [.05, .23, .37, .50, .595, .66, .715, .735, .68, .5, .28, .03])
DEPTH = PchipInterpolator([-1.03, -.95, -.6, 0, .6, .9, 1.06], [.25, .62, .74, .80, .78, .5, .05])


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
    jaw = np.interp(y, [-1, -.5, -.1], [identity.jaw_w**1.5, identity.jaw_w, 1.0])
    return WIDTH(np.clip(y, LOW, HIGH)) * jaw * identity.face_w


def surface(identity: Identity, y: np.ndarray, longitude: np.ndarray) -> tuple[Shape, np.ndarray]:
    """The surface at heights and longitudes (0 = front) of equal shape, and the x of each point."""
    one = identity
    x = width(one, y) * np.sin(longitude)
    facing = np.cos(longitude)
    z = DEPTH(np.clip(y, LOW, HIGH)) * facing * np.where(facing > 0, 1, 1.05)
    front = np.clip(facing, 0, 1) ** .5
    nose = one.nose_w

    def hill(cx, cy, sx, sy):
        return bump(x, y, cx, cy, sx, sy)

    def hills(cx, cy, sx, sy):  # one on each side
        return bump(x, y, -cx, cy, sx, sy) + bump(x, y, cx, cy, sx, sy)

    z = z + front * (
        .16 * hill(0, -.27, .085 * nose, .10) + .085 * hill(0, -.12, .062, .17) + .05 * hill(0, .05, .06, .18)
        + .05 * hills(.10 * nose, -.31, .055, .055) - .085 * hills(.32, .06, .17, .11)
        + .058 * hills(.325, .045, .12, .085) + .035 * hills(.33, .25, .22, .07) + .055 * hills(.42, -.22, .18, .15)
        + .07 * hill(0, -.56, .27, .16) - .035 * hill(0, -.75, .2, .06) + .06 * hill(0, -.92, .2, .12)
        - .015 * hill(0, -.43, .04, .06) + .028 * hill(0, -.535, .2, .035) + .034 * hill(0, -.625, .18, .04)
        - .02 * hill(0, -.575, .22, .018) - .02 * one.age * hills(.27, -.42, .05, .1))
    lowered = ramp(-y, .57, .82) * np.clip(facing * 1.3, 0, 1)
    hollow = front * hills(.44, -.52, .14, .16)
    apple = front * hills(.40, -.30, .15, .13)
    fold = front * hills(.33 * one.mouth_w, -.50, .06, .10)
    none = np.zeros_like(x)
    chin = np.where(y < -.8, one.chin, 0) * ramp(-y, .8, 1.0)
    shape = Shape(
        rest=np.stack([x, y - chin, z], -1),
        jaw=np.stack([-.035 * np.sign(x) * hollow, -.13 * lowered - .03 * hollow, -.03 * lowered - .025 * hollow], -1),
        protrude=np.stack([none, none, .05 * front * (hill(0, -.535, .2, .05) + hill(0, -.625, .18, .04))], -1),
        spread=np.stack([.02 * np.sign(x) * fold, .03 * apple, .035 * apple + .02 * fold], -1))
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
    y, longitude = np.meshgrid(np.linspace(LOW, HIGH, cells), (t * .55 + t**3 * .45) * np.pi, indexing="ij")
    shape, x = surface(identity, y, longitude)
    return Grid(longitude, y, shape, np.stack([(x + 1.2) / 2.4, (1.2 - y) / 2.4], -1))
