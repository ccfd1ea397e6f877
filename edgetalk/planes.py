"""Pictures as codecs keep them: brightness of every pixel, colour of every fourth (yuv420p, BT.709, limited range).

What is dubbed stays in this form: face crops are cut out of it and blended into it, no other pixel changes, and
little time goes into colours. An array of planes is uint8 (3 * H / 2, W), H and W even: H rows of brightness, then
the two planes of colour, each H / 2 * W / 2 bytes. A matrix is 2x3, from the picture's points to the crop's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Picture, Planes
from .postprocess import MARGIN, bands, place, spread, within
from .preprocess import reduction, warp

Matrix = NDArray[np.float64]

BT709, LIMITED, FULL = 1, 1, 2  # FFmpeg's numbers; players assume the first two of our files

ENOUGH = 8  # rows for a mean

# ITU-R BT.709, item 3: R'G'B' of 0 … 255 to Y'CbCr in limited range, and back.
_KR, _KB = 0.2126, 0.0722
_LUMA = np.array([_KR, 1 - _KR - _KB, _KB])
TO_YUV = np.stack(
    [_LUMA * 219, (np.eye(3)[2] - _LUMA) / (2 * (1 - _KB)) * 224, (np.eye(3)[0] - _LUMA) / (2 * (1 - _KR)) * 224]
) / 255.0  # fmt: skip
OFFSET = np.array([16.0, 128.0, 128.0])
TO_RGB = np.linalg.inv(TO_YUV)
# H.264 puts a colour beside the left one of its two pixels and between its two rows: from its place to the pixels'.
SITED = np.array([[2.0, 0.0, 0.0], [0.0, 2.0, 0.5], [0.0, 0.0, 1.0]])


def even(picture: Picture) -> Picture:
    """Return a picture (H, W, …) with even sides: an odd one has its last row or column twice."""
    height, width = picture.shape[:2]
    if not (height % 2 or width % 2):
        return picture
    margin = [(0, height % 2), (0, width % 2), *[(0, 0)] * (picture.ndim - 2)]
    return np.pad(picture, margin, "edge")


def of_rgb(picture: Picture) -> Planes:
    """Return the planes of an RGB picture, uint8 (H, W, 3) with even sides."""
    import av

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    small = frame.reformat(format="yuv420p", dst_colorspace=BT709, src_color_range=FULL, dst_color_range=LIMITED)
    return np.asarray(small.to_ndarray())


def to_rgb(planes: Planes) -> Picture:
    """Return planes as an RGB picture, uint8 (H, W, 3); FFmpeg's fast way rounds down, on average by 1.3 levels."""
    import av

    frame: Any = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    rgb = frame.reformat(
        format="rgb24", src_colorspace=BT709, dst_colorspace=BT709, src_color_range=LIMITED, dst_color_range=FULL
    )
    return np.asarray(rgb.to_ndarray())


def small(planes: Planes, size: tuple[int, int]) -> Picture:
    """Return planes as an RGB picture of another size (width, height), each pixel the mean of those that it covers.

    uint8 (height, width, 3); much faster than to_rgb where it is much smaller: of more than ENOUGH rows that a pixel
    covers only some are looked at.
    """
    import cv2

    parts = [
        cv2.resize(plane[:: max(1, len(plane) // (ENOUGH * size[1]))], size, interpolation=cv2.INTER_AREA)
        for plane in split(planes)
    ]
    return np.asarray(cv2.transform(np.dstack(parts), np.c_[TO_RGB, -TO_RGB @ OFFSET]))


def split(planes: Planes) -> tuple[Planes, Planes, Planes]:
    """Return views of the brightness (H, W) and of the two colours (H / 2, W / 2)."""
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    colours = planes[height:].reshape(2, height // 2, width // 2)
    return planes[:height], colours[0], colours[1]


def crop(planes: Planes, matrix: Matrix, size: int) -> Picture | None:
    """Return the square that a matrix cuts out, RGB uint8 (size, size, 3); None where it lies outside the picture.

    Beyond the picture's border that is repeated.
    """
    import cv2

    cut = []
    for plane, at in zip(split(planes), (matrix, matrix @ SITED, matrix @ SITED), strict=True):
        # Where the crop is a reduction, its own pixels are what its interpolation looks at.
        part = place(at, (size, size), plane.shape[::-1], MARGIN * max(1.0, reduction(at)))
        if part is None:
            return None
        cut.append(warp(plane[part], within(at, part), (size, size)))
    return np.asarray(cv2.transform(np.dstack(cut), np.c_[TO_RGB, -TO_RGB @ OFFSET]))


def blend(planes: Planes, colours: NDArray[np.float32], share: NDArray[np.float32], matrix: Matrix) -> None:
    """Blend a crop into planes, in place, where `matrix` took it from; see postprocess.change."""
    import cv2

    shows = (share > 0) | (cv2.transform(np.abs(colours), np.ones((1, 3))) > 0)
    rows, columns = (np.flatnonzero(shows.any(axis)) for axis in (1, 0))
    if not len(rows):
        return
    # Only the part of the crop that shows, and what a cubic interpolation looks at around it.
    top, bottom, left, right = max(0, rows[0] - 2), rows[-1] + 3, max(0, columns[0] - 2), columns[-1] + 3
    share, colours = share[top:bottom, left:right], colours[top:bottom, left:right]
    matrix = matrix - [[0, 0, left], [0, 0, top]]
    yuv: Any = cv2.split(cv2.transform(np.dstack([colours, share]), np.c_[TO_YUV, OFFSET].astype(np.float32)))
    whole = split(planes)
    for at, channels in ((matrix, (0,)), (matrix @ SITED, (1, 2))):
        part = place(at, share.shape[::-1], whole[channels[0]].shape[::-1])
        if part is None:
            continue
        taken = spread(share, at)
        added = {channel: spread(yuv[channel], at) for channel in channels}
        for band in bands(part):
            kept = taken(band)
            np.subtract(1, kept, out=kept)
            for channel in channels:
                region = whole[channel][band]
                weighted = cv2.multiply(region, kept, dtype=cv2.CV_32F)
                cv2.add(weighted, added[channel](band), dst=region, dtype=cv2.CV_8U)
