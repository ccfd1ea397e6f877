"""Contestants take turns in one run: both times of a turn were taken of the same machine, within tenths of a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetalk.benchmark import sample

PAUSE = 0.01  # seconds: worker threads of the one before go to sleep and do not eat into the next one's turn

Seconds = NDArray[np.float64]
"""(turns, block)."""


def in_turns(
    works: Mapping[str, Callable[[], Any]], turns: int, *, block: int = 5, warm_up: int = 1
) -> dict[str, Seconds]:
    """Return the seconds of each call of `works`, `block` of them in a turn.

    A turn begins with a call that does not count: it finds in the caches what the one before left there. Nor do the
    first `warm_up` turns of all.
    """
    seconds: dict[str, list[list[float]]] = {name: [] for name in works}
    for turn in range(warm_up + turns):
        for name, work in works.items():
            time.sleep(PAUSE)
            taken = sample(work, block, warm_up=1)
            if turn >= warm_up:
                seconds[name].append(taken)
    return {name: np.array(taken) for name, taken in seconds.items()}


def milliseconds(taken: Seconds) -> float:
    """Return the median."""
    return 1e3 * float(np.median(taken))


def times(slow: Seconds, fast: Seconds) -> float:
    """Return how many times as long `slow` took as `fast`: the median over the turns of what each turn says."""
    return float(np.median(np.median(slow, axis=1) / np.median(fast, axis=1)))
