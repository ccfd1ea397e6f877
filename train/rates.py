"""Learning rates as shares of their highest: how they rise at the beginning of a schedule, and fall to its end."""

from __future__ import annotations

import math

import torch


def risen(number: int, warm: int = 100) -> float:
    """Return the share at step `number`: it rises over `warm` steps, so that Adam knows its gradients before."""
    return min(1.0, (number + 1) / max(1, warm))


def linear(progress: float, floor: float = 0.0) -> float:
    """Return the share when so much of a schedule is over, 0 to 1: all of it for half of it, then down to `floor`."""
    return min(1.0, floor + (1 - floor) * 2 * max(1 - progress, 0.0))


def cosine(progress: float, floor: float = 0.0) -> float:
    """Return the share when so much of a schedule is over, 0 to 1: half a cosine from all of it down to `floor`."""
    return floor + (1 - floor) * (0.5 + 0.5 * math.cos(math.pi * progress))


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
