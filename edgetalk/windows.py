"""The mel windows that a network hears, one for each video frame: of a sound that arrives, or of a whole one."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from . import clock, mel
from .arrays import Array
from .errors import InputError
from .metadata import AudioSpec

BLOCK = 1024  # windows at once: those of half an hour would be gigabytes
TOGETHER = 25  # frames of a whole sound that are heard at once, which takes a fifth of the time


class WindowStream:
    """The mel window of every video frame of a sound that arrives in chunks; equal to mel.windows of the whole.

    A window comes as soon as its last mel frame and the whole of its video frame have been heard. Raises InputError for
    front ends other than log-mel at 16 kHz, which have to hear the whole sound.

    >>> stream = WindowStream(spec, Fraction(25))
    >>> frames = [*stream.push(pcm[:1000]), *stream.push(pcm[1000:]), *stream.flush()]
    """

    def __init__(self, spec: AudioSpec, fps: Fraction) -> None:
        self._spec, self._fps = spec, fps
        self._step, self._offset = mel.pace(spec, fps)
        self._mels = mel.MelStream(spec)
        if spec.sample_rate != clock.SAMPLE_RATE:
            raise InputError(
                f"audio front end at {spec.sample_rate} Hz: a live sound is at {clock.SAMPLE_RATE} Hz and is not "
                "resampled; use talk instead of stream"
            )
        self._heard = 0  # samples
        self.next = 0
        """The video frame whose window comes next."""
        self._first = min(0, self._start(0))  # the mel frame that _kept starts with
        self._kept = np.repeat(mel.silence(spec)[None], -self._first, 0)

    def _start(self, frame: int) -> int:
        return (frame * self._step + self._offset).__floor__()  # as mel.window_starts

    def fork(self) -> WindowStream:
        """Return a stream that has heard the same and may go on with another sound."""
        other = copy.copy(self)  # arrays are replaced, never written into
        other._mels = copy.copy(self._mels)
        return other

    def push(self, pcm: Array) -> Iterator[Array]:
        """Take (N,) float32 PCM, N >= 0, and return the windows that it completes, (T, F) float32 each."""
        self._heard += len(pcm)
        self._kept = np.concatenate([self._kept, self._mels.push(pcm)])
        return self._windows(clock.frame_at(self._heard, self._fps))

    def flush(self) -> Iterator[Array]:
        """Return the windows of the frames that are left; silence follows the sound."""
        total = clock.frame_count(self._heard, self._fps)
        self._kept = np.concatenate([self._kept, self._mels.flush()])
        missing = self._start(max(0, total - 1)) + self._spec.window - self._first - len(self._kept)
        self._kept = np.concatenate([self._kept, np.repeat(mel.silence(self._spec)[None], max(0, missing), 0)])
        return self._windows(total)

    def _windows(self, end: int) -> Iterator[Array]:
        while self.next < end:
            at = self._start(self.next) - self._first
            if at + self._spec.window > len(self._kept):
                break
            self._kept, self._first = self._kept[at:], self._first + at  # windows start ever later
            self.next += 1
            yield self._kept[: self._spec.window]


def sound_windows(pcm: Array, spec: AudioSpec, fps: Fraction, together: int = TOGETHER) -> Iterator[Array]:
    """Yield the mel window of every video frame of a whole sound, (T, F) float32, from (N,) float32 PCM at 16 kHz.

    Log-mel is computed as a live sound's would be, of `together` video frames at once. MFCC have to hear the whole
    sound first, and so has what hears at another rate.
    """
    if spec.kind != "logmel" or spec.sample_rate != clock.SAMPLE_RATE:
        count = clock.frame_count(len(pcm), fps)
        if spec.sample_rate != clock.SAMPLE_RATE:
            import soxr

            pcm = soxr.resample(pcm, clock.SAMPLE_RATE, spec.sample_rate)
        heard = mel.log_mel(pcm, spec)
        for first in range(0, count, BLOCK):
            yield from mel.windows(heard, min(BLOCK, count - first), spec, fps, first)
        return
    stream = WindowStream(spec, fps)
    for i in range(0, clock.frame_at(len(pcm), fps) + 1, together):
        yield from stream.push(pcm[clock.first_sample(i, fps) : clock.first_sample(i + together, fps)])
    yield from stream.flush()
