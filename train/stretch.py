"""How much of a training that is given seconds, or steps, is over; what is spent is saved with it, so slices add up."""

from __future__ import annotations

import time

import torch


def steps_in_all(taken: int, progress: float) -> int:
    """Return the steps of a schedule of which `progress` is over after so many: at least one more until it is over."""
    return taken if progress >= 1 else max(taken + 1, round(taken / max(progress, 1e-9)))


class Stretch:
    """So many `seconds` of training, or so many `steps` where these are given.

    Without a GPU they are seconds of the processor: whoever shares the machine costs time, not quality. A schedule of
    steps is the same on every machine, one of seconds what the machine makes of it.
    """

    def __init__(self, seconds: float = 0.0, steps: int | None = None, device: str | torch.device = "cpu") -> None:
        self.seconds, self.wanted = seconds, steps
        self.spent = torch.zeros(2, dtype=torch.float64)  # seconds, steps
        self.clock = time.monotonic if torch.device(device).type == "cuda" else time.process_time
        self.began: float | None = None

    @property
    def progress(self) -> float:
        """Share that is over, 0 to 1."""
        seconds, steps = self.spent.tolist()
        spent, whole = (seconds, self.seconds) if self.wanted is None else (steps, self.wanted)
        return min(spent / whole, 1.0) if whole > 0 else 1.0

    @property
    def steps(self) -> int:
        """Steps of the whole, as far as those that were taken can tell."""
        if self.wanted is not None:
            return self.wanted
        return steps_in_all(int(self.spent[1]), self.progress)

    def begin(self) -> None:
        """Begin a step; time since the end of the one before counts, but not that before the first of a slice."""
        self.began = self.clock() if self.began is None else self.began

    def end(self) -> None:
        """End the step that has begun."""
        assert self.began is not None
        now = self.clock()
        self.spent += torch.tensor([now - self.began, 1])
        self.began = now
