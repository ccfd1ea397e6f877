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

LASH = (.07, .035, .03)


def shadow(identity: Identity) -> np.ndarray:
    """The colour of folds in this skin."""
    return mix(identity.skin, (.35, .08, .08), .45) if sum(identity.skin) > 1.3 else mix(
        identity.skin, (.05, .01, .02), .5)


def skin(identity: Identity, size: int) -> np.ndarray:
    """Skin, blush, nostrils, folds, beard, freckles and the roots of the hair; float32 (size, size, 3)."""
    rng = np.random.default_rng([identity.skin_seed, 79])
    dark, light = shadow(identity), sum(identity.skin) > 1.3
    row, column = np.mgrid[0:size, 0:size].astype(np.float32)
    x, y = (column + .5) * 2.4 / size - 1.2, 1.2 - (row + .5) * 2.4 / size

    def wander(cells: int) -> np.ndarray:
        coarse = rng.normal(size=(cells, cells)).astype(np.float32)
        return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)

    image = np.empty((size, size, 3), np.float32)
    image[:] = identity.skin
    image *= (1 + .012 * wander(20) + .006 * wander(60))[..., None]

    def blend(colour, amount) -> None:
        image[:] += (np.asarray(colour, np.float32) - image) * amount[..., None]

    blush = mix(identity.skin, (.85, .18, .18), .5)
    fold = (.05 + .35 * identity.age) * ramp(-y, .33, .38) * (1 - ramp(-y, .5, .6))
    for side in (-1, 1):
        blend(blush, (.34 if light else .2) * bump(x, y, side * .42, -.28, .18, .13))
        blend(dark, .26 * bump(x, y, side * .32, .10, .2, .1))
        nostril = bump(x, y, side * .062 * identity.nose_w, -.352, .035, .016)
        blend((.12, .03, .03), .7 * np.clip(1.6 * nostril, 0, 1))
        blend(dark, fold * np.exp(-(np.abs(x - side * (.14 + (-y - .33) * .55)) / .018) ** 2))
    blend(mix(identity.skin, (.85, .2, .2), .4), .3 * bump(x, y, 0, -.28, .1, .06))
    blend(dark, .28 * bump(x, y, 0, -.385, .12, .02))
    blend(dark, .15 * bump(x, y, 0, -.72, .14, .03))
    if identity.beard:
        edge = -.40 + .42 * ramp(np.abs(x), .30, .62) - .05 * bump(x, y, 0, -.4, .06, 1.0)
        cover = identity.beard * .8 / (1 + np.exp((y - edge) / .03)) * (1 - .55 * bump(x, y, 0, -.71, .05, .03))
        blend(np.array(identity.hair) * 1.1, np.clip(cover * (1 + .06 * wander(70)), 0, 1))
    canvas = Canvas(image, -1.2, 1.2, 2.4)
    for _ in range(identity.freckles * 2):
        spot = ellipse(rng.normal(0, .33), rng.normal(-.15, .14), *[rng.uniform(.004, .008)] * 2)
        canvas.fill(spot, np.array(identity.skin) * .8, .8, .6)
    longitude = np.arcsin(np.clip(x / np.maximum(width(identity, y), 1e-3), -1, 1))
    below = y - hairline(identity, longitude)
    blend(dark, .5 * np.exp(-np.clip(-below / .07, 0, None)) * (below > -.4))
    strand = .006 * np.sin(longitude * 67) + .005 * np.sin(longitude * 113 + 1)
    soft = .09 if identity.style in ("bun", "short", "fade", "swept") else .04
    blend(np.array(identity.hair) * .85, ramp(below + strand, -soft, .02))
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
    depth = .10 + .22 * max(spread, 0.0) + .12 * jaw
    for side in (-1, 1):
        end = mouth.width + .06
        fold = spline([(side * .155, -.33), (side * (.20 + .10 * end), -.40), (side * (end + .005), -.50),
                       (side * (end + .005), mouth.corner - .02)], 6)
        canvas.stroke(fold, .05, dark, depth, 5)
        canvas.fill(ellipse(side * (mouth.width + .012), mouth.corner - .006, .028, .022), dark, .35, 3)


