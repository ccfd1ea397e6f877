"""The face's paint: `skin` once for each identity, `face` for each frame. Texture plane: x, y in [−1.2, 1.2]."""

from __future__ import annotations

import cv2
import numpy as np

from .canvas import Canvas, ellipse
from .curves import bump, ramp, spline
from .features import Brow, Eye, Features, Mouth
from .hair import hairline
from .head import width
from .identity import Identity, mix

LASH = (0.07, 0.035, 0.03)


def shadow(identity: Identity) -> np.ndarray:
    """The colour of folds in this skin."""
    return (
        mix(identity.skin, (0.35, 0.08, 0.08), 0.45)
        if sum(identity.skin) > 1.3
        else mix(identity.skin, (0.05, 0.01, 0.02), 0.5)
    )


def skin(identity: Identity, size: int) -> np.ndarray:
    """Skin, blush, nostrils, folds, beard, freckles and the roots of the hair; float32 (size, size, 3)."""
    rng = np.random.default_rng([identity.skin_seed, 79])
    dark, light = shadow(identity), sum(identity.skin) > 1.3
    row, column = np.mgrid[0:size, 0:size].astype(np.float32)
    x, y = (column + 0.5) * 2.4 / size - 1.2, 1.2 - (row + 0.5) * 2.4 / size

    def wander(cells: int) -> np.ndarray:
        coarse = rng.normal(size=(cells, cells)).astype(np.float32)
        return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)

    image = np.empty((size, size, 3), np.float32)
    image[:] = identity.skin
    image *= (1 + 0.012 * wander(20) + 0.006 * wander(60))[..., None]

    def blend(colour, amount) -> None:
        image[:] += (np.asarray(colour, np.float32) - image) * amount[..., None]

    blush = mix(identity.skin, (0.85, 0.18, 0.18), 0.5)
    fold = (0.05 + 0.35 * identity.age) * ramp(-y, 0.33, 0.38) * (1 - ramp(-y, 0.5, 0.6))
    for side in (-1, 1):
        blend(blush, (0.34 if light else 0.2) * bump(x, y, side * 0.42, -0.28, 0.18, 0.13))
        blend(dark, 0.26 * bump(x, y, side * 0.32, 0.10, 0.2, 0.1))
        nostril = bump(x, y, side * 0.062 * identity.nose_w, -0.352, 0.035, 0.016)
        blend((0.12, 0.03, 0.03), 0.7 * np.clip(1.6 * nostril, 0, 1))
        blend(dark, fold * np.exp(-((np.abs(x - side * (0.14 + (-y - 0.33) * 0.55)) / 0.018) ** 2)))
    blend(mix(identity.skin, (0.85, 0.2, 0.2), 0.4), 0.3 * bump(x, y, 0, -0.28, 0.1, 0.06))
    blend(dark, 0.28 * bump(x, y, 0, -0.385, 0.12, 0.02))
    blend(dark, 0.15 * bump(x, y, 0, -0.72, 0.14, 0.03))
    if identity.beard:
        edge = -0.40 + 0.42 * ramp(np.abs(x), 0.30, 0.62) - 0.05 * bump(x, y, 0, -0.4, 0.06, 1.0)
        cover = identity.beard * 0.8 / (1 + np.exp((y - edge) / 0.03)) * (1 - 0.55 * bump(x, y, 0, -0.71, 0.05, 0.03))
        blend(np.array(identity.hair) * 1.1, np.clip(cover * (1 + 0.06 * wander(70)), 0, 1))
    canvas = Canvas(image, -1.2, 1.2, 2.4)
    for _ in range(identity.freckles * 2):
        spot = ellipse(rng.normal(0, 0.33), rng.normal(-0.15, 0.14), *[rng.uniform(0.004, 0.008)] * 2)
        canvas.fill(spot, np.array(identity.skin) * 0.8, 0.8, 0.6)
    longitude = np.arcsin(np.clip(x / np.maximum(width(identity, y), 1e-3), -1, 1))
    below = y - hairline(identity, longitude)
    blend(dark, 0.5 * np.exp(-np.clip(-below / 0.07, 0, None)) * (below > -0.4))
    strand = 0.006 * np.sin(longitude * 67) + 0.005 * np.sin(longitude * 113 + 1)
    soft = 0.09 if identity.style in ("bun", "short", "fade", "swept") else 0.04
    blend(np.array(identity.hair) * 0.85, ramp(below + strand, -soft, 0.02))
    return image


