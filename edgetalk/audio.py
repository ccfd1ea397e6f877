"""Sound files in, 16 kHz mono float32 out.

libsndfile reads what it knows, FFmpeg (PyAV) the rest, films included. Channels are added up to the level of the
loudest, or where they cancel each other out it is taken alone; any rate from 8 kHz up is resampled. What would give a
video without speech is refused: empty, cut short, not a number, not sound. Microphones and streams are not here.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .clock import SAMPLE_RATE
from .errors import InputError
from .files import plain
from .preprocess import MAX_PEAK, check_pcm

Array = NDArray[np.float32]

MIN_RATE = 8000  # Hz; below that the bands that tell consonants apart are missing
MIN_SECONDS = 0.01
CANCELLED = 0.01  # of the energy that channels independent of each other leave when averaged: 20 dB less
BLOCK = 1 << 18  # samples that are mixed down at once
_LONG = ("mov", "matroska", "flac", "caf", "wav")  # FFmpeg's formats whose header knows the length
SLACK = 0.15  # seconds by which compressed sound may miss its promised duration (priming, rounding)
_OPEN_END = 0x7FFFFFFF  # sizes from here on are what a program writes that does not know the size yet
_MALFORMED = 3  # libsndfile's code for a format it knows in a file it cannot follow
# How libsndfile's log of WAV, AIFF, AU, W64 and RF64 headers tells of samples that are not there.
_SHORT = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)


def read(path: str | os.PathLike[str]) -> Array:
    """Return the sound of a file, (N,) float32 in [-1, 1] at 16 kHz; what is louder than full scale is clipped.

    Several channels are added and divided by as many as sound, counted by their energy: two that are alike are
    averaged, speech in the middle of a film's six stays as loud as it is there. Where next to nothing is left then, as
    of a microphone wired in opposite phase, the loudest channel is taken alone.

    Raises FileNotFoundError where there is no such file, and InputError where it is empty, shorter than 10 ms,
    truncated, holds NaN or infinity, is no sound, or was sampled at less than 8 kHz. Formats whose header does not
    say how long they are (Ogg, raw AAC, MP3 without a Xing header, pipes) end where they end.
    """
    path = Path(path)
    if path.is_fifo():  # /dev/stdin too
        raise InputError(f"{path} is a pipe, which cannot be read from its start again; write the sound to a file")
    with open(path, "rb") as file:  # the system's own words for: no such file, a folder, no permission
        head = file.read(3)
    if not head:
        raise InputError(f"{path} is empty (0 bytes); expected a sound file")
    # libsndfile leaves MP3 to libmpg123, which writes what it dislikes to stderr.
    mpeg = head == b"ID3" or (head[0] == 0xFF and head[1:] >= b"\xe0") or path.suffix.lower() == ".mp3"

    def mixed(mix: _Mix) -> tuple[Array, int]:
        return (None if mpeg else _with_soundfile(path, mix)) or _with_av(path, mix)

    mix = _Mix()
    mono, rate = mixed(mix)
    if mix.cancelled():
        mix = _Mix(mix.loudest)
        mono, rate = mixed(mix)
    mono = mono * np.float32(mix.gain)
    if not len(mono):
        raise InputError(f"{path} is empty: its header is followed by no samples")
    if rate < MIN_RATE:
        raise InputError(f"{path} is sampled at {rate} Hz, expected at least {MIN_RATE} Hz; record it again")
    if len(mono) < MIN_SECONDS * rate:
        raise InputError(
            f"{path} lasts {len(mono)} sample{'s' if len(mono) > 1 else ''} ({1000 * len(mono) / rate:.2g} ms), "
            f"expected at least {MIN_SECONDS * 1000:.0f} ms of sound"
        )
    if not np.isfinite(mono).all():
        raise InputError(f"{path} holds NaN or infinite samples; write it again from the program that made it")
    peak = float(np.abs(mono).max())
    if peak > MAX_PEAK:
        raise InputError(f"{path} has float samples up to {peak:.0f}, expected -1 to 1; divide them by full scale")
    if rate != SAMPLE_RATE:
        import soxr

        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    return np.clip(mono, -1.0, 1.0)


def of(audio: str | os.PathLike[str] | Array) -> Array:
    """Return the sound of a file as `read` does, or 16 kHz mono float32 PCM, (N,), as it is.

    Raises as `read`, and InputError where PCM is of another kind or has no samples.
    """
    if isinstance(audio, str | os.PathLike):
        return read(audio)
    pcm = check_pcm(audio)
    if not len(pcm):
        raise InputError("pcm: got 0 samples, expected sound")
    return pcm


class _Mix:
    """One channel of several: their average, or the one that is named. Remembers how loud all were."""

    def __init__(self, channel: int | None = None) -> None:
        self._channel = channel
        self._each: NDArray[np.float64] = np.zeros(1)
        self._average = 0.0

    def __call__(self, block: NDArray[Any]) -> Array:
        """Return one channel of a block, float32 (N, C)."""
        average = block.mean(1)
        self._each = self._each + np.square(block, dtype=np.float64).sum(0)
        self._average += float(np.square(average, dtype=np.float64).sum())
        return average if self._channel is None else np.ascontiguousarray(block[:, self._channel])

    def cancelled(self) -> bool:
        """Whether averaging what came so far left next to nothing of it."""
        return self._average < CANCELLED * float(self._each.sum()) / len(self._each) ** 2

    @property
    def gain(self) -> float:
        """What the average is short of the sum, divided by as many channels as sound."""
        whole = float(self._each.sum())
        if self._channel is not None or not 0 < whole < math.inf:
            return 1.0
        return len(self._each) * float(self._each.max()) / whole

    @property
    def loudest(self) -> int:
        """Number of that channel."""
        return int(self._each.argmax())


def _with_soundfile(path: Path, mix: _Mix) -> tuple[Array, int] | None:
    """Return mono samples and their rate, or None where libsndfile does not know the format."""
    import soundfile

    try:
        file = soundfile.SoundFile(os.fsencode(path) if os.name == "posix" else path)
    except soundfile.LibsndfileError as error:
        if error.code == _MALFORMED:
            raise _truncated(path) from None
        return None
    except TypeError:  # .raw: libsndfile would want to be told rate and format
        return None
    with file:
        for promised, held in _SHORT.findall(file.extra_info):
            if int(held) < int(promised) < _OPEN_END:
                raise _truncated(path)
        blocks = []
        try:
            while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
                blocks.append(mix(block))
        except soundfile.LibsndfileError:
            raise _truncated(path) from None
        mono = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
        if len(mono) < file.frames:
            raise _truncated(path)
        return mono, int(file.samplerate)


def _with_av(path: Path, mix: _Mix) -> tuple[Array, int]:
    import av

    try:
        with av.open(plain(path)) as container:
            if not container.streams.audio:
                raise InputError(f"{path} has no sound; expected a sound file or a film with a sound track")
            stream = container.streams.audio[0]
            floats = av.AudioResampler(format="fltp")  # the sample type alone: rate and channels stay
            blocks = [
                mix(block.to_ndarray().T) for frame in container.decode(stream) for block in floats.resample(frame)
            ]
            rate = int(stream.rate)
            promised = 0.0
            if _tells_length(path, container.format.name):
                if stream.duration is not None and stream.time_base is not None:
                    promised = float(stream.duration * stream.time_base)
                elif container.duration is not None and len(container.streams) == 1:
                    promised = container.duration / av.time_base
    except av.FFmpegError as error:
        raise InputError(f"{path} is no sound that FFmpeg can read ({error.strerror}), or it is damaged") from None
    mono = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
    if len(mono) / rate < promised - SLACK:
        raise _truncated(path)
    return mono[: round(promised * rate)] if promised else mono, rate  # less what fills the last packet


def _tells_length(path: Path, kind: str) -> bool:
    """Whether the file says how long it is; for others FFmpeg guesses from size and bit rate, and may be far off."""
    if kind != "mp3":
        return any(name in kind.split(",") for name in _LONG)
    with open(path, "rb") as file:
        head = file.read(10)
        tag = 0
        if head[:3] == b"ID3":  # four times seven bits of size, then the first frame with its table of contents
            tag = 10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        file.seek(tag)
        frame = file.read(200)
    return b"Xing" in frame or b"Info" in frame or b"VBRI" in frame


def _truncated(path: Path) -> InputError:
    return InputError(f"{path} is truncated or damaged: its header promises more sound than it holds; copy it again")
