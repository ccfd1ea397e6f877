"""BlazeFace short-range: boxes and six points of the faces in a picture, from face_detection_short_range.tflite.

Bazarevsky et al., BlazeFace: Sub-millisecond neural face detection on mobile GPUs, 2019. The network sees a square
at 128x128, where a face narrower than about an eighth is missed; so films are searched in overlapping squares of
two sizes. Following a face from frame to frame is not here.
"""

from __future__ import annotations

import math
import os
from typing import NamedTuple

import numpy as np

from edgetalk.arrays import Array, Picture
from edgetalk.backends import open_engine

SIZE = 128  # pixels, of what the network sees
GRIDS = ((16, 2), (8, 6))  # cells across, anchors per cell
MIN_SCORE = 0.5
OVERLAP = 0.3  # intersection over union from which two boxes are of one face
NESTED = 0.6  # part of the smaller box inside a better one from which it is a piece of that face
SQUARES = (1.0, 0.5)  # sides of the squares that are searched, as parts of the picture's shorter side, after the whole
LEAST = 32  # pixels; a smaller square shows no face that anybody could use
SHARE = 1 / 3  # least part of a square that its neighbour sees too, so that a face is whole in one of them


class Detection(NamedTuple):
    """A face that was found."""

    box: Array
    """float32 (4,): left, top, right, bottom in pixels, from the brow to the chin."""
    points: Array
    """float32 (6, 2) pixels: eye on the viewer's left, on the right, tip of the nose, middle of the mouth, ear on the
    viewer's left, on the right."""
    score: float


def anchors() -> Array:
    """Return the centre of each of the 896 anchors, float32 (896, 2), as fractions of the square."""
    centres = []
    for cells, repeat in GRIDS:
        at = (np.arange(cells) + 0.5) / cells
        x, y = np.meshgrid(at, at)
        centres.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), repeat, 0))
    return np.concatenate(centres).astype(np.float32)


def decode(regressors: Array, logits: Array, centres: Array) -> tuple[Array, Array, Array]:
    """Return boxes (K, 4), points (K, 6, 2), both as fractions of the square, and scores (K,) of at least MIN_SCORE.

    `regressors` is (896, 16): centre, size and six points of a face in pixels, all but the size from the anchor;
    `logits` is (896,).
    """
    keep = np.flatnonzero(logits >= math.log(MIN_SCORE / (1 - MIN_SCORE)))
    values = regressors[keep].reshape(-1, 8, 2) / SIZE
    centre = values[:, 0] + centres[keep]
    half = values[:, 1] / 2
    points: Array = np.asarray(values[:, 2:] + centres[keep, None], np.float32)
    scores: Array = np.asarray(1 / (1 + np.exp(-np.clip(logits[keep], -80, 80))), np.float32)
    return np.concatenate([centre - half, centre + half], 1), points, scores


def overlaps(box: Array, boxes: Array) -> tuple[Array, Array]:
    """Return how far a box (4,) overlaps with each of (K, 4): shared area over that of both, and of the smaller."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    own, areas = (box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return shared / np.maximum(own + areas - shared, 1e-9), shared / np.maximum(np.minimum(own, areas), 1e-9)


def merge(boxes: Array, points: Array, scores: Array) -> list[Detection]:
    """Return one detection per face, best first: the mean of the boxes that overlap with the best, by their scores.

    Averaging where others drop the lesser boxes is what keeps BlazeFace steady (its paper, section 3.4).
    """
    found = []
    left = np.argsort(-scores, kind="stable")
    while len(left):
        both, smaller = overlaps(boxes[left[0]], boxes[left])
        both[0] = 1  # of itself, even without an area
        group = left[both > OVERLAP]
        box, mean = (np.average(values[group], axis=0, weights=scores[group]) for values in (boxes, points))
        found.append(Detection(box.astype(np.float32), mean.astype(np.float32), float(scores[left[0]])))
        left = left[(both <= OVERLAP) & (smaller <= NESTED)]
    return found


def squares(width: int, height: int, closely: bool) -> list[tuple[float, float, float]]:
    """Return left, top and side of the squares that a picture is searched in, the whole picture first."""
    whole = float(max(width, height))
    places = [((width - whole) / 2, (height - whole) / 2, whole)]
    for part in SQUARES if closely else SQUARES[:1]:
        side = part * min(width, height)
        if LEAST <= side < whole:
            places += [(x, y, side) for y in _starts(height, side) for x in _starts(width, side)]
    return places


def _starts(length: float, side: float) -> list[float]:
    """Where squares of this side start so that they cover a length evenly and neighbours share SHARE or more."""
    count = 1 + math.ceil((length - side) / (side * (1 - SHARE)) - 1e-9)
    return [float(start) for start in np.linspace(0, length - side, count)]


class BlazeFace:
    """The detector, opened. One thread at a time may use it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._engine = open_engine(path, threads=1)
        self._anchors = anchors()

    def find(self, picture: Picture, closely: bool = True) -> list[Detection]:
        """Return the faces in a picture, uint8 (H, W, 3) RGB, best first.

        The smallest that is found is about a seventh of the picture's shorter side wide; `closely`, half of that.
        """
        height, width = picture.shape[:2]
        found = []
        for left, top, side in squares(width, height, closely):
            results = self._engine.run({"input": _square(picture, left, top, side)[None]})
            boxes, points, scores = decode(results["regressors"][0], results["classificators"][0, :, 0], self._anchors)
            corner = np.array([left, top], np.float32) - 0.5  # the first pixel's centre is at (0, 0)
            found.append((boxes * side + np.tile(corner, 2), points * side + corner, scores))
        boxes, points, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return merge(boxes, points, scores)

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()


def _square(picture: Picture, left: float, top: float, side: float) -> Array:
    """Cut a square out of a picture, black beyond it, as float32 (SIZE, SIZE, 3) in [-1, 1]."""
    import cv2

    height, width = picture.shape[:2]
    x0, y0 = max(0, round(left)), max(0, round(top))
    part = picture[y0 : min(height, round(top + side)), x0 : min(width, round(left + side))]
    scale = SIZE / side
    size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    square = np.full((SIZE, SIZE, 3), -1, np.float32)
    x, y = max(0, round((x0 - left) * scale)), max(0, round((y0 - top) * scale))  # x0 may be rounded down
    inside = square[y : y + size[1], x : x + size[0]]
    inside[:] = small[: inside.shape[0], : inside.shape[1]] * np.float32(1 / 127.5) - 1
    return square
