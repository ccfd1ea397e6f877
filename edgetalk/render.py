"""A whole sound into a video file: mel, step and encode of different frames run at the same time.

One thread cuts the sound into windows, as many threads as the engine has streams step the network, one thread
encodes. Live output is not here.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .arrays import Array
from .audio import as_pcm
from .backends import check_count
from .clock import SAMPLE_RATE, frame_count, frame_rate
from .motion import Motion
from .overlap import Delivered, Job, cores, deliver, overlap
from .progress import OnFrame
from .session import Session
from .windows import sound_windows
from .writer import Writer, check_output

if TYPE_CHECKING:
    from .avatar import AvatarLike
    from .picture import PictureLike


STREAMS = 2  # steps side by side: neither waits for the other's threads, nor both for the encoder
STAGES = ("mel", "step", "encode")


@dataclass
class Timings(Delivered):
    """How long each stage took for each frame, and the whole."""

    mel: list[float] = field(default_factory=list)
    """Seconds per frame, as of the two below; it includes the sound that the first window looks ahead to."""
    step: list[float] = field(default_factory=list)
    encode: list[float] = field(default_factory=list)
    """Picture and sound."""
    sound: float = 0.0
    """Seconds of sound."""

    @property
    def real_time_factor(self) -> float:
        """Seconds of work per second of sound; below 1 is faster than real time."""
        return self.wall / self.sound


def side_by_side(threads: int | None, streams: int | None = None) -> int:
    """Return how many steps of a film to do at once on `threads` CPU threads, None for all that are there.

    That is `streams` where it is given. Raises InputError where one of them is no such number.
    """
    for name, count in (("threads", threads), ("streams", streams)):
        if count is not None:
            check_count(name, count)
    return streams or min(STREAMS, threads or cores())


def render(
    session: Session,
    pcm: Array,
    path: str | os.PathLike[str],
    motion: Motion,
    fps: Fraction,
    crf: int | None = None,
    progress: OnFrame | None = None,
) -> Timings:
    """Let the session's face say `pcm`, (N,) float32 at 16 kHz, into an mp4 or webm file; return the timings.

    A session of several streams makes as many frames at a time, each in fewer threads: more frames per second than
    one after another in all threads. `progress(done, total)` is called after every frame. The file appears when it
    is whole: an exception or Ctrl-C leaves nothing behind. Raises InputError where there is no sound, ModelError where
    the engine does not say how it hears, and what Session.step and Writer raise.
    """
    spec, pcm = session.audio, as_pcm(pcm)
    total = frame_count(len(pcm), fps)
    timings = Timings(fps, sound=len(pcm) / SAMPLE_RATE)
    windows = enumerate(sound_windows(pcm, spec, fps, 1))  # each frame with its own time

    def step(one: Session, numbered: tuple[int, Array]) -> NDArray[np.uint8]:
        i, mel = numbered
        return one.frame(i, mel, motion, fps)

    with contextlib.ExitStack() as opened:
        writer = opened.enter_context(Writer(path, session.size, fps, audio=pcm, crf=crf))
        sessions = [session, *(opened.enter_context(session.twin()) for _ in range(session.streams - 1))]
        stepping = Job("step", [partial(step, one) for one in sessions], timings.step)
        encoding = Job("encode", [writer.write], timings.encode)
        made = overlap(windows, stepping, encoding, seconds=timings.mel)
        deliver(timings, made, writer.close, total, progress)
    return timings


def talk(
    engine: str | os.PathLike[str],
    audio: str | os.PathLike[str] | NDArray[np.float32],
    out: str | os.PathLike[str],
    *,
    avatar: AvatarLike | None = None,
    source: PictureLike | None = None,
    motion: str | os.PathLike[str] | Motion = "idle",
    seed: int = 0,
    fps: int | float | str | Fraction | None = None,
    face_models: str | os.PathLike[str] | None = None,
    use: str = "any",
    device: str = "auto",
    threads: int | None = None,
    streams: int | None = None,
    crf: int | None = None,
    tracking: OnFrame | None = None,
    progress: OnFrame | None = None,
) -> Timings:
    """Let a face say a sound, into the mp4 or webm file `out`; return the timings.

    `audio` is a sound file or 16 kHz mono float32 PCM, (N,). `engine`, `avatar`, `source`, `use`, `device` and
    `threads` are those of Session, `motion`, `seed` and `fps` those of Session.talk, `crf` is Writer's. `streams`
    is how many frames the network makes side by side (default: 2, or 1 on one thread). `face_models` is a folder with
    the two networks that find faces, for a film as motion (default: those in the user's cache).
    `tracking(done, total)` is called after every frame of such a film, `progress(done, total)` after every frame made.

    The file appears when it is whole: an exception or Ctrl-C leaves nothing behind. Raises FileNotFoundError,
    ModelError, InputError or BackendError.

    >>> edgetalk.talk("amnet", "speech.wav", "out.mp4", avatar="bea")
    """
    # What can be wrong with the arguments is said before an engine is loaded.
    check_output(out, crf, audio, motion)
    rate = None if fps is None else frame_rate(fps)
    pcm = as_pcm(audio)
    count = side_by_side(threads, streams)
    with Session(
        engine, avatar=avatar, source=source, use=use, device=device, threads=threads, streams=count
    ) as session:
        rate = rate or session.fps
        frames = frame_count(len(pcm), rate)
        move = session.motion(motion, seed, rate, frames=frames, face_models=face_models, progress=tracking)
        return render(session, pcm, out, move, rate, crf, progress)
