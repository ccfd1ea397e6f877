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
    "long": Style(0.11, -1.5, -0.25, 0.80, 0.10, 0.9, 0.16),
    "bob": Style(0.13, -0.78, None, 0.42, 0.30, 0.7, 0.10),
    "bun": Style(0.06, -0.2, None, 0.72, 0.25, 0.15, 0.35),
    "short": Style(0.075, -0.22, 0.35, 0.70, 0.50, 0.35, 0.5),
    "fade": Style(0.035, -0.05, None, 0.72, 0.58, 0.2, 0.5),
    "swept": Style(0.10, -0.25, -0.55, 0.80, 0.52, 0.5, 0.5),
}


def hairline(identity: Identity, longitude: np.ndarray) -> np.ndarray:
    """Height of the hair's lower edge at these longitudes."""
    style, away = STYLES[identity.style], np.abs(longitude)
    if style.part is None:
        middle = np.cos(np.clip(away / 1.25, 0, 1) * np.pi / 2) ** 0.6
    else:
        middle = np.exp(-(((longitude - style.part) / (0.9 if identity.style == "short" else 0.55)) ** 2))
    edge = style.side + (style.top - style.side) * middle
    edge = edge + style.rough * (0.02 * np.sin(longitude * 19) + 0.015 * np.sin(longitude * 31 + 1))
    if identity.sex == "m":  # the hair recedes a little at the temples
        edge = edge + (0.03 if identity.style == "fade" else 0.07) * np.exp(-(((away - 0.72) / 0.22) ** 2))
    behind = ramp(away, 1.02, 1.28 if identity.style == "long" else 1.36)
    low = style.low if identity.sex == "f" else style.low + (0.20 - style.low) * (1 - ramp(away, 1.75, 2.1))
    return edge * (1 - behind) + low * behind + behind * 0.03 * np.sin(longitude * 23) * (identity.sex == "f")


def shell(identity: Identity, head: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (rows, columns, 3), colours (rows, columns, 3) and ambient light (rows, columns) of the hair."""
    style, longitude, rows = STYLES[identity.style], head.longitude, head.y.shape[0]
    up = np.linspace(0, 1, rows)[:, None]
    edge = hairline(identity, longitude)
    y = edge + (HIGH + 0.005 - edge) * up
    level = np.clip(y, LOW, HIGH)
    wide = np.where(y < 0.3, 0.735, WIDTH(level)) * identity.face_w
    deep = np.where(y < 0, 0.80, DEPTH(level))
    deep = np.where(np.cos(longitude) < 0, deep * 1.12, deep)
    if identity.style in ("long", "bob"):
        flare = ramp(-y, -0.1, 1.2)
        wide, deep = wide * (1 + 0.10 * flare), deep * (1 - 0.1 * flare)
    rng = np.random.default_rng(11)
    waves = [
        rng.uniform(0.3, 1)
        * np.sin(longitude * f + rng.uniform(0, 6) + 1.5 * np.sin(y * rng.uniform(1, 3) + rng.uniform(0, 6)))
        for f in (17, 29, 41, 57, 73)
    ]
    strands = sum(waves) / 2.5
    fine = sum(np.sin(longitude * f + 2 * np.sin(y * 2 + f)) for f in (53, 71, 97)) / 3
    thick = np.clip(up / style.thin, 0, 1) ** (0.5 if style.thin < 0.3 else 0.7)
    relief = 0.010 * (0.4 if identity.style in ("fade", "bun") else 1.0)
    out = style.volume * thick + 0.006 + relief * strands * (1 - up**6) * np.clip(up / 0.1, 0, 1)
    points = np.stack(
        [
            (wide + out) * np.sin(longitude),
            y + style.volume * 0.9 * ramp(y, 0.45, HIGH),
            (deep + out) * np.cos(longitude),
        ],
        -1,
    )
    ring = np.exp(-(((y - 0.78 + 0.12 * np.cos(longitude)) / 0.13) ** 2))
    base = np.array(identity.hair)
    colours = base * ((0.95 + 0.14 * strands + 0.08 * fine) * (0.78 + 0.36 * np.clip(up * 2, 0, 1)))[..., None]
    colours = (
        colours
        + mix(base, (1, 0.92, 0.8), 0.55)
        * ((0.20 if base.sum() > 0.4 else 0.10) * ring * (0.7 + 0.3 * fine))[..., None]
    )
    if identity.sex == "m":  # short hair thins out towards its edge
        root = np.clip(up / (0.25 if identity.style == "fade" else 0.10), 0, 1)[..., None]
        colours = mix(identity.skin, base, 0.6) * 0.75 * (1 - root) + colours * root
    return points, np.clip(colours, 0, 1), np.interp(y, [-1.4, -0.5, 0.2], [0.75, 0.85, 1.0])
