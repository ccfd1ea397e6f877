"""Where eyes, brows and lips lie on the face for given controls: the curves that are painted and that give the
landmarks, in the face's painted plane (x to the viewer's right, y up)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .curves import spline
from .identity import Identity
from .visemes import SHAPES


@dataclass(frozen=True)
class Controls:
    """One frame of an announcer; what is left out follows from the rest, so that nothing else varies."""

    mouth: np.ndarray = field(default_factory=lambda: SHAPES["sil"])
    """(7,) of visemes.AXES."""
    pose: np.ndarray = field(default_factory=lambda: np.zeros(3))
    """(3,) yaw, pitch, roll in radians; yaw > 0 turns the nose to the image's right, pitch > 0 up, roll > 0
    clockwise as seen."""
    blink: np.ndarray = field(default_factory=lambda: np.zeros(2))
    """(2,) the subject's left (image right) and right eye; 0 open, 1 closed."""
    gaze: tuple[float, float] | None = None
    """Right and up, about ±1; by default the eyes stay on the camera."""
    brow: float | None = None
    """Brows raised; by default they follow the pitch."""
    smile: float = 0.5

    def looking(self) -> tuple[float, float]:
        """Gaze, or what follows from the pose."""
        return (-0.55 * float(self.pose[0]), -1.1 * float(self.pose[1])) if self.gaze is None else self.gaze

    def raised(self) -> float:
        """Brow, or what follows from the pose."""
        return 0.3 + 1.2 * float(self.pose[1]) if self.brow is None else self.brow


class Eye(NamedTuple):
    """side −1 is the viewer's left; top runs left to right, bottom right to left."""

    side: int
    x: float
    y: float
    width: float
    blink: float
    top: np.ndarray
    bottom: np.ndarray
    crease: np.ndarray
    pupil: tuple[float, float]


class Brow(NamedTuple):
    """Both edges run from the nose outwards."""

    upper: np.ndarray
    lower: np.ndarray


class Mouth(NamedTuple):
    """All four lip curves run left to right."""

    width: float
    """Half its width."""
    teeth: float
    """Height of the upper teeth; round lips hide them."""
    corner: float
    gap: float
    inner_y: float
    """Height of the lower lip's inner edge."""
    thickness: float
    """Of the lower lip."""
    upper_outer: np.ndarray
    upper_inner: np.ndarray
    lower_inner: np.ndarray
    lower_outer: np.ndarray


class Features(NamedTuple):
    eyes: tuple[Eye, Eye]
    brows: tuple[Brow, Brow]
    mouth: Mouth


def features(identity: Identity, controls: Controls) -> Features:
    """All curves; index 0 of eyes and brows is the viewer's left."""
    sides = ((-1, float(controls.blink[1])), (1, float(controls.blink[0])))
    eyes = tuple(_eye(identity, side, blink, controls.looking()) for side, blink in sides)
    brows = tuple(_brow(identity, side, blink, controls.raised()) for side, blink in sides)
    return Features(eyes, brows, _mouth(identity, controls.mouth, controls.smile))


def _eye(identity: Identity, side: int, blink: float, gaze: tuple[float, float]) -> Eye:
    x, y = side * (0.325 + identity.eye_dx), 0.045
    width, tilt = 0.155 * identity.eye_s, 0.012 * side
    up, down = 0.088 * identity.eye_s * (1 - 0.25 * identity.age), 0.047 * identity.eye_s
    middle, flank = up * (1 - blink) - down * blink, up * 0.765 * (1 - blink) - down * 0.7 * blink
    top = spline(
        [
            (x - width, y - tilt),
            (x - width * 0.55, y + flank),
            (x, y + middle),
            (x + width * 0.55, y + flank),
            (x + width, y + tilt),
        ]
    )
    bottom = spline(
        [
            (x + width, y + tilt),
            (x + width * 0.5, y - down * 0.85),
            (x, y - down * 1.05),
            (x - width * 0.5, y - down * 0.85),
            (x - width, y - tilt),
        ]
    )
    fold = y + up * 1.25 - 0.03 * blink
    crease = spline(
        [(x - width * 0.95, y + 0.04), (x - width * 0.4, fold), (x + width * 0.4, fold), (x + width * 0.95, y + 0.04)]
    )
    return Eye(side, x, y, width, blink, top, bottom, crease, (x + gaze[0] * 0.3, y + 0.02 + gaze[1] * 0.15))


def _brow(identity: Identity, side: int, blink: float, raised: float) -> Brow:
    y = 0.235 + identity.brow_y + 0.05 * raised - 0.01 * blink
    half = 0.024 * identity.brow_t
    middle = [(side * 0.14, y - 0.012), (side * 0.26, y + 0.03), (side * 0.40, y + 0.048), (side * 0.53, y - 0.005)]
    return Brow(
        spline([(px, py + half * (1.2 - 0.25 * i)) for i, (px, py) in enumerate(middle)], 6),
        spline([(px, py - half * (1.2 - 0.3 * i)) for i, (px, py) in enumerate(middle)], 6),
    )


def _mouth(identity: Identity, shape: np.ndarray, smile: float) -> Mouth:
    jaw, spread, raised, tuck, press, _, protrude = (float(value) for value in shape)
    roundness = max(-spread, 0.0)
    half = 0.23 * identity.mouth_w * (1 + 0.20 * spread - 0.12 * jaw - 0.04 * jaw * roundness + 0.06 * smile)
    y = -0.575
    opening = 0.15 * jaw * (1 - press)
    upper = 0.058 * identity.lip_t * (1 - 0.5 * press) * (1 + 0.2 * protrude)
    lower = 0.07 * identity.lip_t * (1 - 0.5 * press) * (1 - 0.75 * tuck) * (1 + 0.2 * protrude)
    corner = y - opening * 0.35 + 0.075 * smile * (1 - 0.6 * roundness)
    top = y + 0.002 + 0.05 * raised * (1 - press) * (1 - 0.4 * tuck) + 0.03 * opening
    bottom = min(y - opening * 0.9 + 0.05 * tuck, top - 0.002)
    return Mouth(
        half,
        y + 0.03 * roundness,
        corner,
        top - bottom,
        bottom,
        lower,
        upper_outer=spline(
            [
                (-half, corner),
                (-half * 0.55, top + upper * 0.72),
                (-half * 0.16, top + upper * 1.08),
                (0, top + upper * 0.86),
                (half * 0.16, top + upper * 1.08),
                (half * 0.55, top + upper * 0.72),
                (half, corner),
            ]
        ),
        upper_inner=_arc(half * 0.93, corner, top, 0.75),
        lower_inner=_arc(half * 0.93, corner, bottom, 0.85),
        lower_outer=_arc(half, corner, bottom - lower * 1.05, 0.9),
    )


_HALF_TURN = np.linspace(np.pi, 0, 33)


def _arc(half: float, end: float, middle: float, power: float) -> np.ndarray:
    """Half an ellipse-like curve from (−half, end) over (0, middle) to (half, end), fuller for a smaller power."""
    return np.stack([half * np.cos(_HALF_TURN), end + (middle - end) * np.sin(_HALF_TURN) ** power], 1)
