"""Smooth curves through a few points, and the bumps and ramps of which the heads are made."""

from __future__ import annotations

import numpy as np


def spline(points, steps: int = 8, closed: bool = False) -> np.ndarray:
    """Catmull-Rom curve through `points` (m, d), `steps` samples per span; float64 (n, d)."""
    points = np.asarray(points, float)
    padded = points[np.r_[-1, : len(points), 0, 1]] if closed else points[np.r_[0, : len(points), -1]]
    a, b, c, d = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    t = (np.arange(steps) / steps)[:, None]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    curve = curve.reshape(-1, points.shape[1])
    return curve if closed else np.vstack([curve, points[-1:]])


def along(curve: np.ndarray, fractions) -> np.ndarray:
    """Points of the polyline at these fractions of its length."""
    length = np.r_[0, np.cumsum(np.hypot(*np.diff(curve, axis=0).T))]
    return np.stack([np.interp(fractions, length / length[-1], column) for column in curve.T], 1)


def bump(x, y, cx: float, cy: float, sx: float, sy: float):
    """Gaussian hill of height 1 at (cx, cy)."""
    return np.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)


def ramp(x, low: float, high: float):
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
