"""Smoothing of what is measured frame by frame: still where it hardly moves, prompt where it moves fast.

Casiez, Roussel and Vogel, 1€ filter: a simple speed-based low-pass filter for noisy input, CHI 2012. Causal: a frame
waits for none to come.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPEED_CUTOFF = 1.0  # Hz, of the low-pass filter on the speed, as in the paper


class OneEuro:
    """A filter over arrays of one shape, each number by itself.

    `cutoff` in Hz is how much is let through of what stands still; every unit per second of speed adds `beta` Hz.
    """

    def __init__(self, fps: Fraction | float, cutoff: float, beta: float) -> None:
        self._fps, self._cutoff, self._beta = float(fps), cutoff, beta
        self.reset()

    def reset(self) -> None:
        """Forget what came before."""
        self._value: NDArray[np.float64] | None = None
        self._speed: NDArray[np.float64] | None = None

    def __call__(self, value: NDArray[Any], unit: float = 1.0) -> NDArray[np.float32]:
        """Return the filtered value of the next frame, float32; speeds are counted in `unit` per second."""
        new = np.asarray(value, np.float64)
        if self._value is None or self._speed is None:
            self._value, self._speed = new, np.zeros_like(new)
        else:
            speed = (new - self._value) * (self._fps / unit)
            self._speed = self._speed + self._share(SPEED_CUTOFF) * (speed - self._speed)
            cutoff = self._cutoff + self._beta * np.abs(self._speed)
            self._value = self._value + self._share(cutoff) * (new - self._value)
        return self._value.astype(np.float32)

    def _share(self, cutoff: Any) -> Any:
        """Part of the new value in the mean of old and new, for a cutoff in Hz."""
        return 1 / (1 + self._fps / (2 * math.pi * cutoff))
