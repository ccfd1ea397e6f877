"""The pictures of a film that an avatar keeps, and a face that speaks in them.

They are kept as JPEGs, one for each frame of the avatar, and reduced where they are larger than a live picture needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .arrays import Picture, Planes
from .errors import ModelError
from .pasting import MASKS, Pasting
from .picture import as_jpeg
from .planes import small
from .postprocess import blend

if TYPE_CHECKING:
    from .avatar import Film

LONGEST = 1280
"""Pixels of the longer side that are kept: the network's crop is no sharper than that."""


def code(planes: Planes, size: tuple[int, int], aspect: Fraction = Fraction(1)) -> NDArray[np.uint8]:
    """Return a picture in the codec's form as the JPEG that is kept of it, uint8 (B,).

    `size` is the film's, `aspect` how wide its pixels are to be shown by their height: those of the JPEG are square.
    """
    import cv2

    width, height = size
    picture = small(planes, (planes.shape[1], planes.shape[0] * 2 // 3))[:height, :width]
    wide = width * float(aspect)
    times = min(1.0, LONGEST / max(wide, height))
    shown = (max(1, round(wide * times)), max(1, round(height * times)))
    if shown != size:
        picture = np.asarray(cv2.resize(picture, shown, interpolation=cv2.INTER_AREA))
    return as_jpeg(picture)


def pile(coded: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return JPEGs in one array, uint8 (N, B), filled up with zeros: readers of JPEG stop at its end."""
    piled = np.zeros((len(coded), max(map(len, coded))), np.uint8)
    for row, one in zip(piled, coded, strict=True):
        row[: len(one)] = one
    return piled


class Backdrop:
    """Shows the crops of a network of `family` in the pictures of its film. Raises ModelError where it cannot."""

    def __init__(self, film: Film, family: str, side: int) -> None:
        if family not in MASKS:
            raise ModelError(f"the avatar keeps a film's pictures and is of {family}, expected {', '.join(MASKS)}")
        assert film.pictures is not None
        places = film.matrices[:, :, :2] if film.matrices.shape[1:] == (2, 3) else np.zeros((1, 2, 2))
        if not np.isfinite(film.matrices).all() or (np.abs(np.linalg.det(places)) < 1e-9).any():
            raise ModelError("the avatar's matrices put its crops nowhere; prepare it again from its film")
        self._film, self._pictures = film, film.pictures
        self._pasting = Pasting(family, side, swaps=True)
        height, width, _ = self._picture(0).shape
        self.size: tuple[int, int] = (width, height)
        """Of the pictures: width, height."""
        # From their pixels to the film's, whose centres lie at whole numbers.
        x, y = film.size[0] / width, film.size[1] / height
        self._enlarge = np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]])

    def show(self, index: int, painted: Picture) -> Picture:
        """Return picture `index` with a repainted crop in its place, uint8 (height, width, 3), an array of its own."""
        film, picture = self._film, self._picture(index)
        if picture.shape[1::-1] != self.size:
            raise _damaged(index)
        matrix = film.matrices[index].astype(np.float64)
        jaw = None if film.jaws is None else film.jaws[index]
        blend(picture, *self._pasting.layers(painted, film.target[index], matrix, jaw), matrix @ self._enlarge)
        return picture

    def _picture(self, index: int) -> Picture:
        import cv2

        try:
            decoded = cv2.imdecode(self._pictures[index], cv2.IMREAD_COLOR)
        except cv2.error:  # a header that promises an absurd size
            decoded = None
        if decoded is None:
            raise _damaged(index)
        return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def _damaged(index: int) -> ModelError:
    return ModelError(f"the avatar's picture {index} is damaged; prepare it again from its film")
