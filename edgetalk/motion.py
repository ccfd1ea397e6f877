"""Where the pose and the blinks of a talking head come from: `Still`, `Idle`, or a film (driving.py).

A motion answers `pose_blink(i)` for any frame i, in any order, without a state. Idle life is arithmetic on
doubles alone (splitmix64, +, -, *, /, floor): no sine, no random generator, so that another language computes the
same numbers.
"""

from __future__ import annotations

import math
import os
import reprlib
import textwrap
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Protocol

import numpy as np

from .arrays import Array
from .errors import InputError
from .preprocess import whole
from .progress import OnFrame

YAW = math.radians(6.0)  # the head never turns farther than this
PITCH = math.radians(3.0)
ROLL = math.radians(2.0)
SLOW, SWIFT = 3.1, 1.3  # seconds between two targets of the slow and of the swift part of the motion
SLOW_SHARE = 0.75  # part of the amplitude that the slow part takes

BLINK_PERIOD = 3.5  # seconds; the intervals between blinks are this ± BLINK_JITTER: 2 to 5 s
BLINK_JITTER = 1.5
FIRST_BLINK = 1.0  # seconds; the first blink starts here or up to BLINK_JITTER later
DOUBLE_CHANCE = 0.125  # how many blinks are followed by a second one
DOUBLE_GAP = 0.35  # seconds between the starts of the two
CLOSING, CLOSED, OPENING = 0.07, 0.04, 0.10  # seconds; the lids stay shut for one frame at 25 fps

_MASK = (1 << 64) - 1


class Motion(Protocol):
    """Anything that knows the pose and the blinks of every frame; several threads may ask it at the same time."""

    def pose_blink(self, i: int) -> tuple[Array, Array]:
        """Return pose, float32 (3,): yaw, pitch, roll in radians; and blink, float32 (2,), of frame i >= 0."""


def splitmix64(x: int) -> int:
    """Return the splitmix64 mix (Steele, Lea, Flood 2014) of a 64-bit unsigned integer.

    >>> hex(splitmix64(0))
    '0xe220a8397b1dcdaf'
    """
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _unit(seed: int, channel: int, k: int) -> float:
    """A number in [0, 1) that belongs to (seed, channel, k): the top 53 bits of a chain of three mixes."""
    mixed = splitmix64((splitmix64((splitmix64(seed & _MASK) + channel) & _MASK) + k) & _MASK)
    return (mixed >> 11) * 2.0**-53


def _smooth(f: float) -> float:
    """The quintic from 0 to 1 whose first and second derivatives vanish at both ends."""
    return f * f * f * (f * (f * 6.0 - 15.0) + 10.0)


def _drift(seed: int, channel: int, seconds: float, period: float) -> float:
    """A smooth curve in [-1, 1) through one target per period; each channel has its own phase."""
    x = seconds / period + _unit(seed, channel, -1)
    k = math.floor(x)
    start, end = _unit(seed, channel, k), _unit(seed, channel, k + 1)
    return 2.0 * (start + (end - start) * _smooth(x - k)) - 1.0


def _lid(seconds: float) -> float:
    """How far the lids are closed, `seconds` after a blink started."""
    if 0.0 <= seconds < CLOSING:
        return _smooth(seconds / CLOSING)
    if 0.0 <= seconds < CLOSING + CLOSED:
        return 1.0
    if 0.0 <= seconds < CLOSING + CLOSED + OPENING:
        return 1.0 - _smooth((seconds - CLOSING - CLOSED) / OPENING)
    return 0.0


class Idle:
    """Natural life of a listening or speaking head: it drifts slowly, and it blinks every 2 to 5 seconds.

    The same seed and rate give the same numbers on every machine. Yaw, pitch and roll stay within YAW, PITCH and
    ROLL; every eighth blink or so is a double one.

    >>> pose, blink = Idle(seed=1).pose_blink(100)
    """

    def __init__(self, seed: int = 0, fps: Fraction = Fraction(25)) -> None:
        number = whole(seed)
        if number is None:
            raise InputError(f"seed: got {seed!r}, expected a whole number")
        self.seed = number  # numpy's integers would overflow where ours do not
        self.fps = fps

    def pose_blink(self, i: int) -> tuple[Array, Array]:
        """Return pose, float32 (3,): yaw, pitch, roll in radians; and blink, float32 (2,), of frame i >= 0."""
        seconds = i * self.fps.denominator / self.fps.numerator
        pose = [
            amplitude
            * (
                SLOW_SHARE * _drift(self.seed, 2 * axis, seconds, SLOW)
                + (1.0 - SLOW_SHARE) * _drift(self.seed, 2 * axis + 1, seconds, SWIFT)
            )
            for axis, amplitude in enumerate((YAW, PITCH, ROLL))
        ]
        lid = self._blink(seconds)
        return np.array(pose, np.float32), np.array([lid, lid], np.float32)

    def _blink(self, seconds: float) -> float:
        k = math.floor((seconds - FIRST_BLINK) / BLINK_PERIOD)
        if k < 0:
            return 0.0
        since = seconds - (FIRST_BLINK + k * BLINK_PERIOD + BLINK_JITTER * _unit(self.seed, 6, k))
        again = _unit(self.seed, 7, k) < DOUBLE_CHANCE
        return max(_lid(since), _lid(since - DOUBLE_GAP) if again else 0.0)


class Still:
    """A head that faces the camera, eyes open, and never moves."""

    def pose_blink(self, i: int) -> tuple[Array, Array]:
        """Return zeros, for pose float32 (3,) and blink float32 (2,)."""
        return np.zeros(3, np.float32), np.zeros(2, np.float32)


MOTIONS = ("idle", "still")
_NAMES = f"one of {', '.join(MOTIONS)}, or a film whose head moves so"


def motion_of(
    motion: str | os.PathLike[str] | Motion,
    seed: int,
    fps: Fraction,
    *,
    limits: Mapping[str, Sequence[float]] | None = None,
    frames: int | None = None,
    face_models: str | os.PathLike[str] | None = None,
    progress: OnFrame | None = None,
) -> Motion:
    """Return the motion called "idle" or "still", or that of a film; a motion that is one already is returned as it is.

    What else is a string or path is a film, or its track file; limits, frames, face_models and progress are those of
    driving.drive. Raises InputError for a name that is neither a motion nor a file.
    """
    if not isinstance(motion, str | os.PathLike):
        if isinstance(motion, type) or not callable(getattr(motion, "pose_blink", None)):
            told = f"{motion.dtype} {motion.shape}" if isinstance(motion, np.ndarray) else reprlib.repr(motion)
            got = textwrap.shorten(told, 60, placeholder=" …")
            raise InputError(f"motion: got {got}, expected {_NAMES}, or an object with pose_blink(i)")
        return motion
    if motion == "idle":
        return Idle(seed, fps)
    if motion == "still":
        return Still()
    path = os.fspath(motion)
    if not os.path.splitext(path)[1] and not os.path.exists(path):
        raise InputError(f"motion: got {path!r}, expected {_NAMES}")
    from .driving import drive

    return drive(path, fps, limits=limits, frames=frames, face_models=face_models, progress=progress)
