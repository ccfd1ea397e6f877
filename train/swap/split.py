"""How clips are divided for training and test, and the latter paired (WavSyncSwap, §3.1); no pictures here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgetalk.errors import InputError
from edgetalk.train.filmed.takes import APART

from .data import CLIP_FRAMES, FPS

LEFT_OUT = "left out"
"""What a clip is for that is used for nothing."""


def divided(counts: Sequence[int], seed: int) -> list[list[str]]:
    """Return of each person, who has so many clips, what every clip is for: "train", "valid" or "test".

    §3.1: one in ten clips of training and test is for the test, and half of these are of persons whom training does not
    see. Of every test person half of the clips are: of those who are not seen the first half, and what is left of them
    is "valid"; of the others the last, and training has what comes before. Raises InputError where there are too few.
    """
    if len(counts) < 3:
        raise InputError(
            f"films: got {len(counts)} person{'s' if len(counts) != 1 else ''}, expected 3 at least: two who are "
            "trained on and one who is not"
        )
    order = np.random.default_rng([seed, 93]).permutation(len(counts)).tolist()
    order.sort(key=lambda p: counts[p] == 1)  # who has one clip cannot be in two splits
    unseen: list[int] = []
    half = 0
    while len(order) > 2 and (not unseen or sum(counts[p] - counts[p] // 2 for p in unseen) < half):
        unseen.append(_next(order, counts))
        half = max(1, round(sum(counts[p] for p in order) / 19))
    if len(order) > 2 and not any(counts[p] // 2 for p in unseen):
        unseen.append(_next(order, counts))  # for validation
    known = [p for p in order if counts[p] > 1]
    half = min(half, sum(counts[p] - counts[p] // 2 for p in unseen), sum(counts[p] // 2 for p in known))
    if not half or sum(counts[p] for p in unseen) < half + 1:
        raise InputError(
            f"films: got {sum(counts)} clips of {len(counts)} persons, expected two persons to train on, one of them "
            f"with two clips of {CLIP_FRAMES / FPS} s, and two clips of others; give more or longer films"
        )
    out = [["train"] * count for count in counts]
    left = half
    for person in unseen:
        tested = min(left, max(1, counts[person] - counts[person] // 2))
        out[person] = ["test"] * tested + ["valid"] * (counts[person] - tested)
        left -= tested
    left = half
    for person in known:
        tested = min(left, counts[person] // 2)
        out[person][counts[person] - tested :] = ["test"] * tested
        left -= tested
    return out


def kept_apart(use: Sequence[str], starts: Sequence[tuple[int, int]]) -> list[str]:
    """Return what a person's clips are for, whose films and first frames are given, with one left out where it must be.

    That is the last clip for training, where the tests begin within APART frames of its end in the same film, and
    others remain to train on: its end looks like their beginning.
    """
    out = list(use)
    if out.count("train") < 2 or "test" not in out:
        return out
    first = out.index("test")
    (before, ends), (film, begins) = starts[first - 1], starts[first]
    if before == film and begins - (ends + CLIP_FRAMES) < APART:
        out[first - 1] = LEFT_OUT
    return out


def _next(order: list[int], counts: Sequence[int]) -> int:
    """Take the first person out of `order`, but not the last one who has several clips."""
    several = sum(counts[p] > 1 for p in order)
    person = next(p for p in order if counts[p] == 1 or several > 1)
    order.remove(person)
    return person


def pairs(persons: Sequence[int], seed: int) -> list[tuple[int, int]]:
    """Return for each test clip, whose persons are given, two others: whose first frame is its source, and a sound.

    §3.1: the test set is shuffled into pairs. Each clip is the source of one, and the source is somebody else.
    """
    count = len(persons)
    rng = np.random.default_rng([seed, 94])
    rank = rng.permutation(max(persons) + 1)
    order = sorted(rng.permutation(count).tolist(), key=lambda clip: rank[persons[clip]])
    largest = max(list(persons).count(p) for p in set(persons))  # so far on in the order is somebody else
    source = {clip: order[(i + largest) % count] for i, clip in enumerate(order)}
    return [(source[clip], (clip + (count + 1) // 2) % count) for clip in range(count)]
