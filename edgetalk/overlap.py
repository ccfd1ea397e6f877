"""Jobs on a row of items, like stations of an assembly line: different items are worked on at the same time.

The items come out in their order. Threads, not processes: numpy, the engines and FFmpeg all let go of the interpreter
while they work. What the jobs are is the caller's business; where they make a film, `deliver` tells how fast.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from .progress import OnFrame

ROOM = 8  # items that may wait between two jobs: enough to ride out a key frame of the encoder, little memory


def cores() -> int:
    """Return how many processors this process may use; systems other than Linux tell only how many there are."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def codec_threads() -> int:
    """Return how many threads FFmpeg is to decode or encode in: more would take turns with those of the network."""
    return max(1, cores() // 2)


class Job(NamedTuple):
    """What is done with every item."""

    name: str
    hands: Sequence[Callable[[Any], Any]]
    """Each works in a thread of its own, on one item at a time; what it returns goes on to the next job."""
    seconds: list[float]
    """Gets how long each item took, in the order in which they were ready."""


def overlap(items: Iterable[Any], *jobs: Job, seconds: list[float] | None = None) -> Generator[Any, None, None]:
    """Yield what the last job makes of every item, in the order of the items.

    `items` are drawn in a thread, too; `seconds` gets how long each took to come. No more than ROOM items wait before
    each job and for the caller, however slow these are. The first error of any thread ends all the others after what
    they are just doing, and is raised here. So does closing the iterator, or Ctrl-C: no thread is left behind.

    >>> for _ in overlap(windows, Job("step", [one.step, two.step], []), Job("encode", [writer.write], [])): ...
    """
    lines = [_Line() for _ in range(len(jobs) + 1)]  # before the first job, between jobs, after the last
    errors: list[BaseException] = []

    def end(count: int) -> None:
        for line in lines:
            line.end(count)

    def draw() -> None:
        source, number = iter(items), 0
        started = time.perf_counter()
        for number, item in enumerate(source, 1):
            if seconds is not None:
                seconds.append(time.perf_counter() - started)
            if not lines[0].put(number - 1, item):
                return
            started = time.perf_counter()
        end(number)

    def work(hand: Callable[[Any], Any], taken: list[float], before: _Line, after: _Line) -> None:
        while (numbered := before.take()) is not None:
            number, item = numbered
            started = time.perf_counter()
            made = hand(item)
            taken.append(time.perf_counter() - started)
            after.put(number, made)

    def guarded(target: Callable[..., None], *arguments: Any) -> None:
        try:
            target(*arguments)
        except BaseException as error:  # raised where the items are wanted
            errors.append(error)
            end(0)

    threads = [threading.Thread(target=guarded, args=(draw,), name="edgetalk-draw")]
    for job, before, after in zip(jobs, lines, lines[1:], strict=False):
        for hand in job.hands:
            arguments = (work, hand, job.seconds, before, after)
            threads.append(threading.Thread(target=guarded, args=arguments, name=f"edgetalk-{job.name}"))
    running = []
    try:
        for thread in threads:
            thread.start()
            running.append(thread)
        while (numbered := lines[-1].take()) is not None:
            yield numbered[1]
    finally:
        end(0)
        for thread in running:
            thread.join()
    if errors:
        raise errors[0]


@dataclass
class Delivered:
    """How fast the frames of a film were made."""

    fps: Fraction
    done: list[float] = field(default_factory=list)
    """When each frame was encoded, in seconds of a clock that only runs forwards."""
    started: float = field(default_factory=time.perf_counter)
    """When the work began, by that clock."""
    wall: float = 0.0
    """Seconds from then to the closed file."""

    @property
    def frames(self) -> int:
        """How many were written to the file."""
        return len(self.done)

    @property
    def rate(self) -> float:
        """Frames per second that were delivered, up to the closed file."""
        return self.frames / self.wall


def deliver(
    report: Delivered, made: Generator[Any, None, None], close: Callable[[], None], total: int, progress: OnFrame | None
) -> None:
    """Draw all frames that `overlap` has `made`, `close` the file, and put into `report` when that was.

    `progress(done, total)` is called after every frame, of which there may be more than the `total` that was expected.
    """
    with contextlib.closing(made):
        for _ in made:
            report.done.append(time.perf_counter())
            if progress is not None:
                progress(report.frames, max(total, report.frames))
    close()
    report.wall = time.perf_counter() - report.started


class _Line:
    """Numbered items that wait; they are put in any order and taken in theirs."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._items: dict[int, Any] = {}
        self._next = 0
        self._end = math.inf

    def put(self, number: int, item: Any) -> bool:
        """Add an item as soon as there is room; False where it is not wanted any more."""
        with self._changed:
            self._changed.wait_for(lambda: number < self._next + ROOM or number >= self._end)
            if number >= self._end:
                return False
            self._items[number] = item
            self._changed.notify_all()
            return True

    def take(self) -> tuple[int, Any] | None:
        """Return the next number and its item as soon as it is there; None after the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._next in self._items or self._next >= self._end)
            if self._next >= self._end:
                return None
            number = self._next
            self._next += 1
            self._changed.notify_all()
            return number, self._items.pop(number)

    def end(self, count: int) -> None:
        """Say how many items there will have been, at most."""
        with self._changed:
            self._end = min(self._end, count)
            self._changed.notify_all()
