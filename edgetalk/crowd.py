"""How many live faces a machine holds: sessions on one engine, each fed with sound in real time, each in a thread.

Every session is given the sound of one frame per frame time, as a microphone or a caller gives it, and is to have
its frame ready before the sound of the next one is there; a frame that is later is missed. When each session begins
within the frame time is drawn by chance, and drawn anew every ROUND seconds, for callers do not wait for each other.
What happens to a frame afterwards (encoding, sending) is not in here.

On a rented machine a core may be half of one, whose other half somebody else uses: then a frame takes nearly twice its
processor time, and hardly any system tells so. Frames missed in such a second are counted apart.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from .arrays import Array
from .benchmark import sentence
from .clock import SAMPLE_RATE, first_sample
from .errors import counted
from .session import Session
from .timing import memory

ROUND = 10.0  # seconds
WARM_UP = 1.0  # seconds
START = 0.1  # seconds from the call to the first sound: all threads are there by then
SLOW = 1.3  # times the usual processor time per frame
TRIAL = 10.0  # seconds that `most` tries a number of sessions before the long run


@dataclass(frozen=True)
class Crowd:
    """What `edgetalk bench --sessions` prints; field names are those of its --json."""

    sessions: int
    streams: int
    fps: float
    seconds: float
    frames: int
    missed: int
    """Frames that were ready later than one frame time after their sound was there."""
    missed_delayed: int
    """Frames that were later than two: those missed if everything is shown one frame time later."""
    missed_slow: int
    """Of the missed ones, those in seconds in which a frame took SLOW times its usual processor time."""
    cpu_ms: float
    """Processor time of a frame: the median over the seconds in which none was missed, of all where there are none."""
    p50_ms: float
    """From the last sample that a frame takes to the frame, as of the four below."""
    p95_ms: float
    p99_ms: float
    max_ms: float
    rss_mb: float
    """MB of memory with all sessions open; no less than with one, though the system may take pages back meanwhile."""
    rss_of_one_mb: float
    """MB of memory with the first session open, after its first step."""

    def __str__(self) -> str:
        each = (self.rss_mb - self.rss_of_one_mb) / max(1, self.sessions - 1)
        more = f", {each:.1f} MB for each session after the first" if self.sessions > 1 else ""
        return (
            f"{counted(self.sessions, 'session')} at {self.fps:g} frames per second on "
            f"{counted(self.streams, 'stream')} for "
            f"{self.seconds:.0f} s: {self.missed} of {self.frames} frames missed, "
            f"{self.missed_slow} in seconds in which the machine was slow, "
            f"{self.missed_delayed} if shown a frame later; {self.cpu_ms:.1f} ms of processor per frame; "
            f"from sound to frame "
            f"p50 {self.p50_ms:.1f}, p95 {self.p95_ms:.1f}, p99 {self.p99_ms:.1f}, at most {self.max_ms:.1f} ms; "
            f"memory {self.rss_mb:.0f} MB{more}"
        )


class Timed(NamedTuple):
    """A frame that is ready."""

    at: float
    """Seconds of the clock."""
    taken: float
    """Seconds from the last sample that it takes."""
    cpu: float
    """Seconds of processor time that this process had taken by then."""


def speak(session: Session, pcm: Array, fps: Fraction, start: float, count: int, ended: threading.Event) -> list[Timed]:
    """Feed a session in real time from `start` on, until it has made `count` frames or all is `ended`; return them."""
    due = start

    def chunks() -> Iterator[Array]:
        nonlocal due
        for i in itertools.count():
            first, end = first_sample(i, fps), first_sample(i + 1, fps)
            due = start + end / SAMPLE_RATE
            if ended.wait(max(0.0, due - time.perf_counter())):
                return
            yield pcm.take(range(first, end), mode="wrap")

    frames = []
    for _ in itertools.islice(session.stream(chunks(), fps=fps), count):
        now = time.perf_counter()
        frames.append(Timed(now, now - due, time.process_time()))
        if ended.is_set():  # or a stream whose sound ends would make what is left
            break
    return frames


def crowd(sessions: list[Session], seconds: float, fps: Fraction, seed: int = 0) -> list[Timed]:
    """Let all sessions speak for `seconds`; return every frame.

    Raises what a session's stream raises, of several the first. That, or Ctrl-C, ends all of them: Python, as it ends,
    aborts where a thread is still inside an engine.
    """
    rng, pcm, ready = random.Random(seed), sentence(ROUND), []
    rounds = max(1, round(seconds / ROUND))
    count = max(1, int(seconds / rounds * fps))
    ended = threading.Event()
    with ThreadPoolExecutor(len(sessions)) as threads:
        try:
            for _ in range(rounds):
                start = time.perf_counter() + START
                begins = [start + rng.random() / float(fps) for _ in sessions]
                spoken = [
                    threads.submit(speak, session, pcm, fps, begin, count, ended)
                    for session, begin in zip(sessions, begins, strict=True)
                ]
                for each in as_completed(spoken):
                    ready += each.result()
        finally:
            ended.set()
    return ready


def by_second(frames: list[Timed], late: float) -> list[tuple[float, int]]:
    """Return, second by second, the processor time of a frame and how many came `late` seconds after their sound.

    The time is 0 where the second has but one frame, which does not tell it.
    """
    ordered = sorted(frames)
    groups = [list(group) for _, group in itertools.groupby(ordered, lambda frame: int(frame.at - ordered[0].at))]
    return [
        ((group[-1].cpu - group[0].cpu) / max(1, len(group) - 1), sum(frame.taken > late for frame in group))
        for group in groups
    ]


def usual_cpu(seconds: list[tuple[float, int]]) -> float:
    """Return the usual processor time of a frame, in seconds: as Crowd.cpu_ms, from what `by_second` gives."""
    spent = [cpu for cpu, missed in seconds if cpu and not missed] or [cpu for cpu, _ in seconds if cpu]
    return float(np.median(spent)) if spent else 0.0


def missed_slow(seconds: list[tuple[float, int]]) -> int:
    """Return how many frames were late in seconds in which one took SLOW times its usual processor time."""
    usual = usual_cpu(seconds)
    return sum(missed for cpu, missed in seconds if cpu > SLOW * usual)


def measure(count: int, seconds: float, open_session: Callable[[], Session], fps: Fraction | None = None) -> Crowd:
    """Hold `count` sessions, the twins of what `open_session` opens, for `seconds`."""
    with contextlib.ExitStack() as opened:
        first = opened.enter_context(open_session())
        rate = fps or first.fps
        crowd([first], WARM_UP, rate)  # what is made at the first step is there
        alone = memory("VmRSS") / 1e6
        sessions = [first, *(opened.enter_context(first.twin()) for _ in range(count - 1))]
        crowd(sessions, WARM_UP, rate)
        frames = crowd(sessions, seconds, rate)
        taken = np.array([frame.taken for frame in frames]) * 1e3
        grouped = by_second(frames, 1 / float(rate))
        p50, p95, p99, latest = (float(v) for v in np.percentile(taken, (50, 95, 99, 100)))
        missed, delayed = (int((taken > times * 1e3 / float(rate)).sum()) for times in (1, 2))
        return Crowd(
            sessions=count,
            streams=first.streams,
            fps=float(rate),
            seconds=seconds,
            frames=len(taken),
            missed=missed,
            missed_delayed=delayed,
            missed_slow=missed_slow(grouped),
            cpu_ms=usual_cpu(grouped) * 1e3,
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            max_ms=latest,
            rss_mb=max(alone, memory("VmRSS") / 1e6),
            rss_of_one_mb=alone,
        )


def most(seconds: float, open_session: Callable[[], Session], fps: Fraction | None = None) -> list[Crowd]:
    """Find how many sessions miss no frame in `seconds`; return all that was tried, the answer last.

    One session more is tried for a short while each time, until frames are missed; then fewer are, for the whole
    time, until none is. The last one has missed frames where not even one session can be held.
    """
    tried = []
    for count in range(1, 64 * (os.cpu_count() or 1)):
        tried.append(measure(count, min(TRIAL, seconds), open_session, fps))
        if tried[-1].missed:
            break
    for count in range(max(1, tried[-1].sessions - 1), 0, -1):
        tried.append(measure(count, seconds, open_session, fps))
        if not tried[-1].missed:
            break
    return tried
