"""How long something takes here, and how much memory: what commands tell of it, and bench/ measures by."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import progress

STATUS = Path("/proc/self/status")  # Linux alone has it, and not every kind of it has all lines
WARM_UP = 10  # calls before the first that counts


@dataclass(frozen=True)
class Spread:
    """Milliseconds per frame of one stage."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    fps: float
    """Frames per second, from the mean."""

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Sum up how long each frame took, in seconds."""
        p50, p95, p99 = (float(v) for v in np.percentile(np.asarray(seconds) * 1000, (50, 95, 99)))
        return cls(p50, p95, p99, 1 / float(np.mean(seconds)))


def sample(work: Callable[[], Any], rounds: int, warm_up: int = WARM_UP) -> list[float]:
    """Return how many seconds each of `rounds` calls took, after `warm_up` calls that do not count."""
    for _ in range(warm_up):
        work()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


def memory(field: str) -> int:
    """Return bytes of memory of this process: "VmRSS" held now, "VmHWM" at its peak; 0 where the system does not tell.

    getrusage would tell the peak of whoever started us, too.
    """
    try:
        status = STATUS.read_text()
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in status.splitlines() if line.startswith(field)), 0)


def table(stages: dict[str, Spread]) -> str:
    """Return the stages as lines of text."""
    rows = [
        [name.replace("_", " "), *(f"{v:.2f}" for v in (s.p50_ms, s.p95_ms, s.p99_ms)), f"{s.fps:.0f}"]
        for name, s in stages.items()
    ]
    return progress.table(("stage", "p50 ms", "p95 ms", "p99 ms", "frames/s"), rows)
