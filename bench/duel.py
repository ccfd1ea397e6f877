"""Which of two is slower, decided from blocks of frames that both make in turns: what a noisy machine cannot fool.

Both blocks of a pair see the same machine within the same half second, so their ratio is free of its load, heat and
neighbours; who begins changes from pair to pair. A block counts by the median of its frames, the whole by the median
of the pairs, with the confidence interval that the sign test gives, whatever the noise is distributed like. The
verdict falls when the interval lies on one side of LIMIT; until then more pairs are taken, up to PAIRS.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LIMIT = 1.05  # half way between as fast and a tenth slower
LEVEL = 1e-3  # chance that the interval misses the true median, at one look
LOOK = 20  # pairs between two looks at the interval
PAIRS = 200
FEWEST = 11  # pairs or turns of which the sign test gives an interval with ends at LEVEL
FRAMES = 10  # of a block

Block = Callable[[int], Sequence[float]]
"""block(frames) -> seconds of each."""


@dataclass(frozen=True)
class Verdict:
    """How many times longer the second takes than the first."""

    ratio: float
    low: float
    high: float
    pairs: int

    @property
    def slower(self) -> bool:
        """Whether the second is slower by more than noise and LIMIT would have it."""
        return self.low > LIMIT

    @property
    def decided(self) -> bool:
        return self.low > LIMIT or self.high < LIMIT

    def __str__(self) -> str:
        return f"{self.ratio:.3f} times ({self.low:.3f} to {self.high:.3f}, {self.pairs} pairs)"


def interval(values: Sequence[float] | NDArray[np.float64], level: float = LEVEL) -> tuple[float, float]:
    """Return the confidence interval of the median: the order statistics that it lies between but for `level`.

    Fewer values than that takes give an interval without end.
    """
    ordered, n = sorted(values), len(values)
    rank, tail = 0, 1 / 2**n
    while rank < n // 2 and tail <= level / 2:
        rank += 1
        tail += math.comb(n, rank) / 2**n
    return (ordered[rank - 1], ordered[n - rank]) if rank else (-math.inf, math.inf)


def judge(ratios: Sequence[float]) -> Verdict:
    """Return the verdict on the ratios of pairs."""
    low, high = interval(np.log(ratios))
    return Verdict(float(np.median(ratios)), math.exp(low), math.exp(high), len(ratios))


def ratio_interval(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    """Return low, median and high of how many times longer the turns of one took than those of the other.

    For a file: rounded. It takes FEWEST turns, or the interval is without end.
    """
    verdict = judge(np.divide(slow, fast).tolist())
    return [round(value, 4) for value in (verdict.low, verdict.ratio, verdict.high)]


def duel(first: Block, second: Block, expected: float = 1.0, frames: int = FRAMES, pairs: int = PAIRS) -> Verdict:
    """Let both make blocks of `frames` in turns until it is decided, or for `pairs` pairs.

    The second is `expected` to take as many times longer than the first: the verdict is on what exceeds that.
    """
    order, ratios = random.Random(0), []
    while True:
        for _ in range(LOOK):
            both = {}
            for k in order.sample((0, 1), 2):
                both[k] = float(np.median((first, second)[k](frames)))
            ratios.append(both[1] / both[0] / expected)
        verdict = judge(ratios)
        if verdict.decided or len(ratios) >= pairs:
            return verdict