def _eye(canvas: Canvas, identity: Identity, eye: Eye, dark: np.ndarray) -> None:
    if eye.blink < .97:
        white = canvas.stencil(np.r_[eye.top, eye.bottom])
        (px, py), r, iris = eye.pupil, .084 * identity.eye_s, np.array(identity.iris)
        canvas.fill(np.r_[eye.top, eye.bottom], (.90, .885, .875))
        canvas.fill(ellipse(eye.x - eye.side * eye.width * .95, eye.y - .01, .035, .03), (.85, .5, .47), .6, 1, white)
        canvas.fill(ellipse(px, py, r, r), iris * .35, 1, .8, white)
        canvas.fill(ellipse(px, py, r * .85, r * .85), iris, 1, .6, white)
        canvas.fill(ellipse(px, py, r * .66, r * .66), iris * .7 + .25, .45, 1.5, white)
        canvas.fill(ellipse(px, py - r * .35, r * .55, r * .4), iris * .6 + .4, .45, 2, white)
        canvas.fill(ellipse(px, py, r * .45, r * .45), (.02, .02, .02), 1, .5, white)
        canvas.stroke(eye.top - [0, .01], .085, (.10, .05, .05), .5, 3, white)
        canvas.fill(ellipse(px - r * .35, py + r * .4, r * .24, r * .24), (1.35, 1.35, 1.35), 1, .5, white)
        canvas.fill(ellipse(px + r * .4, py - r * .4, r * .12, r * .12), (1.1, 1.1, 1.1), .6, .5, white)
    if eye.blink > .02:
        lid = mix(identity.skin, dark, .25 if identity.sex == "m" else .38)
        canvas.fill(np.r_[eye.crease, eye.top[::-1]], lid, min(1.0, eye.blink * 8), 1)
    canvas.stroke(eye.crease, .022, dark, .6, 1.2)
    canvas.stroke(eye.bottom, .02, dark, .5, 1)
    canvas.stroke(eye.top, .026 + .018 * identity.lash, LASH, .95, .6)
    if identity.lash > .6:
        end = eye.top[0] if eye.side < 0 else eye.top[-1]
        wing = [(.03, .022), (-.05, .035), (.02, -.008)]
        canvas.fill([(end[0] + eye.side * dx, end[1] + dy) for dx, dy in wing], LASH, .9, .6)


def _brow(canvas: Canvas, identity: Identity, brow: Brow) -> None:
    colour = mix(identity.hair, (.1, .06, .04), .4)
    upper, lower = brow
    canvas.fill(np.r_[upper, lower[::-1]], colour, .8, 1.8)
    for i in range(1, len(upper) - 1, 2):
        x, y = lower[i]
        top = upper[min(i + 2, len(upper) - 1)]
        canvas.fill([(x - .006, y - .004), (x + .006, y - .004), (top[0], top[1] + .006)], colour * .75, .5, .6)


def _mouth(canvas: Canvas, identity: Identity, mouth: Mouth, tongue: float) -> None:
    lip, y, half, bottom = np.array(identity.lip), mouth.teeth, mouth.width, mouth.inner_y
    canvas.fill(np.r_[mouth.upper_outer, mouth.upper_inner[::-1]], mix(lip, (.2, .02, .05), .18), 1, 1.2)
    canvas.fill(np.r_[mouth.lower_inner, mouth.lower_outer[::-1]], lip, 1, 1.2)
    opening = np.r_[mouth.upper_inner, mouth.lower_inner[::-1]]
    inside = canvas.stencil(opening)
    canvas.fill(opening, (.10, .02, .03))
    flesh = ellipse(0, bottom - .01 + .06 * tongue, half * .62, .015 + .26 * mouth.gap + .05 * tongue)
    canvas.fill(flesh, (.55, .22, .24), .9, 4, inside)
    teeth = spline([(-.17, y + .06), (-.17, y - .018), (0, y - .040), (.17, y - .018), (.17, y + .06)], 6, True)
    canvas.fill(teeth, (.90, .88, .84), 1, 1, inside)
    for x in (-.055, 0, .055):
        canvas.stroke([(x, y + .03), (x, y), (x, y - .045)], .008, (.62, .55, .51), .4, .8, inside)
    if mouth.gap > .06:
        lower_teeth = [(-.13, bottom - .03), (-.12, bottom + .012), (0, bottom + .004), (.12, bottom + .012),
                       (.13, bottom - .03)]
        canvas.fill(spline(lower_teeth, 6, True), (.70, .67, .63), min((mouth.gap - .06) / .02, .9), 1, inside)
    canvas.stroke(mouth.upper_inner, .05, (.05, 0, 0), .55, 3, inside)
    canvas.stroke(mouth.upper_inner, .014, (.2, .03, .05), .7, .7)
    canvas.stroke(mouth.lower_inner, .010, (.2, .03, .05), .4, .7)
    canvas.fill(ellipse(-.03, bottom - mouth.thickness * .45, half * .38, mouth.thickness * .14),
                mix(lip, (1, 1, 1), .75), .35, 2)
    for k in range(-3, 4):
        x = k * half * .2
        crack = [(x * (1 + .06 * depth), bottom - mouth.thickness * depth) for depth in (.1, .4, .75)]
        canvas.stroke(crack, .008, lip * .78, .25, .8)


