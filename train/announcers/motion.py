"""How an announcer moves while it speaks: mouth from the phones, head and eyelids from a seed, nothing else.

Pose and blink do not depend on the sound, and are drawn widely, so that a network learns them apart from it. Gaze and
brows follow the pose (features.Controls): nothing varies in a picture that its labels do not tell.
"""

from __future__ import annotations

import math

import numpy as np

from .features import Controls
from .speech import Phone, Speech
from .visemes import SHAPES

LEAD = 0.06
"""Seconds by which the mouth moves before the sound, as real mouths do."""
POSE_LIMIT = np.radians([28.0, 15.5, 10.0])
"""Yaw, pitch and roll approach these and never pass them."""
_CLOSURES = ("mbp", "fv")
_STRENGTH = {
    "sil": 0.8,
    "mbp": 3.0,
    "fv": 2.5,
    "w": 2.5,
    "uw": 2.5,
    "aa": 1.6,
    "ae": 1.6,
    "ah": 1.3,
    "ao": 1.6,
    "eh": 1.5,
    "ow": 1.8,
    "iy": 1.3,
}
_OVERSAMPLING = 8


def viseme_track(phones: tuple[Phone, ...], frames: int, fps: float) -> np.ndarray:
    """Mouth shapes float64 (frames, 7): each phone pulls towards its shape, lips that must touch do so."""
    times = (np.arange(frames * _OVERSAMPLING) + 0.5) / (fps * _OVERSAMPLING) + LEAD
    pull = np.full(len(times), 0.02)
    total = pull[:, None] * SHAPES["sil"]
    for start, end, viseme in phones:
        middle, half = (start + end) / 2, max((end - start) / 2, 0.02)
        blur = 0.025 if viseme in _CLOSURES else 0.06
        away = np.maximum(np.abs(times - middle) - half * 0.6, 0)
        weight = _STRENGTH.get(viseme, 1.0) * np.exp(-(away**2) / (2 * blur**2))
        total += weight[:, None] * SHAPES[viseme]
        pull += weight
    track = (total / pull[:, None]).reshape(frames, _OVERSAMPLING, -1).mean(1)
    for start, end, viseme in phones:  # the frame that shows the middle of a closure is closed
        if viseme in _CLOSURES:
            frame = math.floor(((start + end) / 2 - LEAD) * fps)  # below 0 before the clip
            if 0 <= frame < frames:
                track[frame] = 0.15 * track[frame] + 0.85 * SHAPES[viseme]
                if viseme == "mbp":
                    track[frame, 4] = 1.0
    return track


def wander(frames: int, fps: float, hertz: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of about unit deviation, float64 (frames,)."""
    knots = rng.normal(size=int(frames / fps * hertz) + 5)
    place = 1 + np.arange(frames) / fps * hertz
    i, t = place.astype(int), place % 1
    a, b, c, d = (knots[i + k] for k in (-1, 0, 1, 2))
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3) * 1.15


def head_motion(frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """Yaw, pitch, roll in radians, float64 (frames, 3): where the speaker looks on the whole, and idling about it."""
    tracks = [rng.normal(0, 0.9) + wander(frames, fps, hertz, rng) * 0.8 for hertz in (0.6, 0.7, 0.5)]
    return POSE_LIMIT * np.tanh(0.85 * np.stack(tracks, 1))


def blinks(frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """Subject's left and right lid, float64 (frames, 2): blinks, some of one eye alone, some half, some held."""
    time = (np.arange(frames) + 0.5) / fps
    out = np.zeros((frames, 2))
    start = rng.uniform(0.2, 1.8)
    while start < frames / fps:
        kind = rng.random()
        amount = np.ones(2)
        if kind < 0.15:
            amount[rng.integers(2)] = 0
        elif kind < 0.35:
            amount = rng.uniform(0.2, 1.0, 2)
        hold = rng.uniform(0.15, 0.5) if rng.random() < 0.25 else 0.0
        for eye in (0, 1):
            away = np.maximum(np.abs(time - start - rng.uniform(-0.01, 0.01)) - hold, 0) / 0.085
            out[:, eye] = np.maximum(out[:, eye], amount[eye] * np.exp(-0.6 * away**4))
        start += rng.uniform(0.9, 3.2) + hold
    return out


def controls(speech: Speech, fps: float = 25, seed: int = 0) -> list[Controls]:
    """One Controls for each whole frame of the speech; the same seed moves the head and the lids the same way."""
    frames = max(int(len(speech.pcm) * fps // 16_000), 1)
    rng = np.random.default_rng([seed, 81])
    mouth = viseme_track(speech.phones, frames, fps)
    pose, lids = head_motion(frames, fps, rng), blinks(frames, fps, rng)
    return [Controls(mouth[i], pose[i], lids[i]) for i in range(frames)]
