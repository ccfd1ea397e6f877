"""How fast an engine is on this machine: the code behind `edgetalk bench` and behind bench/.

A work is a function without arguments that does one frame's worth of one stage and returns what it made; timing.py
times it. The sound is the bundled sentence, said again and again. Comparing with other frameworks is in bench/.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from . import __version__, audio
from .arrays import Array, Picture
from .bundled import SENTENCE
from .clock import SAMPLE_RATE
from .metadata import AudioSpec
from .motion import Idle
from .render import render, side_by_side
from .session import Session
from .timing import Spread, memory, sample
from .windows import sound_windows
from .writer import Writer


@dataclass(frozen=True)
class Report:
    """What `edgetalk bench` prints; field names are those of its --json."""

    edgetalk: str
    engine: str
    precision: str
    device: str
    threads: int | None
    size: tuple[int, int]
    load_ms: float
    """From the call of Session to a session that can step."""
    first_frame_ms: float
    """Of the first step after that."""
    stream_ms: float
    """From the last sample that the first frame of a later live stream takes to that frame."""
    stages: dict[str, Spread]
    """mel, step and encode alone; end_to_end is the time between two finished frames of a whole film, as talk
    makes it."""
    delivered: float
    """Frames per second of that film, up to the closed file, against those of the step alone at its median."""
    frames: int
    sound_s: float
    wall_s: float
    real_time_factor: float
    """Seconds of work per second of sound, overlapped, up to the closed file; below 1 is faster than real time."""
    rss_mb: float
    """MB of memory after the run."""
    peak_rss_mb: float
    """Of all that is measured here; `talk` alone needs less."""


def sentence(seconds: float) -> Array:
    """Return the bundled sentence, repeated or cut to `seconds`: (N,) float32 at 16 kHz."""
    return np.resize(audio.read(SENTENCE), round(seconds * SAMPLE_RATE))


def mel_work(pcm: Array, spec: AudioSpec, fps: Fraction) -> Callable[[], Array]:
    """Return a work that hears the next frame alone, as a live face does, and cuts its window.

    The sound starts anew at its end.
    """
    cuts = itertools.chain.from_iterable(sound_windows(pcm, spec, fps, 1) for _ in itertools.count())
    return lambda: next(cuts)


def step_work(session: Session, pcm: Array) -> Callable[[], Picture]:
    """Return a work that steps the session to the next frame of `pcm` with idle motion."""
    feeds = itertools.cycle(list(controls(session, pcm)))
    return lambda: session.step(*next(feeds))


def controls(session: Session, pcm: Array) -> Iterator[tuple[Array, ...]]:
    """Yield what step takes for every frame of `pcm`, with idle motion."""
    life = Idle(0, session.fps)
    for i, mel in enumerate(sound_windows(pcm, session.audio, session.fps)):
        yield (mel, *life.pose_blink(i)) if "pose" in session.inputs else (mel,)


def first_of_stream(session: Session) -> float:
    """Return the seconds from the last sample that the first frame of a live stream takes to that frame."""
    heard = 0.0

    def chunks() -> Iterator[Array]:
        nonlocal heard
        for chunk in np.split(sentence(2.0), 200):
            heard = time.perf_counter()
            yield chunk

    next(iter(session.stream(chunks())))
    return time.perf_counter() - heard


def encode_work(writer: Writer, frames: Sequence[Picture]) -> Callable[[], None]:
    """Return a work that writes the next of `frames`."""
    pictures = itertools.cycle(frames)
    return lambda: writer.write(next(pictures))


def run(
    engine: str | os.PathLike[str],
    avatar: str | os.PathLike[str] | None = None,
    seconds: float = 10.0,
    device: str = "auto",
    threads: int | None = None,
) -> Report:
    """Measure an engine with `seconds` of speech; raises what Session, its step and Writer raise."""
    start = time.perf_counter()
    stages = {}
    with Session(engine, avatar=avatar, device=device, threads=threads) as session:
        load = time.perf_counter() - start
        pcm = sentence(seconds)
        fps, spec = session.fps, session.audio
        rounds = int(seconds * fps)
        step = step_work(session, pcm)
        first = sample(step, 1, 0)[0]
        live = float(np.median([first_of_stream(session) for _ in range(9)]))
        stages["mel"] = Spread.of(sample(mel_work(pcm, spec, fps), rounds))
        stages["step"] = Spread.of(sample(step, rounds))
        frames = [step() for _ in range(min(rounds, 50))]
    with tempfile.TemporaryDirectory(prefix="edgetalk-") as folder:
        with Writer(Path(folder) / "encode.mp4", session.size, fps, audio=pcm) as writer:
            stages["encode"] = Spread.of(sample(encode_work(writer, frames), rounds, 0))
        # Anew, for a film is stepped by as many streams as suit it.
        with Session(
            engine, avatar=session.avatar, device=device, threads=threads, streams=side_by_side(threads)
        ) as parallel:
            timings = render(parallel, pcm, Path(folder) / "whole.mp4", Idle(0, fps), fps)
        stages["end_to_end"] = Spread.of(np.diff(timings.done).tolist())
    return Report(
        edgetalk=__version__,
        engine=str(engine),
        precision=session.metadata.precision,
        device=session.device,
        threads=threads,
        size=session.size,
        load_ms=load * 1000,
        first_frame_ms=first * 1000,
        stream_ms=live * 1000,
        stages=stages,
        delivered=timings.rate * stages["step"].p50_ms / 1000,
        frames=len(timings.step),
        sound_s=timings.sound,
        wall_s=timings.wall,
        real_time_factor=timings.real_time_factor,
        rss_mb=memory("VmRSS") / 1e6,
        peak_rss_mb=memory("VmHWM") / 1e6,
    )
