"""A face in real time: it says what comes as it comes, idles meanwhile, and falls silent at once when it is told to.

A picture and the sound that belongs to it leave together, so that they cannot part. Playing both is the caller's;
`edgetalk live` does it in a browser (page/).
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Array, Picture
from .backends import check_count
from .clock import SAMPLE_RATE, first_sample
from .errors import BackendError, InputError
from .motion import Motion
from .preprocess import check_pcm
from .windows import WindowStream

if TYPE_CHECKING:
    from .session import Session


PATIENCE = 2  # frame times, beside those of the lead, that too little sound waits for more where it begins or ran dry
SEAM = 80  # samples over which what was forgotten fades into what follows
STALLED = 1.0  # seconds; what is later than that is not caught up with


class _Heard(NamedTuple):
    """Sound of one frame time that the front end has heard and nobody else yet."""

    sound: Array
    said: int
    """How many of its samples were said; silence is the rest."""
    before: WindowStream
    """The front end before it heard this."""


class Live:
    """What `Session.live` returns: iterate it for pictures and sound in real time, and say to it what it shall say.

    One thread iterates, or calls `step`; any thread may `say`, `hush` and `close`.

    >>> live = session.live()
    >>> live.say(pcm)
    >>> for frame, sound in live:  # 25 times a second, until you leave the loop
    ...     show(frame), play(sound)
    """

    def __init__(
        self, session: Session, move: Motion, rate: Fraction, lead: float = 0.0, most: float = math.inf
    ) -> None:
        if not 0 <= lead < math.inf:
            raise InputError(
                f"lead: got {lead}, expected seconds, 0 or more: as long as the pieces that sound comes in"
            )
        if not most > lead:
            raise InputError(f"most: got {most}, expected seconds, more than the lead of {lead}")
        self._session, self._move, self.fps = session, move, rate
        self._lead, self._most = round(lead * SAMPLE_RATE), most * SAMPLE_RATE
        self._patience = PATIENCE + math.ceil(lead * rate)
        self.left_out = 0
        """Pictures that were left out so far, because the caller or the machine was late."""
        self._ended = False
        self._stream = WindowStream(session.audio, rate)
        self._at = 0  # the frame that comes next
        self._ahead: deque[_Heard] = deque()  # from that frame's on
        self._windows: deque[Array] = deque()  # from that frame's on
        self._lock = threading.Lock()  # over what is below
        self._said: deque[Array] = deque()
        self._waiting = 0  # samples in _said
        self._waited = 0  # frame times that they, and what is owed, were too few
        self._flowing = False  # the last frame was said to its end
        self._owed = 0  # samples of silence before what is said next
        self._hushed = False

    @property
    def left(self) -> float:
        """Seconds of what was said that `step` has not returned yet."""
        with self._lock:
            heard = 0 if self._hushed else sum(each.said for each in self._ahead)
            return (self._waiting + heard) / SAMPLE_RATE

    def say(self, pcm: ArrayLike) -> None:
        """Say a sound, or more of it, after all that was said before: 16 kHz mono float32, (N,), of any length.

        It is heard after the frames that the network looks ahead, 2 or 3 of them at 25 per second; what waits is kept,
        up to `most` of Session.live, and `left` tells how much. Raises InputError, or BackendError where it is closed.
        """
        self._check_open()
        sound = check_pcm(pcm).copy()
        if not len(sound):  # nothing to keep until something comes
            return
        with self._lock:
            if not self._said:
                self._waited = 0  # what it had waited for was silence owed
            self._said.append(sound)
            self._waiting += len(sound)
            if self._waiting > self._most:
                self._forget(max(self._lead, len(sound)))

    def hush(self) -> None:
        """Forget what was said and is not heard yet; the next frame's sound fades out, and silence follows.

        Raises BackendError where it is closed.
        """
        self._check_open()
        with self._lock:
            if not self._ahead:  # at a slow rate the network looks less than a frame ahead
                self._hear(*self._take())
            self._said.clear()
            self._waiting = self._waited = self._owed = 0
            self._flowing, self._hushed = False, True

    def close(self) -> None:
        """End the loop that iterates it, after the picture that it may be making; the session stays open."""
        self._ended = True

    def _check_open(self) -> None:
        self._session.check_open()
        if self._ended:
            raise BackendError("this live face was closed; begin another: session.live()")

    def step(self, frames: int = 1) -> tuple[Picture, Array]:
        """Return the picture that comes next, uint8 (H, W, 3) RGB, and the sound that is heard meanwhile, float32 (N,).

        With several `frames`: the last picture, and the sound of all. Raises what `Session.step` raises, and
        BackendError where it is closed.
        """
        self._check_open()
        return self._step(check_count("frames", frames))

    def _step(self, count: int) -> tuple[Picture, Array]:
        sounds = []
        with self._lock:
            for _ in range(count):
                window, sound = self._next()
                sounds.append(sound)
        frame = self._session.frame(self._at - 1, window, self._move, self.fps)
        return frame, np.concatenate(sounds)

    def __iter__(self) -> Iterator[tuple[Picture, Array]]:
        """Yield what `step` returns, each when it is due; pictures that would come too late are left out, sound never.

        After a stop of more than a second, such as one in the caller, nothing is left out: it goes on from there. It
        ends where it is closed.
        """
        start, first = time.monotonic(), self._at
        while not self._ended:
            late = time.monotonic() - start - float((self._at - first) / self.fps)
            if late > STALLED:
                start, late = start + late, 0.0
            time.sleep(max(0.0, -late))
            missed = max(0, int(late * self.fps))
            if self._ended:
                return
            made = self._step(1 + missed)
            self.left_out += missed
            yield made

    def _next(self) -> tuple[Array, Array]:
        """Return the window and the sound of the frame that comes next, which is then the last one's."""
        if self._hushed:
            self._fade()
        while not self._windows:
            self._hear(*self._take())
        self._at += 1
        return self._windows.popleft(), self._ahead.popleft().sound

    def _take(self) -> tuple[Array, int]:
        """Return the sound of the next frame time to be heard, and how many samples of it were said.

        There are three cases:
        1. A frame of sound is there, where it begins also the lead, or less has waited long enough: it is heard, behind
           the silence owed.
        2. Less is there, and speech is in mid-flow: it is heard at once, as it may be the end. As much silence is owed
           before the next sound. So the gap is as long as if this had waited, and while more gathers in it, the next
           late piece makes none.
        3. Less is there, and nothing is in mid-flow: the frame is silent, and what is there waits for more.
        """
        frame = self._at + len(self._ahead)
        sound = np.zeros(first_sample(frame + 1, self.fps) - first_sample(frame, self.fps), np.float32)
        there = self._owed + self._waiting
        wanted = len(sound) if self._flowing else max(len(sound), self._lead)
        if there < wanted and self._waited < self._patience:
            self._waited += there > 0
            rest = self._fill(sound) if self._flowing else 0
            self._owed, self._flowing = self._owed + rest, False
            return sound, rest
        said = self._fill(sound[self._owed :])
        self._flowing = 0 < said == len(sound) - self._owed
        self._waited = self._owed = 0
        return sound, said

    def _fill(self, sound: Array) -> int:
        """Write what waits to be said, or as much of it as there is room for, and return how many samples that was."""
        said = 0
        while self._said and said < len(sound):
            chunk = self._said.popleft()
            taken = chunk[: len(sound) - said]
            sound[said : said + len(taken)] = taken
            said += len(taken)
            if len(taken) < len(chunk):
                self._said.appendleft(chunk[len(taken) :])
        self._waiting -= said
        return said

    def _forget(self, kept: int) -> None:
        """Forget all but the last samples of what waits; what would have come next fades into them."""
        whole = np.concatenate(self._said)
        rest = whole[-kept:].copy()
        fade = np.linspace(0, 1, min(SEAM, kept), dtype=np.float32)
        rest[: len(fade)] = rest[: len(fade)] * fade + whole[: len(fade)] * (1 - fade)
        self._said = deque([rest])
        self._waiting = kept

    def _hear(self, sound: Array, said: int) -> None:
        self._ahead.append(_Heard(sound, said, self._stream.fork()))
        number = self._stream.next
        for window in self._stream.push(sound):
            if number >= self._at:  # behind a hush those come again that were shown
                self._windows.append(window)
            number += 1

    def _fade(self) -> None:
        """Take back what was heard ahead; of the next frame's sound a fading rest stays, so that there is no click."""
        self._hushed = False
        following = self._ahead[0]
        self._stream = following.before
        self._ahead.clear()
        self._windows.clear()
        self._hear(following.sound * np.linspace(1, 0, len(following.sound), dtype=np.float32), following.said)
