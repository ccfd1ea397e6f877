"""Where a film cuts from one scene to another: where two pictures differ much, seen very small.

Cross-fades and fades to black are no cuts here, and a flash is two. Detecting cross-fades as pictures on a line
between two others was tried: at this size a panning camera looks the same. What is done at a cut is in
tracker.py, targets.py and film_avatar.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetalk.planes import ENOUGH

CUT = 0.12  # mean difference of two pictures, seen very small, from which another scene begins; 1 is black to white
THUMB = (32, 18)
"""Width and height in pixels of that very small picture."""


class Scenes:
    """Counts the scenes of a film whose pictures come in their order."""

    def __init__(self) -> None:
        self.number = 0
        """Of the scene of the last picture, from 0."""
        self._before: NDArray[np.float32] | None = None

    def cut(self, picture: NDArray[np.uint8]) -> bool:
        """Return whether another scene begins with the next picture, uint8 (H, W, 3) RGB of any size.

        A picture already scaled to THUMB may be passed instead.
        """
        import cv2

        rows = picture[:: max(1, len(picture) // (ENOUGH * THUMB[1]))]  # as planes.small
        thumb = cv2.resize(rows, THUMB, interpolation=cv2.INTER_AREA).astype(np.float32)
        before, self._before = self._before, thumb
        another = before is not None and float(np.abs(thumb - before).mean()) > CUT * 255
        self.number += another
        return another
