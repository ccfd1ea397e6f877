"""A photo of somebody to the picture that AMNet takes: a square, the face upright and as large as those it learnt from.

What `edgetalk avatar --crop` does. Films for training are cut as large and as high, by one square for a whole take
(train/filmed/takes.py).
"""

from __future__ import annotations

import os
import warnings

import numpy as np

from .arrays import Picture
from .errors import InputError
from .face import Tracker
from .face.tracker import LARGEST
from .picture import PictureLike, name_of, read_picture
from .portrait import points
from .preprocess import MIN_SIDE, align, crop_matrix, reduction, warp

MAX_SIDE = 1024
"""Pixels; no network takes a larger picture."""
ROOM = 0.1
"""Share of the square that may lie outside the photo before that is told: hair is cut, and the border repeated."""


def framed(
    photo: PictureLike,
    *,
    face: int | str | os.PathLike[str] = LARGEST,
    face_models: str | os.PathLike[str] | None = None,
) -> Picture:
    """Return the face in a photo as AMNet takes it, uint8 (S, S, 3): for `make_avatar`, or `Session(source=…)`.

    The head is turned upright in the picture's plane; a face that looks aside stays so. S is as many pixels as the
    photo has for it. `face` says which face: "largest", an index from the left, or another picture of the person.
    `face_models` is a folder with the two networks that find faces (default: those in the user's cache).

    Raises FileNotFoundError, BackendError where the networks were not fetched, and InputError where the photo is no
    picture, shows no such face, or one that is too small.
    """
    whole = read_picture(photo)
    name = name_of(photo, "the photo")
    if face == LARGEST:
        five = points(photo, whole, face_models)
    else:
        with Tracker(25, face_models=face_models, face=face) as tracker:
            found = tracker.update(whole)
        if found is None:
            raise InputError(f"{name} shows no face {face}; choose another with --face")
        five = found.points
    side = round(MAX_SIDE * reduction(crop_matrix("amnet", five, MAX_SIDE)))
    if side < MIN_SIDE:
        raise InputError(
            f"{name}: got a face for a square of {side} pixels, expected {MIN_SIDE} or more; take it from nearer"
        )
    size = min(side, MAX_SIDE)
    matrix = crop_matrix("amnet", five, size)
    inside = warp(np.full(whole.shape[:2], 255, np.uint8), matrix, (size, size), outside=0)
    beyond = 1 - float(inside.mean()) / 255
    if beyond > ROOM:
        warnings.warn(
            f"{name} shows too little around the head: {beyond:.0%} of the square lie outside, where its border is "
            "repeated; take a photo with room around the hair",
            stacklevel=2,
        )
    return align(whole, matrix, size)
