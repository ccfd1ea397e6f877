"""A progress bar on stderr for people, and tables on stdout for people and programs alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

WIDTH = 30  # characters of the bar
PAUSE = 0.1  # seconds between two drawings

OnFrame = Callable[[int, int], None]
"""What is called after every frame with how many are done and how many there will be; a Progress is one."""


class Progress:
    """A bar that is drawn where stderr is a terminal, and silent elsewhere; a context manager.

    >>> with Progress("talk") as progress:
    ...     progress(1, 100)
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._live = sys.stderr.isatty()
        self._start: float | None = None  # when something is done first: another bar may go before
        self._drawn = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Draw `done` of `total` frames."""
        now = time.monotonic()
        if self._start is None:  # how fast it goes, only the next one tells
            self._start = now
            return
        if not self._live or (now - self._drawn < PAUSE and done < total):
            return
        self._drawn = now
        filled = WIDTH * done // total
        rate = done / max(now - self._start, 1e-9)
        bar = "█" * filled + "░" * (WIDTH - filled)
        sys.stderr.write(
            f"\r{self._label} {bar} {done}/{total} frames, {rate:.0f}/s, {(total - done) / rate:.0f} s left \033[K"
        )
        sys.stderr.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._live and self._drawn:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of aligned columns: the first to the left, the others to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
