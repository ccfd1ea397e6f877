"""What happens around a network after it ran: an aligned face crop goes back into the frame that it came from.

The other half of the shared layer of preprocess.py. A crop is pasted under a mask that fades out towards its
border, after its colours were matched with those of the frame where the two should not differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Array, Picture
from .preprocess import reduction, warp

Part = tuple[slice, slice]  # rows and columns of a picture

MAX_GAIN, MAX_SHIFT = 1.5, 48.0  # beyond that the two pictures differ in what they show, not in their light
BAND = 64  # rows
MARGIN = 4  # pixels around a crop that its interpolation looks at
ENLARGED = 3  # times as large as cubic interpolation makes a crop: smooth enough for linear interpolation
WINDOW = 5  # pixels of a crop, each way, that are compared in their structure
FAINT = (0.03 * 255) ** 2  # SSIM's C2: structure of less variance is none
WIDER = 0.03  # of a jaw's width, by which a new face may be wider
SOFT = 1 / 64  # of a crop's side, by which it fades
NECK = 6  # point of a jaw, from either ear, under which the neck begins
STRICT = 4  # power of likeness by which the frame's detail stays: nearest to swaps drawn at the film's size
EDGE = 0.09  # of a crop's side: how far from the jaw inwards the film's own edge of the face stays, half at 2/3 of it
NEAR = 0.06  # of a crop's side, over which it is looked for how colours change, and over which that begins downwards
COARSE = 4  # times smaller than the crop is what these two are computed on: they are smooth
LITTLE = 0.05  # of what a pixel of the same structure tells of colours, where structure differs


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


def within_jaw(jaw: NDArray[Any], size: int) -> Array:
    """Return a mask, float32 (size, size): 0 in the lower half of a crop beside a face, 1 where the face and neck are.

    `jaw` is the edge of the face in pixels of the crop, (17, 2) as Face.jaw; under the chin lies the neck. The film
    knows better what lies beside a face than a network from which it was hidden.
    """
    import cv2

    middle = (jaw[0] + jaw[-1]) * (0.5, 0.0)
    edge = (jaw - middle) * (1 + WIDER, 1) + middle
    left, right = edge[: NECK + 1], edge[-NECK - 1 :]
    far = 2 * size  # over the ears and under the neck it goes on to the crop's ends
    ends = [(left[-1, 0], far), (right[0, 0], far)], [(right[-1, 0], -far), (left[0, 0], -far)]
    face = _filled(np.concatenate([left, ends[0], right, ends[1]]), size)
    beside = 1 - np.asarray(cv2.GaussianBlur(face, (0, 0), SOFT * size))
    inside: Array = 1 - _lower(size, 2 * SOFT) * beside
    return inside


def _filled(polygon: NDArray[Any], size: int) -> Array:
    """Return a mask, float32 (size, size): 1 in the polygon (N, 2)."""
    import cv2

    polygon = np.clip(polygon, -2 * size, 2 * size)  # whatever a track file says
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.rint(polygon * 16).astype(np.int32)], 255, shift=4)
    return mask.astype(np.float32) / np.float32(255)


def _lower(size: int, soft: float) -> Array:
    """Return a mask, float32 (size, 1): 0 in the upper half, 1 in the lower but for a fade of `soft` of the size."""
    at = (np.arange(size) + 0.5) / size
    return np.clip((at - 0.5) / soft, 0, 1).astype(np.float32)[:, None]


def match_colour(crop: Picture, reference: Picture, mask: Array) -> Picture:
    """Return `crop` with the colours of `reference`, uint8 (S, S, 3): a gain and an offset for each channel.

    They make mean and standard deviation equal where `mask` (S, S), 0 to 1, tells that both show the same, but never
    by more than MAX_SHIFT of 255 and MAX_GAIN.
    """
    import cv2

    weight = (mask / max(float(mask.sum()), 1e-6)).astype(np.float32).ravel()

    def moments(picture: Picture) -> tuple[Array, Array]:
        values = picture.reshape(-1, 3).astype(np.float32)
        mean = weight @ values
        return mean, np.sqrt(np.maximum(weight @ cv2.multiply(values, values) - mean * mean, 0))

    (mean, spread), (want, wanted) = moments(crop), moments(reference)
    gain = np.clip(np.maximum(wanted, 1.0) / np.maximum(spread, 1.0), 1 / MAX_GAIN, MAX_GAIN)
    shift = np.clip(want - mean, -MAX_SHIFT, MAX_SHIFT)
    levels = np.arange(256, dtype=np.float32)[:, None]
    matched = np.clip(np.rint((levels - mean) * gain + (mean + shift)), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(crop, matched[None]))


def change(
    crop: Picture, mask: Array, original: Picture | None = None, jaw: NDArray[Any] | None = None
) -> tuple[Array, Array]:
    """Return what a crop adds to the frame, RGB float32 (S, S, 3), and what it takes of the frame's own, (S, S).

    frame * (1 - share) + colours is the frame under the crop, seen through `mask`. A crop is smaller than the face in
    most films, and softer; where `original`, the crop as `align` gave it, has the same structure, in whatever colours,
    only the difference is added and the frame's own detail stays. With a `jaw`, (17, 2) pixels of the crop, the frame's
    edge of the face stays, too, in the colours that the face inside it gets: a network that was not shown it draws
    another, with something of its own between face and film.
    """
    colours, share = crop.astype(np.float32), mask
    if original is not None:
        own, kept = original.astype(np.float32), likeness(crop, original) ** STRICT
        if jaw is not None:
            edge = _edge(jaw, len(crop))
            known = (1 - edge) * np.maximum(kept, LITTLE) * mask
            edge *= _lower(len(crop), NEAR)
            colours += _each(edge) * (_spread_out(colours - own, known) + own - colours)
            kept = np.maximum(kept, edge)
        colours -= _each(kept) * own
        share = mask * (1 - kept)
    colours *= _each(mask)
    return colours, share


def _edge(jaw: NDArray[Any], size: int) -> Array:
    """Return how near to the edge of a face pixels are, float32 (size, size): 1 at the jaw and outside, 0 within."""
    up = np.array([(jaw[-1, 0], -2 * size), (jaw[0, 0], -2 * size)])
    inside = _enlarged(_blurred(_filled(np.concatenate([jaw, up]), size), EDGE), size)
    return np.asarray(np.clip(2 - 2 * inside, 0, 1))


def _each(layer: Array) -> Array:
    """Return a layer (S, S) for each colour, (S, S, 3): arithmetic goes several times as fast as with a thin axis."""
    import cv2

    return np.asarray(cv2.merge([layer] * 3))


def _spread_out(values: Array, known: Array) -> Array:
    """Return the mean of values (S, S, 3) around each pixel, by how well each is `known`, (S, S): a normalised blur."""
    weights = np.maximum(_blurred(known, NEAR), 1e-4)
    return _enlarged(_blurred(values * _each(known), NEAR) / _each(weights), len(values))


def _blurred(layer: Array, share: float) -> Array:
    """Return a layer, (S, S) or (S, S, 3), blurred widely, by a share of its size, and COARSE times smaller."""
    import cv2

    size = len(layer) // COARSE
    small = cv2.resize(layer, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), share * size))


def _enlarged(layer: Array, size: int) -> Array:
    import cv2

    return np.asarray(cv2.resize(layer, (size, size), interpolation=cv2.INTER_CUBIC))


def likeness(one: Picture, other: Picture) -> Array:
    """Return how alike two pictures (S, S, 3) are in structure, float32 (S, S) from 0 to 1: 1 where they are equal.

    The product of contrast and structure in SSIM (Wang et al. 2004, Eq. 9 and 10) of their grey, over squares of
    WINDOW pixels; brightness does not count, nor does colour, and what runs against the other is 0.
    """
    import cv2

    def mean(values: Any) -> Any:
        return cv2.blur(values, (WINDOW, WINDOW))

    def covariance(a: Any, mean_a: Any, b: Any, mean_b: Any) -> Any:
        product = mean(cv2.multiply(a, b))
        product -= cv2.multiply(mean_a, mean_b)  # in place, here and below: fresh memory costs more than arithmetic
        return product

    x, y = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) for picture in (one, other))
    mean_x, mean_y = mean(x), mean(y)
    variances = covariance(x, mean_x, x, mean_x)
    variances += covariance(y, mean_y, y, mean_y)
    variances += FAINT
    alike = covariance(x, mean_x, y, mean_y)
    alike *= 2
    alike += FAINT
    alike /= variances
    return np.asarray(np.clip(alike, 0.0, 1.0, out=alike))


def spread(layer: Array, matrix: NDArray[np.float64]) -> Callable[[Part], Array]:
    """Return a function that shows any part of the picture with `layer` warped back to where `align` cut it out.

    `layer` is float32 (h, w) or (h, w, 3), of a crop that was cut out with `matrix`. The function takes rows and
    columns of the picture and returns float32 of their size, 0 outside the crop. Enlarging is cubic along rows and
    columns up to ENLARGED times, and linear for what is left to grow, turn and shift: several times as fast as a cubic
    warp, and 0.4 of 255 from it (root mean square) where a drawn face grows 4.5 times.
    """
    import cv2

    scale = reduction(matrix)
    times = min(ENLARGED, math.ceil(scale))
    height, width = layer.shape[:2]
    large = cv2.resize(layer, (width * times, height * times), interpolation=cv2.INTER_CUBIC) if scale > 1 else layer
    # pixel x of the layer is the middle of `times` pixels of the enlarged one
    small = np.array([[1 / times, 0, 0.5 / times - 0.5], [0, 1 / times, 0.5 / times - 0.5], [0, 0, 1]])

    def show(part: Part) -> Array:
        back = np.asarray(cv2.invertAffineTransform(within(matrix, part)), np.float64)
        size = (part[1].stop - part[1].start, part[0].stop - part[0].start)
        if scale <= 1:
            return np.asarray(warp(layer, back, size, outside=0.0))
        return np.asarray(cv2.warpAffine(large, back @ small, size, flags=cv2.INTER_LINEAR, borderValue=(0.0,) * 4))

    return show


def place(
    matrix: NDArray[np.float64], size: tuple[int, int], extent: tuple[int, int], margin: float = MARGIN
) -> Part | None:
    """Return the rows and columns of a picture that a crop looks at; None where it lies outside the picture.

    `size` is the crop's width and height, `extent` the picture's; `margin` is how much more is looked at, in pixels.
    """
    corners = np.array([[x, y, 1] for x in (-0.5, size[0] - 0.5) for y in (-0.5, size[1] - 0.5)])
    corners = corners @ np.linalg.inv(np.vstack([matrix, [0, 0, 1]])).T[:, :2]
    left, top = (int(v) for v in np.clip(np.floor(corners.min(0) - margin), 0, extent))
    right, bottom = (int(v) for v in np.clip(np.ceil(corners.max(0) + margin), 0, extent))
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def within(matrix: NDArray[np.float64], part: Part) -> NDArray[np.float64]:
    """Return the matrix that does in a part of a picture what `matrix` does in the whole."""
    rows, columns = part
    return np.asarray(matrix @ np.array([[1, 0, columns.start], [0, 1, rows.start], [0, 0, 1.0]]))


def paste(
    frame: Picture, crop: Picture, matrix: NDArray[np.float64], mask: Array, original: Picture | None = None
) -> Picture:
    """Return a copy of `frame`, uint8 (H, W, 3), with `crop` back where `align` took it out with `matrix`.

    `crop` is uint8 (S, S, 3), `mask` float32 (S, S), 0 where the frame stays as it is; `original` as of `change`.
    What of the crop lies outside the frame is cut off. planes.py does the same to pictures in a codec's form.
    """
    result = frame.copy()
    blend(result, *change(crop, mask, original), matrix)
    return result


def blend(frame: Picture, colours: Array, share: Array, matrix: NDArray[np.float64]) -> None:
    """Blend a crop into `frame`, uint8 (H, W, 3), in place, where `matrix` took it from; see `change`."""
    import cv2

    height, width = frame.shape[:2]
    part = place(matrix, share.shape[::-1], (width, height))
    if part is None:
        return
    added, taken = spread(colours, matrix), spread(share, matrix)
    for band in bands(part):
        weighted = cv2.multiply(frame[band], _each(1 - taken(band)), dtype=cv2.CV_32F)
        frame[band] = cv2.add(weighted, added(band), dtype=cv2.CV_8U)


def bands(part: Part) -> Iterator[Part]:
    """Yield a part of a picture in bands of few rows, which stay in a core's cache while they are worked on."""
    rows, columns = part
    for top in range(rows.start, rows.stop, BAND):
        yield slice(top, min(top + BAND, rows.stop)), columns
