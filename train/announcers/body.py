"""Neck, torso, ears, bun, jewellery, glasses: everything that does not move by itself; clothes and background."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from . import hair
from .canvas import Canvas, ellipse
from .curves import ramp, spline
from .head import Grid
from .identity import Identity, colour, mix
from .raster import grid_faces, grid_normals

COLOUR, FACE_PAINT, CLOTHES = 0, 1, 2
FRAME = (0.10, 0.07, 0.06)


class Part(NamedTuple):
    """One surface: a grid of points with what `raster.shade` needs to know of each."""

    points: np.ndarray
    """float64 (n, 3)"""
    normals: np.ndarray
    """float64 (n, 3)"""
    material: np.ndarray
    """float32 (n, 8): u, v, kind, r, g, b, gloss, ambient."""
    follow: np.ndarray
    """float64 (n, 1): 1 turns with the head, 0 stays."""
    faces: np.ndarray
    """int32 (m, 3)"""


def part(
    grid: np.ndarray,
    tone=(1, 1, 1),
    gloss: float = 0.0,
    ambient=1.0,
    follow=1.0,
    kind: int = COLOUR,
    uv: np.ndarray | None = None,
) -> Part:
    """A grid (rows, columns, 3) as a Part; tone, ambient and follow are constants or given for each point."""
    rows, columns = grid.shape[:2]
    material = np.zeros((rows, columns, 8), np.float32)
    if uv is not None:
        material[..., :2] = uv
    material[..., 2], material[..., 3:6], material[..., 6], material[..., 7] = kind, tone, gloss, ambient
    follow = np.broadcast_to(follow, (rows, columns)).reshape(-1, 1).astype(float)
    return Part(
        grid.reshape(-1, 3),
        grid_normals(np.ascontiguousarray(grid, np.float64)).reshape(-1, 3),
        material.reshape(-1, 8),
        follow,
        grid_faces(rows, columns),
    )


def _ball(centre, radii, rows: int = 12, columns: int = 18) -> np.ndarray:
    theta, phi = np.linspace(0.01, np.pi - 0.01, rows)[:, None], np.linspace(0, 2 * np.pi, columns)
    return np.stack(
        [
            centre[0] + radii[0] * np.sin(theta) * np.cos(phi),
            centre[1] + radii[1] * np.cos(theta) + 0 * phi,
            centre[2] + radii[2] * np.sin(theta) * np.sin(phi),
        ],
        -1,
    )


def _tube(curve: np.ndarray, radius: float) -> np.ndarray:
    """A thin pipe along points (n, 3); grid (n, 7, 3)."""
    along = np.gradient(curve, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.cross(along, [0, 0.2, 1.0])
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    other = np.cross(along, side)
    angle = np.linspace(0, 2 * np.pi, 7)[None, :, None]
    return curve[:, None] + radius * (np.cos(angle) * side[:, None] + np.sin(angle) * other[:, None])


def parts(identity: Identity, head: Grid) -> list[Part]:
    """All surfaces but the head itself."""
    skin = np.array(identity.skin)
    out = [_neck(identity), _torso(identity)]
    for side in (-1, 1):
        ear = _ball((side * 0.725 * identity.face_w, -0.06, -0.06), (0.06, 0.19, 0.12), 16, 20)
        out.append(part(ear, skin * [1, 0.9, 0.87], 0.3, np.interp(ear[..., 1], [-0.25, 0.1], [0.75, 0.95])))
        if identity.earrings:
            pearl = _ball((side * 0.735 * identity.face_w, -0.30, 0.04), (0.042, 0.045, 0.042))
            out.append(part(pearl, colour("e8c468") if sum(identity.skin) < 1.5 else (0.9, 0.9, 0.92), 4.0))
    points, tone, ambient = hair.shell(identity, head)
    out.append(part(points, tone, 0.7, ambient))
    if identity.style == "bun":
        turn, rise = np.linspace(0, 2 * np.pi, 40), np.linspace(0, 1, 28)[:, None]
        strands = 1.1 * (1 + 0.2 * np.sin(turn * 14 + 6 * rise))[..., None]
        out.append(part(_ball((0, 1.12, -0.36), (0.31, 0.25, 0.30), 28, 40), np.array(identity.hair) * strands, 0.7))
    if identity.glasses:
        out += _glasses(identity)
    return out


def _neck(identity: Identity) -> Part:
    turn, y = np.linspace(-np.pi, np.pi, 48), np.linspace(-1.75, -0.5, 26)
    if identity.sex == "f":
        radius = np.interp(y, [-1.75, -1.4, -1.15, -0.5], [0.46, 0.42, 0.385, 0.37])
    else:
        radius = np.interp(y, [-1.75, -1.3, -1.1, -0.5], [0.40, 0.43, 0.45, 0.43])
    grid = np.stack(
        [radius[:, None] * np.sin(turn), np.repeat(y[:, None], 48, 1), radius[:, None] * 0.95 * np.cos(turn) - 0.12], -1
    )
    ambient = np.interp(y, [-1.6, -1.25, -1.0, -0.8], [0.95, 0.9, 0.66, 0.52])[:, None]
    return part(grid, np.array(identity.skin) * [1, 0.95, 0.93], 0.15, ambient, ramp(y, -1.5, -0.8)[:, None])


def _torso(identity: Identity) -> Part:
    female = identity.sex == "f"
    turn, y = np.linspace(-0.5, 0.5, 90) * np.pi * 1.15, np.linspace(-3.0, -1.16, 60)
    wide = np.interp(y, [-3, -2.0, -1.75, -1.55, -1.4, -1.28, -1.16], [1.65, 1.6, 1.42, 1.02, 0.66, 0.50, 0.445])
    wide = wide * (1.0 if female else 1.13)
    deep = np.interp(y, [-3, -2, -1.6, -1.3, -1.16], [0.72, 0.62, 0.52, 0.45, 0.42]) + (0 if female else 0.08)
    dip = 0.10 * np.maximum(np.cos(turn), 0) ** 2 * ramp(y, -1.5, -1.2)[:, None] * (1.6 if female else 1.1)
    grid = np.stack([wide[:, None] * np.sin(turn), y[:, None] - dip, deep[:, None] * np.cos(turn) - 0.12], -1)
    uv = np.stack([(grid[..., 0] + 2) / 4, (-1.1 - grid[..., 1]) / 2], -1)
    return part(grid, gloss=0.12, follow=0.0, kind=CLOTHES, uv=uv)


def _glasses(identity: Identity) -> list[Part]:
    most = [(-0.16, 0.14), (0.16, 0.14), (0.2, 0.09), (0.17, -0.10), (0.08, -0.15), (-0.08, -0.15), (-0.17, -0.10)]
    rim = [(-0.2, 0.09), *most, (-0.2, 0.09)]
    curves = []
    for side in (-1, 1):
        edge = spline(rim, 6) + [side * 0.33, 0.02]
        curves.append(np.c_[edge, 0.92 - 0.42 * edge[:, 0] ** 2])
        curves.append(
            spline(
                [
                    (side * 0.53, 0.10, 0.80),
                    (side * 0.68 * identity.face_w, 0.09, 0.45),
                    (side * 0.75 * identity.face_w, 0.05, 0.0),
                ],
                8,
            )
        )
    bridge = spline([(-0.14, 0.06), (0, 0.09), (0.14, 0.06)], 6)
    curves.append(np.c_[bridge, np.full(len(bridge), 0.93)])
    return [part(_tube(curve, 0.0125), FRAME, 1.5) for curve in curves]


def clothes(identity: Identity, size: int = 512) -> np.ndarray:
    """Texture of the torso, float32 (size, size, 3); plane x in [−2, 2], y in [−3.1, −1.1] (half as high)."""
    image = np.empty((size, size, 3), np.float32)
    image[:] = identity.top
    column = np.arange(size)
    image *= (1 + 0.03 * np.sin(column * 0.8) * np.sin(column * 0.8)[:, None])[..., None]
    if identity.pinstripe:
        image *= (1 + 0.10 * np.exp(-((((column % 26) - 13) / 1.0) ** 2)))[None, :, None]
    canvas = Canvas(image, -2, -1.1, 4)
    if identity.sex == "m":
        _suit(canvas, identity)
    else:
        _neckline(canvas, identity)
    return image


def _stretched(points) -> np.ndarray:
    """The torso's texture is twice as fine in y as in x."""
    points = np.asarray(points, float)
    return np.stack([points[:, 0], -1.1 + (points[:, 1] + 1.1) * 2], 1)


