"""Pictures as codecs keep them: brightness of every pixel, colour of every fourth (yuv420p, BT.709, limited range).

What is dubbed stays in this form but for the square around a face: no pixel that is not repainted changes, and
little time goes into colours. An array of planes is uint8 (3 * H / 2, W), H and W even: H rows of brightness, then
the two planes of colour, each H / 2 * W / 2 bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Box = tuple[int, int, int, int]

BT709, LIMITED, FULL = 1, 1, 2  # FFmpeg's numbers; players assume the first two of our files


def even(picture: Image) -> Image:
    """Return a picture (H, W, …) with even sides: an odd one has its last row or column twice."""
    height, width = picture.shape[:2]
    if not (height % 2 or width % 2):
        return picture
    margin = [(0, height % 2), (0, width % 2), *[(0, 0)] * (picture.ndim - 2)]
    return np.pad(picture, margin, "edge")


def of_rgb(picture: Image) -> Image:
    """Return the planes of an RGB picture, uint8 (H, W, 3) with even sides."""
    import av

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    small = frame.reformat(format="yuv420p", dst_colorspace=BT709, src_color_range=FULL, dst_color_range=LIMITED)
    return np.asarray(small.to_ndarray())


def to_rgb(planes: Image) -> Image:
    """Return planes as an RGB picture, uint8 (H, W, 3)."""
    import av

    frame: Any = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    rgb = frame.reformat(
        format="rgb24", src_colorspace=BT709, dst_colorspace=BT709, src_color_range=LIMITED, dst_color_range=FULL
    )
    return np.asarray(rgb.to_ndarray())


def _split(planes: Image) -> tuple[Image, Image, Image]:
    """Views of brightness (H, W) and of the two colours (H / 2, W / 2)."""
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    colour = planes[height:].reshape(2, height // 2, width // 2)
    return planes[:height], colour[0], colour[1]


def region(planes: Image, box: Box) -> Image:
    """Return the RGB picture in a box, uint8 (h, w, 3); box is left, top, right, bottom, even numbers inside."""
    left, top, right, bottom = box
    y, u, v = _split(planes)
    half = np.s_[top // 2 : bottom // 2, left // 2 : right // 2]
    colour = np.stack([u[half], v[half]]).reshape(-1, right - left)
    return to_rgb(np.concatenate([y[top:bottom, left:right], colour]))


def put(planes: Image, box: Box, picture: Image, before: Image) -> None:
    """Write an RGB picture into the box of some planes where it differs from what `before`, as `region` gave it."""
    left, top, right, bottom = box
    changed = (picture != before).any(2)
    fresh = _split(of_rgb(picture))
    half = np.s_[top // 2 : bottom // 2, left // 2 : right // 2]
    touched = changed[::2, ::2] | changed[1::2, ::2] | changed[::2, 1::2] | changed[1::2, 1::2]
    y, u, v = _split(planes)
    np.copyto(y[top:bottom, left:right], fresh[0], where=changed)
    for plane, value in ((u, fresh[1]), (v, fresh[2])):
        np.copyto(plane[half], value, where=touched)
