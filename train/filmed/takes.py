"""Takes of a filmed person: stretches without a cut that one fixed square crop holds, divided for training and tests.

AMNet turns a head that stays in its place, so a crop must not follow the head; where it wanders out of the place that
heads have in drawn pictures, another take with a crop of its own begins. Pictures are not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from edgetalk.errors import InputError
from edgetalk.preprocess import TEMPLATES
from edgetalk.train.amnet.dataset import FPS, TEST, TRAIN

MIDDLE = TEMPLATES["amnet"].mean(0)
"""Of the five points of a face (edgetalk.face.Face) in AMNet's picture, fractions."""
SPREAD = float(np.sqrt(((TEMPLATES["amnet"] - MIDDLE) ** 2).sum(1).mean()))
WANDERS = 0.35
"""Way of a face within a take, as a share of the crop's side; drawn heads that turn on their necks go 0.3."""
NEARS = 1.3
"""How many times as large a face may become within a take."""
ENLARGED = 2.0
"""How many times a crop is enlarged at most; a face that would have to be more is too small."""
SHORTEST = FPS
"""Frames; shorter takes are left out."""
TEST_SHARE = 0.16
"""Of each person's frames: the last, as in the paper."""
APART = FPS
"""Frames left out between those for training and those for tests."""


@dataclass(frozen=True)
class Track:
    """What is known of every frame of a film at 25 per second; NaN where no face is."""

    landmarks: np.ndarray
    """float32 (N, 106, 2) pixels, the centre of the first at (0, 0)."""
    points: np.ndarray
    """float32 (N, 5, 2) pixels."""
    pose: np.ndarray
    """float32 (N, 3) radians."""
    blink: np.ndarray
    """float32 (N, 2)."""
    scene: np.ndarray
    """int32 (N,)."""

    @property
    def seen(self) -> np.ndarray:
        """bool (N,)."""
        return np.isfinite(self.points).all((1, 2))


class Crop(NamedTuple):
    """A square of a film's picture; left and top edge and side in pixels, the first pixel begins at 0."""

    left: float
    top: float
    side: float

    def matrix(self, size: int) -> np.ndarray:
        """Return the 2x3 matrix from the picture to the crop of `size` pixels, which preprocess.align takes."""
        scale = size / self.side
        return np.array(
            [[scale, 0, scale * (0.5 - self.left) - 0.5], [0, scale, scale * (0.5 - self.top) - 0.5]], np.float64
        )

    def fractions(self, points: np.ndarray) -> np.ndarray:
        """Return points (…, 2) of the picture as fractions of the crop, float32."""
        return ((points + 0.5 - (self.left, self.top)) / self.side).astype(np.float32)

    def beyond(self, size: tuple[int, int]) -> float:
        """Return how far it reaches over the edge of a picture of `size` (width, height), as a share of its side."""
        over = max(-self.left, -self.top, self.left + self.side - size[0], self.top + self.side - size[1])
        return max(0.0, over / self.side)


@dataclass(frozen=True)
class Take:
    """Frames first … last - 1 of a film, and their crop."""

    film: int
    """Number among the person's films."""
    first: int
    last: int
    crop: Crop
    split: int = TRAIN

    def __len__(self) -> int:
        return max(0, self.last - self.first)


def takes(track: Track, sounding: int, size: int, film: int = 0) -> list[Take]:
    """Return the takes of a film with sound for `sounding` frames, for pictures of `size` pixels; some may be short."""
    middle = track.points.mean(1)
    spread = np.sqrt(((track.points - middle[:, None]) ** 2).sum(2).mean(1))
    sides = spread / SPREAD
    good = track.seen & (np.arange(len(middle)) < sounding) & (sides * ENLARGED >= size)
    found: list[Take] = []
    first: int | None = None
    low = high = np.zeros(3)  # of the middle and of the side, within the take

    def end(last: int) -> None:
        if first is not None:
            side = float(sides[first:last].mean())
            left, top = middle[first:last].mean(0) + 0.5 - MIDDLE * side
            found.append(Take(film, first, last, Crop(float(left), float(top), side)))

    for i in range(len(middle)):
        now = np.array([*middle[i], sides[i]])
        if first is not None:
            low, high = np.fmin(low, now), np.fmax(high, now)
            strays = (high - low)[:2].max() > WANDERS * low[2] or high[2] > NEARS * low[2]
            if not good[i] or strays or track.scene[i] != track.scene[i - 1]:
                end(i)
                first = None
        if first is None and good[i]:
            first, low, high = i, now, now
    end(len(middle))
    return found


def divided(found: Sequence[Take], person: str) -> list[Take]:
    """Return a person's takes, in their order, for training and, the last TEST_SHARE of the frames, for tests.

    A take is cut in two where the tests begin, and APART frames before them are left out. Takes shorter than SHORTEST
    are, too. Raises InputError where one of the two would be empty.
    """
    long = [take for take in found if len(take) >= SHORTEST]
    total = sum(map(len, long))
    left = total - round(TEST_SHARE * total)
    out: list[Take] = []
    for begins in long:  # the tests, where nothing is left
        if left < len(begins):
            film, frame = begins.film, begins.first + left
            ahead = [take for take in long if take.film <= film]
            out += [take if take.film < film else replace(take, last=min(take.last, frame - APART)) for take in ahead]
            later = [replace(take, split=TEST) for take in long if take.film >= film]
            out += [take if take.film > film else replace(take, first=max(take.first, frame)) for take in later]
            break
        left -= len(begins)
    out = [take for take in out if len(take) >= SHORTEST]
    if {take.split for take in out} != {TRAIN, TEST}:
        raise InputError(
            f"{person}: got {total / FPS:.1f} s of face and voice in takes of {SHORTEST / FPS:.0f} s and more, too "
            "little for training and tests; film for 10 s at the very least, and for minutes to be of any use"
        )
    return out