def _suit(canvas: Canvas, identity: Identity) -> None:
    def fill(points, tone, alpha=1.0, blur=0.5):
        canvas.fill(_stretched(points), tone, alpha, blur)

    fill([(-0.6, -1.0), (0.6, -1.0), (0.30, -1.75), (0.12, -2.8), (-0.12, -2.8), (-0.30, -1.75)], (0.93, 0.93, 0.95))
    fill([(-0.075, -1.30), (0.075, -1.30), (0.105, -1.46), (-0.105, -1.46)], mix(identity.accent, (0, 0, 0), 0.2))
    fill([(-0.07, -1.46), (0.07, -1.46), (0.15, -2.8), (-0.15, -2.8)], identity.accent)
    for y in -1.52 - 0.1 * np.arange(12):
        fill(
            [(-0.14, y), (0.14, y - 0.12), (0.14, y - 0.15), (-0.14, y - 0.03)],
            mix(identity.accent, (1, 1, 1), 0.35),
            0.5,
        )
    for s in (-1, 1):
        fill([(s * 0.62, -1.0), (s * 0.04, -1.34), (s * 0.24, -1.60), (s * 0.52, -1.28)], (0.55, 0.55, 0.62), 0.8, 2)
        fill([(s * 0.60, -1.0), (s * 0.05, -1.32), (s * 0.24, -1.55), (s * 0.50, -1.28)], (1, 1, 1))
        fill(
            [
                (s * 0.47, -1.16),
                (s * 0.72, -1.30),
                (s * 0.80, -1.72),
                (s * 0.60, -1.70),
                (s * 0.66, -1.82),
                (s * 0.13, -2.8),
                (s * 0.10, -2.7),
            ],
            mix(identity.top, (1, 1, 1), 0.10),
        )
        edge = [(s * 0.47, -1.16), (s * 0.495, -1.16), (s * 0.125, -2.8), (s * 0.09, -2.8)]
        fill(edge, mix(identity.top, (0, 0, 0), 0.6), 1, 1)


