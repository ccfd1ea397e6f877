"""A whole sound into a video file: mel, step and encode of different frames run at the same time.

One thread cuts the sound into windows, as many threads as the engine has streams step the network, one thread
encodes; numpy, the engine and FFmpeg all let go of the interpreter while they work. Live output is not here.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backends import cores
from .clock import SAMPLE_RATE, frame_count
from .errors import InputError, ModelError
from .metadata import AudioSpec
from .motion import Motion
from .preprocess import windows
from .session import Session
from .video import Writer

Array = NDArray[np.float32]

STREAMS = 2  # steps side by side: neither waits for the other's threads, nor both for the encoder
QUEUE = 8  # frames that may wait for the encoder: enough to ride out a key frame, little memory
STAGES = ("mel", "step", "encode")


@dataclass
class Timings:
    """How long each stage took for each frame, and the whole."""

    mel: list[float] = field(default_factory=list)
    """Seconds per frame, as of the two below; it includes the sound that the first window looks ahead to."""
    step: list[float] = field(default_factory=list)
    encode: list[float] = field(default_factory=list)
    """Picture and sound."""
    done: list[float] = field(default_factory=list)
    """When each frame was encoded, in seconds of a clock that only runs forwards."""
    wall: float = 0.0
    """Seconds from the first window to the closed file."""
    sound: float = 0.0
    """Seconds of sound."""

    @property
    def rate(self) -> float:
        """Frames per second that were delivered, up to the closed file."""
        return len(self.done) / self.wall

    @property
    def real_time_factor(self) -> float:
        """Seconds of work per second of sound; below 1 is faster than real time."""
        return self.wall / self.sound


def streams(threads: int | None) -> int:
    """Return how many steps of a film to do side by side on `threads` CPU threads, None for all that are there."""
    return min(STREAMS, threads or cores())


def front_end(session: Session) -> AudioSpec:
    """Return how the session's network hears; raises ModelError where its metadata does not say it."""
    if session.metadata.audio is None:
        raise ModelError("the engine does not say how it hears; export it again, or call Session.step")
    return session.metadata.audio


def render(
    session: Session,
    pcm: Array,
    path: str | os.PathLike[str],
    motion: Motion,
    fps: Fraction,
    crf: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Timings:
    """Let the session's face say `pcm`, (N,) float32 at 16 kHz, into an mp4 or webm file; return the timings.

    A session of several streams makes as many frames at a time, each in fewer threads: more frames per second than
    one after another in all threads. `progress(done, total)` is called after every frame. The file appears when it
    is whole: an exception or Ctrl-C leaves nothing behind. Raises InputError where there is no sound, and what
    Session.step and Writer raise.
    """
    spec = front_end(session)
    if not len(pcm):
        raise InputError("pcm: got 0 samples, expected sound")
    total = frame_count(len(pcm), fps)
    timings = Timings(sound=len(pcm) / SAMPLE_RATE)
    moves = "pose" in session.inputs
    cuts = windows(pcm, spec, fps)
    started = time.perf_counter()
    with (
        contextlib.ExitStack() as opened,
        Writer(path, session.size, fps, audio=pcm, crf=crf) as writer,
        ThreadPoolExecutor(1, "edgetalk-mel") as analyser,
        ThreadPoolExecutor(session.streams, "edgetalk-step") as steppers,
        ThreadPoolExecutor(1, "edgetalk-encode") as encoder,
    ):
        free: SimpleQueue[Session] = SimpleQueue()
        free.put(session)
        for _ in range(session.streams - 1):
            free.put(opened.enter_context(session.twin()))

        def timed(stage: list[float], work: Callable[..., Any], *args: Any) -> Any:
            start = time.perf_counter()
            result = work(*args)
            stage.append(time.perf_counter() - start)
            return result

        def step(i: int, inputs: tuple[Array, ...]) -> NDArray[np.uint8]:
            one = free.get()
            try:
                one.at = i
                frame: NDArray[np.uint8] = timed(timings.step, one.step, *inputs).copy()
                return frame
            finally:
                free.put(one)

        def write(frame: NDArray[np.uint8]) -> None:
            timed(timings.encode, writer.write, frame)
            timings.done.append(time.perf_counter())

        def hand_on() -> None:
            """Give the oldest frame to the encoder; wait where that has too many already."""
            written.append(encoder.submit(write, stepped.popleft().result()))
            if len(written) > QUEUE:
                written.popleft().result()
            if progress is not None:
                progress(next(handed), total)

        handed = itertools.count(1)
        stepped: deque[Future[Any]] = deque()
        written: deque[Future[Any]] = deque()
        ahead = analyser.submit(timed, timings.mel, next, cuts)
        for i in range(total):
            window = ahead.result()
            if i + 1 < total:
                ahead = analyser.submit(timed, timings.mel, next, cuts)
            inputs = (window, *motion.pose_blink(i)) if moves else (window,)
            stepped.append(steppers.submit(step, i, inputs))
            if len(stepped) > session.streams:
                hand_on()
        while stepped:
            hand_on()
        for picture in written:
            picture.result()
    timings.wall = time.perf_counter() - started
    return timings