def face(identity: Identity, base: np.ndarray, shapes: Features, mouth: np.ndarray) -> np.ndarray:
    """`base` (of `skin`) with eyes, brows and mouth painted on it."""
    canvas = Canvas(base.copy(), -1.2, 1.2, 2.4)
    dark = shadow(identity)
    _cheeks(canvas, shapes.mouth, dark, float(mouth[0]), float(mouth[1]))
    for eye, brow in zip(shapes.eyes, shapes.brows, strict=True):
        _eye(canvas, identity, eye, dark)
        _brow(canvas, identity, brow)
    _mouth(canvas, identity, shapes.mouth, float(mouth[5]))
    return canvas.image


def _cheeks(canvas: Canvas, mouth: Mouth, dark: np.ndarray, jaw: float, spread: float) -> None:
    """The fold from nose to mouth corner deepens with a spread or open mouth."""
    depth = 0.10 + 0.22 * max(spread, 0.0) + 0.12 * jaw
    for side in (-1, 1):
        end = mouth.width + 0.06
        fold = spline(
            [
                (side * 0.155, -0.33),
                (side * (0.20 + 0.10 * end), -0.40),
                (side * (end + 0.005), -0.50),
                (side * (end + 0.005), mouth.corner - 0.02),
            ],
            6,
        )
        canvas.stroke(fold, 0.05, dark, depth, 5)
        canvas.fill(ellipse(side * (mouth.width + 0.012), mouth.corner - 0.006, 0.028, 0.022), dark, 0.35, 3)


def _eye(canvas: Canvas, identity: Identity, eye: Eye, dark: np.ndarray) -> None:
    if eye.blink < 0.97:
        white = canvas.stencil(np.r_[eye.top, eye.bottom])
        (px, py), r, iris = eye.pupil, 0.084 * identity.eye_s, np.array(identity.iris)
        canvas.fill(np.r_[eye.top, eye.bottom], (0.90, 0.885, 0.875))
        canvas.fill(
            ellipse(eye.x - eye.side * eye.width * 0.95, eye.y - 0.01, 0.035, 0.03), (0.85, 0.5, 0.47), 0.6, 1, white
        )
        canvas.fill(ellipse(px, py, r, r), iris * 0.35, 1, 0.8, white)
        canvas.fill(ellipse(px, py, r * 0.85, r * 0.85), iris, 1, 0.6, white)
        canvas.fill(ellipse(px, py, r * 0.66, r * 0.66), iris * 0.7 + 0.25, 0.45, 1.5, white)
        canvas.fill(ellipse(px, py - r * 0.35, r * 0.55, r * 0.4), iris * 0.6 + 0.4, 0.45, 2, white)
        canvas.fill(ellipse(px, py, r * 0.45, r * 0.45), (0.02, 0.02, 0.02), 1, 0.5, white)
        canvas.stroke(eye.top - [0, 0.01], 0.085, (0.10, 0.05, 0.05), 0.5, 3, white)
        canvas.fill(ellipse(px - r * 0.35, py + r * 0.4, r * 0.24, r * 0.24), (1.35, 1.35, 1.35), 1, 0.5, white)
        canvas.fill(ellipse(px + r * 0.4, py - r * 0.4, r * 0.12, r * 0.12), (1.1, 1.1, 1.1), 0.6, 0.5, white)
    if eye.blink > 0.02:
        lid = mix(identity.skin, dark, 0.25 if identity.sex == "m" else 0.38)
        canvas.fill(np.r_[eye.crease, eye.top[::-1]], lid, min(1.0, eye.blink * 8), 1)
    canvas.stroke(eye.crease, 0.022, dark, 0.6, 1.2)
    canvas.stroke(eye.bottom, 0.02, dark, 0.5, 1)
    canvas.stroke(eye.top, 0.026 + 0.018 * identity.lash, LASH, 0.95, 0.6)
    if identity.lash > 0.6:
        end = eye.top[0] if eye.side < 0 else eye.top[-1]
        wing = [(0.03, 0.022), (-0.05, 0.035), (0.02, -0.008)]
        canvas.fill([(end[0] + eye.side * dx, end[1] + dy) for dx, dy in wing], LASH, 0.9, 0.6)


