"""Contestants take turns in one run: both times of a turn were taken of the same machine, within tenths of a second."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgetalk.timing import sample

PAUSE = 0.01  # seconds: worker threads of the one before go to sleep and do not eat into the next one's turn

Seconds = NDArray[np.float64]
"""(turns, block)."""


Name = TypeVar("Name", bound=Hashable)
Made = TypeVar("Made")


def each_turn(works: Mapping[Name, Callable[[], Made]], turns: int, *, warm_up: int = 0) -> dict[Name, list[Made]]:
    """Return what each of `works` returned, turn for turn: in a turn all come once, in an order drawn anew.

    The first `warm_up` turns do not count.
    """
    order, names = random.Random(0), list(works)
    made: dict[Name, list[Made]] = {name: [] for name in names}
    for turn in range(warm_up + turns):
        for name in order.sample(names, len(names)):
            time.sleep(PAUSE)
            got = works[name]()
            if turn >= warm_up:
                made[name].append(got)
    return made


def in_turns(
    works: Mapping[Name, Callable[[], Any]], turns: int, *, block: int = 5, warm_up: int = 1
) -> dict[Name, Seconds]:
    """Return the seconds of each call of `works`, `block` of them in a turn.

    A turn begins with a call that does not count: it finds in the caches what the one before left there. Nor do the
    first `warm_up` turns of all.
    """
    blocks = {name: partial(sample, work, block, warm_up=1) for name, work in works.items()}
    return {name: np.array(taken) for name, taken in each_turn(blocks, turns, warm_up=warm_up).items()}


def milliseconds(taken: Seconds) -> float:
    """Return the median."""
    return 1e3 * float(np.median(taken))


def ratio(slow: Seconds, fast: Seconds) -> float:
    """Return how many times as long `slow` took as `fast`: the median over the turns of what each turn says."""
    return float(np.median(np.median(slow, axis=1) / np.median(fast, axis=1)))
