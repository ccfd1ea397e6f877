"""Hair: a shell over the skull whose lower edge is the hairline, and a bun where the style has one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .curves import ramp
from .head import DEPTH, HIGH, LOW, WIDTH, Grid
from .identity import Identity, mix


class Style(NamedTuple):
    volume: float
    low: float
    """Height at which the hair ends at the sides and behind."""
    part: float | None
    """Longitude of the parting."""
    top: float
    """Height of the hairline at the parting, or in the middle."""
    side: float
    """Height of the hairline beside it."""
    rough: float
    """How uneven the edge is."""
    thin: float
    """Part of the shell's height over which its edge thickens."""


STYLES = {
    "long": Style(.11, -1.5, -.25, .80, .10, .9, .16), "bob": Style(.13, -.78, None, .42, .30, .7, .10),
    "bun": Style(.06, -.2, None, .72, .25, .15, .35), "short": Style(.075, -.22, .35, .70, .50, .35, .5),
    "fade": Style(.035, -.05, None, .72, .58, .2, .5), "swept": Style(.10, -.25, -.55, .80, .52, .5, .5)}


def hairline(identity: Identity, longitude: np.ndarray) -> np.ndarray:
    """Height of the hair's lower edge at these longitudes."""
    style, away = STYLES[identity.style], np.abs(longitude)
    if style.part is None:
        middle = np.cos(np.clip(away / 1.25, 0, 1) * np.pi / 2) ** .6
    else:
        middle = np.exp(-((longitude - style.part) / (.9 if identity.style == "short" else .55)) ** 2)
    edge = style.side + (style.top - style.side) * middle
    edge = edge + style.rough * (.02 * np.sin(longitude * 19) + .015 * np.sin(longitude * 31 + 1))
    if identity.sex == "m":  # the hair recedes a little at the temples
        edge = edge + (.03 if identity.style == "fade" else .07) * np.exp(-((away - .72) / .22) ** 2)
    behind = ramp(away, 1.02, 1.28 if identity.style == "long" else 1.36)
    low = style.low if identity.sex == "f" else style.low + (.20 - style.low) * (1 - ramp(away, 1.75, 2.1))
    return edge * (1 - behind) + low * behind + behind * .03 * np.sin(longitude * 23) * (identity.sex == "f")


def shell(identity: Identity, head: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (rows, columns, 3), colours (rows, columns, 3) and ambient light (rows, columns) of the hair."""
    style, longitude, rows = STYLES[identity.style], head.longitude, head.y.shape[0]
    up = np.linspace(0, 1, rows)[:, None]
    edge = hairline(identity, longitude)
    y = edge + (HIGH + .005 - edge) * up
    level = np.clip(y, LOW, HIGH)
    wide = np.where(y < .3, .735, WIDTH(level)) * identity.face_w
    deep = np.where(y < 0, .80, DEPTH(level))
    deep = np.where(np.cos(longitude) < 0, deep * 1.12, deep)
    if identity.style in ("long", "bob"):
        flare = ramp(-y, -.1, 1.2)
        wide, deep = wide * (1 + .10 * flare), deep * (1 - .1 * flare)
    rng = np.random.default_rng(11)
    waves = [rng.uniform(.3, 1) * np.sin(longitude * f + rng.uniform(0, 6)
                                         + 1.5 * np.sin(y * rng.uniform(1, 3) + rng.uniform(0, 6)))
             for f in (17, 29, 41, 57, 73)]
    strands = sum(waves) / 2.5
    fine = sum(np.sin(longitude * f + 2 * np.sin(y * 2 + f)) for f in (53, 71, 97)) / 3
    thick = np.clip(up / style.thin, 0, 1) ** (.5 if style.thin < .3 else .7)
    relief = .010 * (.4 if identity.style in ("fade", "bun") else 1.0)
    out = style.volume * thick + .006 + relief * strands * (1 - up**6) * np.clip(up / .1, 0, 1)
    points = np.stack([(wide + out) * np.sin(longitude), y + style.volume * .9 * ramp(y, .45, HIGH),
                       (deep + out) * np.cos(longitude)], -1)
    ring = np.exp(-((y - .78 + .12 * np.cos(longitude)) / .13) ** 2)
    base = np.array(identity.hair)
    colours = base * ((.95 + .14 * strands + .08 * fine) * (.78 + .36 * np.clip(up * 2, 0, 1)))[..., None]
    colours = colours + mix(base, (1, .92, .8), .55) * ((.20 if base.sum() > .4 else .10) * ring
                                                        * (.7 + .3 * fine))[..., None]
    if identity.sex == "m":  # short hair thins out towards its edge
        root = np.clip(up / (.25 if identity.style == "fade" else .10), 0, 1)[..., None]
        colours = mix(identity.skin, base, .6) * .75 * (1 - root) + colours * root
    return points, np.clip(colours, 0, 1), np.interp(y, [-1.4, -.5, .2], [.75, .85, 1.0])