def _neckline(canvas: Canvas, identity: Identity) -> None:
    def fill(points, tone, alpha=1.0, blur=0.5):
        canvas.fill(_stretched(points), tone, alpha, blur)

    opening = [(-0.7, -1.0), (-0.46, -1.36), (-0.25, -1.62), (0, -1.76), (0.25, -1.62), (0.46, -1.36), (0.7, -1.0)]
    seam = spline(
        [(-0.66, -1.0), (-0.48, -1.36), (-0.26, -1.65), (0, -1.80), (0.26, -1.65), (0.48, -1.36), (0.66, -1.0)]
    )
    fill(np.r_[seam * [1.04, 1] - [0, 0.03], seam[::-1]], mix(identity.top, (0, 0, 0), 0.5), 0.6, 2)
    fill(spline(opening), np.array(identity.skin) * 0.94)
    fill(np.r_[seam, (seam * [0.95, 1] + [0, 0.055])[::-1]], identity.accent)
    if identity.necklace:
        for x, y in spline([(-0.4, -1.25), (-0.22, -1.45), (0, -1.52), (0.22, -1.45), (0.4, -1.25)])[::2]:
            fill(ellipse(x, y - 0.006, 0.022, 0.022), np.array(identity.skin) * 0.6, 0.7, 1)
            fill(ellipse(x, y, 0.02, 0.02), colour("f7efe0"))
            fill(ellipse(x - 0.006, y + 0.006, 0.007, 0.007), (1.1, 1.1, 1.1), 0.8)


def backdrop(identity: Identity, size: int) -> np.ndarray:
    """A studio wall with soft lights above a desk, float32 (size, size, 3)."""
    rng = np.random.default_rng([identity.backdrop_seed, 80])
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    glow = np.clip(np.hypot(x - 0.62, y - 0.3) / 0.95, 0, 1)[..., None]
    image = np.array(identity.background) * (1.3 - 0.85 * glow)

    def disc(distance, radius):  # 1 inside, soft edge
        return 1 / (1 + np.exp(np.clip((distance - radius) / 0.006, -30, 30)))[..., None]

    for _ in range(5):
        centre, half = rng.uniform(), rng.uniform(0.02, 0.09)
        image += 0.10 * disc(np.abs(x - centre + 0.15 * (y - 0.5)), half) * mix(identity.background, (1, 1, 1), 0.5)
    for _ in range(9):
        cx, cy, radius = rng.uniform(), rng.uniform(0, 0.8), rng.uniform(0.02, 0.06)
        image += 0.22 * disc(np.hypot(x - cx, y - cy), radius) * mix(identity.accent, (1, 1, 1), 0.2)
    desk = ramp(y, 0.80, 0.84)[..., None]
    return (image * (1 - 0.35 * desk)).astype(np.float32)
