"""What happens around a network after it ran: an aligned face crop goes back into the frame that it came from.

The other half of the shared layer of preprocess.py. A crop is pasted under a mask that fades out towards its
border, after its colours were matched with those of the frame where the two should not differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .preprocess import Array, Picture, warp

MAX_GAIN, MAX_SHIFT = 1.5, 48.0  # beyond that the two pictures differ in what they show, not in their light
CHANGED = 16.0  # of 255; a crop that differs by that much from what it was shows something else


def feather(size: int, border: float = 0.15, top: float | None = None) -> Array:
    """Return a mask, float32 (size, size): 1 inside, 0 at the edges, and half a cosine between.

    `border` is the width of the fade as a fraction of the size. `top` moves the upper fade down, so that it ends at
    this fraction of the height: what is above it stays the frame's.
    """
    at = (np.arange(size) + 0.5) / size

    def rise(distance: NDArray[np.float64]) -> NDArray[np.float64]:
        return 0.5 - 0.5 * np.cos(np.pi * np.clip(distance / border, 0.0, 1.0))

    columns = rise(np.minimum(at, 1 - at))
    rows = rise(np.minimum(at if top is None else at - (top - border), 1 - at))
    return (rows[:, None] * columns).astype(np.float32)


def oval(size: int, border: float = 0.1) -> Array:
    """Return a mask, float32 (size, size): 1 in an oval with the crop's sides, 0 at its edge, half a cosine between.

    `border` is the width of the fade as a fraction of the size. The oval is a superellipse, |x|³ + |y|³ = 1: wide
    enough for a jaw, without the corners that show nothing of a face.
    """
    at = np.abs(2 * (np.arange(size) + 0.5) / size - 1) ** 3
    inside = 1 - np.cbrt(at[:, None] + at)  # of half the size
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.clip(inside / (2 * border), 0.0, 1.0)), np.float32)


def match_colour(crop: Picture, reference: Picture, mask: Array) -> Picture:
    """Return `crop` with the colours of `reference`, uint8 (S, S, 3): a gain and an offset for each channel.

    They make mean and standard deviation equal where `mask` (S, S), 0 to 1, tells that both show the same, but never
    by more than MAX_SHIFT of 255 and MAX_GAIN.
    """
    weight = mask[:, :, None] / max(float(mask.sum()), 1e-6)

    def moments(picture: Picture) -> tuple[NDArray[Any], NDArray[Any]]:
        mean = (weight * picture).sum((0, 1))
        return mean, np.sqrt((weight * (picture - mean) ** 2).sum((0, 1)))

    (mean, spread), (want, wanted_spread) = moments(crop), moments(reference)
    gain = np.clip(np.maximum(wanted_spread, 1.0) / np.maximum(spread, 1.0), 1 / MAX_GAIN, MAX_GAIN)
    shift = np.clip(want - mean, -MAX_SHIFT, MAX_SHIFT)
    matched: Picture = np.clip(np.rint((crop - mean) * gain + mean + shift), 0, 255).astype(np.uint8)
    return matched


def paste(
    frame: Picture, crop: Picture, matrix: NDArray[np.float64], mask: Array, original: Picture | None = None
) -> Picture:
    """Return a copy of `frame`, uint8 (H, W, 3), with `crop` back where `align` took it out with `matrix`.

    `crop` is uint8 (S, S, 3), `mask` float32 (S, S), 0 where the frame stays as it is. What of the crop lies
    outside the frame is cut off. A crop that went through two warps is softer than the frame; where `original`, the
    crop as `align` gave it, shows that nothing has changed, the frame's own detail is kept.
    """
    import cv2

    size = crop.shape[0]
    height, width = frame.shape[:2]
    back = cv2.invertAffineTransform(np.asarray(matrix, np.float64))
    corners = np.array([[-0.5, -0.5, 1], [size - 0.5, -0.5, 1], [-0.5, size - 0.5, 1], [size - 0.5, size - 0.5, 1]])
    corners = corners @ back.T
    left, top = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, (width, height))
    result = frame.copy()
    if left >= right or top >= bottom:
        return result
    back = back - np.array([[0, 0, left], [0, 0, top]])
    region = result[top:bottom, left:right]
    extent = (int(right - left), int(bottom - top))
    patch = warp(crop, back, extent).astype(np.float32)
    if original is not None:
        before = warp(original, back, extent).astype(np.float32)
        change = cv2.blur(np.abs(patch - before).max(2), (5, 5))[:, :, None]
        patch += np.clip(1.0 - change / CHANGED, 0.0, 1.0) * (region - before)
    alpha = np.clip(warp(mask, back, extent, outside=0.0), 0.0, 1.0)[:, :, None]
    region[:] = np.clip(np.rint(region + alpha * (patch - region)), 0, 255)
    return result
