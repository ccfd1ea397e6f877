"""Which sample belongs to which video frame, in exact rational arithmetic, so that nothing drifts.

Frame i shows the time [i / fps, (i + 1) / fps). A sound's position is a count of samples, never a sum of
durations: after a day at 30000/1001 frames per second the answer is as right as in the first second.
"""

from __future__ import annotations

import contextlib
import math
import re
from fractions import Fraction

from .errors import InputError

SAMPLE_RATE = 16000  # Hz; every sound inside edgetalk is mono at this rate
MAX_FPS = 240
LARGEST = 1 << 28  # of a rate's numerator and denominator, as in the C library: films keep them in 32 bits
NTSC = 1001  # the denominator of rates such as 30000/1001, which floats can only come near
_RATE = re.compile(r"\d{1,20}(\.\d{0,20})?([eE][+-]?\d{1,2})?|\d{1,20}/\d{1,20}", re.ASCII)


def frame_rate(value: str | int | float | Fraction) -> Fraction:
    """Return frames per second as an exact fraction from 25, "25", 29.97, "30000/1001" or a Fraction.

    A float means the fraction with a denominator up to 1001 that it is the nearest float of, as 30000/1001, else the
    decimal number that it prints as. 29.97 is 2997/100. Raises InputError outside 1 … 240, and where numerator or
    denominator is above 2**28.
    """
    rate = Fraction(0)
    if isinstance(value, Fraction):
        rate = value
    elif isinstance(value, float) and math.isfinite(value) and float(near := _near(value)) == value:
        rate = near
    elif _RATE.fullmatch(str(value)):  # of longer ones, as of 1e99999999, Fraction computes every digit
        with contextlib.suppress(ZeroDivisionError):
            rate = Fraction(str(value))
    got = str(value) or "nothing"
    if not 1 <= rate <= MAX_FPS:
        raise InputError(f"fps: got {got}, expected a number from 1 to {MAX_FPS}; write it as 25 or as 30000/1001")
    if max(rate.numerator, rate.denominator) > LARGEST:
        raise InputError(f"fps: got {got}, expected a fraction of numbers up to {LARGEST}; write it as 30000/1001")
    return rate


def _near(value: float) -> Fraction:
    return Fraction(value).limit_denominator(NTSC)


def frame_count(samples: int, fps: Fraction) -> int:
    """Return how many frames are shown until `samples` samples have sounded; silence fills the last of them.

    >>> frame_count(16001, Fraction(25))
    26
    """
    return frame_at(samples - 1, fps) + 1 if samples > 0 else 0


def frame_at(sample: int, fps: Fraction) -> int:
    """Return the frame that is shown while sample number `sample` (from 0) sounds."""
    return sample * fps.numerator // (fps.denominator * SAMPLE_RATE)


def first_sample(frame: int, fps: Fraction) -> int:
    """Return the number of the first sample that sounds while frame `frame` is shown.

    It is also how many samples all the frames before it take: the chunks between first_sample(i) and
    first_sample(i + 1) differ in size by at most one and sum up without an error.
    """
    return -(-frame * fps.denominator * SAMPLE_RATE // fps.numerator)
