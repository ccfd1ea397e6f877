"""Names for what arrays hold; shapes stand in the docstrings of those who take and give them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
"""Sound, poses, points."""
Picture = NDArray[np.uint8]
"""RGB, (H, W, 3)."""
Planes = NDArray[np.uint8]
"""A picture of a film as it is stored, brightness and half as wide and high colours: see planes.py."""
