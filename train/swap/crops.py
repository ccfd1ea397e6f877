"""How a face is cropped for the swap: a similarity that brings five points to a template, and a tracker's noise.

Networks of this family see faces as a tracker hands them over, at run time and in training alike. The points are the
eyes' centres, the tip of the nose and the corners of the mouth, the viewer's left first, as fractions of the crop.
Leaves out tracking itself (edgetalk/face) and cropping of filmed pictures (edgetalk/preprocess.py, which holds the
template: the mean of the points over drawn faces that turn and speak, small enough to keep the chin of an open mouth).
"""

from __future__ import annotations

import numpy as np

from edgetalk.preprocess import TEMPLATES, similarity

FIVE = (74, 84, 54, 86, 92)
"""The five points among the 106 landmarks of announcers/landmarks.py."""


def tracked(landmarks: np.ndarray, rng: np.random.Generator, noise: float = 1.0) -> np.ndarray:
    """Return the crop of every frame, (n, 2, 3), as a tracker with `noise` sees landmarks (n, 106, 2) of a clip.

    Another tracker, another face: size, angle and place are off by a little all the while, and the points tremble.
    The crops follow with the delay of a smoothing over about two frames.
    """
    points = landmarks[:, FIVE].astype(float)
    tremble = rng.normal(0, 0.006 * noise, points.shape)
    for i in range(1, len(points)):
        tremble[i] = 0.7 * tremble[i - 1] + 0.7 * tremble[i]
        points[i] = 0.3 * points[i - 1] + 0.7 * points[i]
    turn, size = np.radians(rng.normal(0, 1.5)) * noise, 1 + rng.normal(0, 0.025) * noise
    off = size * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    wanted = (TEMPLATES["wavsyncswap"] - 0.5) @ off.T + 0.5 + rng.normal(0, 0.012, 2) * noise
    return np.stack([similarity(p, wanted) for p in points + tremble])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Move points (…, 2) by matrices (…, 2, 3)."""
    return points @ matrix[..., :2].swapaxes(-1, -2) + matrix[..., None, :, 2]