def _brow(canvas: Canvas, identity: Identity, brow: Brow) -> None:
    colour = mix(identity.hair, (0.1, 0.06, 0.04), 0.4)
    upper, lower = brow
    canvas.fill(np.r_[upper, lower[::-1]], colour, 0.8, 1.8)
    for i in range(1, len(upper) - 1, 2):
        x, y = lower[i]
        top = upper[min(i + 2, len(upper) - 1)]
        canvas.fill([(x - 0.006, y - 0.004), (x + 0.006, y - 0.004), (top[0], top[1] + 0.006)], colour * 0.75, 0.5, 0.6)


def _mouth(canvas: Canvas, identity: Identity, mouth: Mouth, tongue: float) -> None:
    lip, y, half, bottom = np.array(identity.lip), mouth.teeth, mouth.width, mouth.inner_y
    canvas.fill(np.r_[mouth.upper_outer, mouth.upper_inner[::-1]], mix(lip, (0.2, 0.02, 0.05), 0.18), 1, 1.2)
    canvas.fill(np.r_[mouth.lower_inner, mouth.lower_outer[::-1]], lip, 1, 1.2)
    opening = np.r_[mouth.upper_inner, mouth.lower_inner[::-1]]
    inside = canvas.stencil(opening)
    canvas.fill(opening, (0.10, 0.02, 0.03))
    flesh = ellipse(0, bottom - 0.01 + 0.06 * tongue, half * 0.62, 0.015 + 0.26 * mouth.gap + 0.05 * tongue)
    canvas.fill(flesh, (0.55, 0.22, 0.24), 0.9, 4, inside)
    teeth = spline(
        [(-0.17, y + 0.06), (-0.17, y - 0.018), (0, y - 0.040), (0.17, y - 0.018), (0.17, y + 0.06)], 6, True
    )
    canvas.fill(teeth, (0.90, 0.88, 0.84), 1, 1, inside)
    for x in (-0.055, 0, 0.055):
        canvas.stroke([(x, y + 0.03), (x, y), (x, y - 0.045)], 0.008, (0.62, 0.55, 0.51), 0.4, 0.8, inside)
    if mouth.gap > 0.06:
        lower_teeth = [
            (-0.13, bottom - 0.03),
            (-0.12, bottom + 0.012),
            (0, bottom + 0.004),
            (0.12, bottom + 0.012),
            (0.13, bottom - 0.03),
        ]
        canvas.fill(spline(lower_teeth, 6, True), (0.70, 0.67, 0.63), min((mouth.gap - 0.06) / 0.02, 0.9), 1, inside)
    canvas.stroke(mouth.upper_inner, 0.05, (0.05, 0, 0), 0.55, 3, inside)
    canvas.stroke(mouth.upper_inner, 0.014, (0.2, 0.03, 0.05), 0.7, 0.7)
    canvas.stroke(mouth.lower_inner, 0.010, (0.2, 0.03, 0.05), 0.4, 0.7)
    canvas.fill(
        ellipse(-0.03, bottom - mouth.thickness * 0.45, half * 0.38, mouth.thickness * 0.14),
        mix(lip, (1, 1, 1), 0.75),
        0.35,
        2,
    )
    for k in range(-3, 4):
        x = k * half * 0.2
        crack = [(x * (1 + 0.06 * depth), bottom - mouth.thickness * depth) for depth in (0.1, 0.4, 0.75)]
        canvas.stroke(crack, 0.008, lip * 0.78, 0.25, 0.8)
