"""CPBD, the cumulative probability of blur detection (Narvekar & Karam 2009): sharpness without a reference.

Leaves out colour: it takes luma. Blocks are 64×64 in the paper; pictures of faces of 96×96 take smaller ones.
"""

from __future__ import annotations

import numba
import numpy as np

BETA = 3.6
"""Exponent of the psychometric function, Eq. 1."""
JUST_NOTICEABLE = 0.63
"""Blur below this probability is not seen, Eq. 4."""


def cpbd(luma: np.ndarray, block: int = 64) -> float:
    """Share of the edges of a picture (H, W), 0–255, whose blur goes unnoticed; nan without an edge."""
    luma = np.asarray(luma, np.float32)
    slope = np.zeros_like(luma)
    slope[1:-1, 1:-1] = (
        luma[:-2, 2:] + 2 * luma[1:-1, 2:] + luma[2:, 2:] - luma[:-2, :-2] - 2 * luma[1:-1, :-2] - luma[2:, :-2]
    )
    widths, contrast = [], []
    for top in range(0, luma.shape[0] - block + 1, block):
        for left in range(0, luma.shape[1] - block + 1, block):
            rows, columns = slice(top, top + block), slice(left, left + block)
            found = _edge_widths(luma, slope, top, left, block)
            if len(found) > 0.002 * block * block:  # a block with too few edges is no edge block
                widths.append(found)
                contrast.append(np.full(len(found), np.ptp(luma[rows, columns])))
    if not widths:
        return float("nan")
    noticeable = np.where(np.concatenate(contrast) <= 50, 5.0, 3.0)  # widths just seen as blurred, by contrast
    probability = 1 - np.exp(-((np.concatenate(widths) / noticeable) ** BETA))
    return float((probability <= JUST_NOTICEABLE).mean())


@numba.njit(cache=True)
def _edge_widths(luma, slope, top, left, block):
    """Widths in pixels, along rows, of the vertical edges of one block: from extremum to extremum of the luma."""
    # An edge is where the slope is steepest in its row, and steep for its picture.
    steep = 2.0 * np.sqrt((slope * slope).mean())
    out = []
    for y in range(top, top + block):
        for x in range(left, left + block):
            if x < 1 or x > luma.shape[1] - 2:
                continue
            here = abs(slope[y, x])
            if here <= steep or here < abs(slope[y, x - 1]) or here <= abs(slope[y, x + 1]):
                continue
            sign = 1.0 if slope[y, x] > 0 else -1.0
            a = x
            while a > 0 and sign * (luma[y, a] - luma[y, a - 1]) > 0:
                a -= 1
            b = x
            while b < luma.shape[1] - 1 and sign * (luma[y, b + 1] - luma[y, b]) > 0:
                b += 1
            out.append(b - a)
    return np.array(out)
