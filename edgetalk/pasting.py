"""How the crops of a family of networks go back into the picture that they were cut out of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Array, Picture
from .postprocess import change, feather, match_colour, oval, within_jaw

MASKS: dict[str, Callable[[int], Array]] = {
    "wav2lip": partial(feather, border=0.07, top=0.57),  # what is above the nose stays the frame's
    "simswap": partial(oval, border=0.08),
    "wavsyncswap": partial(oval, border=0.08),
}
"""Where a family's crops are pasted, by their size; those named here can dub."""
HALF_BLIND = ("wav2lip", "wavsyncswap")
"""Families from which the lower half of the target is hidden, what lies beside the face there too."""


class Pasting:
    """Makes of a repainted crop, of `size` pixels, what is blended into the picture.

    Its colours are matched where both show the same. Where the network is half blind the picture stays as it is beside
    the jaw; if it `swaps` faces, too, the jaw's edge stays the film's, tinted like the new face: else the network would
    draw the new person's jaw.
    """

    def __init__(self, family: str, size: int, swaps: bool) -> None:
        self.mask: Array = MASKS[family](size)
        self._half_blind, self._swaps = family in HALF_BLIND, swaps

    def layers(
        self, painted: Picture, cut: Picture, matrix: NDArray[Any], jaw: NDArray[Any] | None = None
    ) -> tuple[Array, Array]:
        """Return colours and share as of postprocess.change, for a crop painted over `cut`.

        Both are uint8 (S, S, 3), cut out with `matrix`; `jaw` is in pixels of the picture, (17, 2) as of Face, or NaN.
        """
        matched, mask = match_colour(painted, cut, 1 - self.mask), self.mask
        if not self._half_blind or jaw is None or not np.isfinite(jaw).all():
            return change(matched, mask, cut)
        jaw = jaw @ matrix[:, :2].T + matrix[:, 2]
        return change(matched, mask * within_jaw(jaw, len(cut)), cut, jaw if self._swaps else None)
