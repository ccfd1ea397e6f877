"""Sound files in, 16 kHz mono float32 out.

libsndfile reads what it knows, FFmpeg (PyAV) the rest, films included. Channels are added up to the level of the
loudest, or where they cancel each other out it is taken alone; any rate from 8 kHz up is resampled. The sound of a film
begins with its first picture, and is silent where it has a hole. What would give a video without speech is refused:
empty, cut short, not a number, not sound. Microphones and streams are not here.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import Array
from .clock import SAMPLE_RATE
from .errors import InputError, counted
from .files import plain
from .preprocess import MAX_PEAK, check_pcm
from .reader import JUMP, SLACK, TS_DISCONT, Reader, head, picture_streams

if TYPE_CHECKING:
    import av


MIN_RATE = 8000  # Hz; below that the bands that tell consonants apart are missing
MIN_SECONDS = 0.01
SILENT = 0.001  # of full scale, -60 dB: a recorder's own noise stays below
CANCELLED = 0.01  # of the energy that channels independent of each other leave when averaged: 20 dB less
HEAD = 1 << 12  # bytes in which a header says that it does not know the length
BLOCK = 1 << 18  # samples that are mixed down at once
_LONG = ("mov", "matroska", "flac", "caf", "wav")  # FFmpeg's formats whose header knows the length
START = 0.01  # seconds by which sound may begin beside a film's first picture and be taken to begin with it
LONGEST, BACK = 3600, 1  # seconds of a hole, and of a step back; more is a clock that was set
HOLE = 0.1  # seconds; less is missing where clocks are rounded or run apart, more where packets were lost
_OPEN_END = 0x7FFFFFFF  # sizes from here on are what a program writes that does not know the size yet
_OPEN_CAF = b"data" + 8 * b"\xff"  # samples up to the end, as of what is written to a pipe: libsndfile wants a length
_UNKNOWN = 1 << 62  # frames from here on are what libsndfile says where a header does not tell
_MALFORMED = 3  # libsndfile's code for a format it knows in a file it cannot follow
# How libsndfile's log of WAV, AIFF, AU, W64 and RF64 headers tells of samples that are not there.
_SHORT = re.compile(r"^\s*(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)


def read(path: str | os.PathLike[str]) -> Array:
    """Return the sound of a file, (N,) float32 in [-1, 1] at 16 kHz; what is louder than full scale is clipped.

    Several channels are added and divided by as many as sound, counted by their energy: two that are alike are
    averaged, speech in the middle of a film's six stays as loud as it is there. Where next to nothing is left then, as
    of a microphone wired in opposite phase, the loudest channel is taken alone.

    Of several sound tracks the first is read that can be decoded.

    Raises FileNotFoundError where there is no such file, and InputError where it is a pipe, empty, shorter than 10 ms,
    truncated, holds NaN or infinity, is no sound that can be decoded, or was sampled at less than 8 kHz. Formats whose
    header does not say how long they are (Ogg, raw AAC, MP3 without a Xing header, what was written to a pipe) end
    where they end.
    """
    path = Path(path)
    start = head(path, "sound", HEAD)
    # libsndfile leaves MP3 to libmpg123, which writes what it dislikes to stderr.
    mpeg = start[:3] == b"ID3" or (start[0] == 0xFF and start[1:3] >= b"\xe0") or path.suffix.lower() == ".mp3"

    def mixed(alone: dict[int, int]) -> tuple[_Mix, int]:
        mix = _Mix(alone)
        length = None if mpeg else _with_soundfile(path, start, mix)
        return mix, _with_av(path, mix) if length is None else length

    mix, length = mixed({})
    if alone := mix.cancelled():
        mix, length = mixed(alone)
    if not length:
        raise InputError(f"{path} is empty: its header is followed by no samples")
    if length < MIN_SECONDS * mix.rate:
        raise InputError(
            f"{path} lasts {counted(length, 'sample')} ({1000 * length / mix.rate:.2g} ms), "
            f"expected at least {MIN_SECONDS * 1000:.0f} ms of sound"
        )
    peak = mix.peak()
    if not math.isfinite(peak):
        raise InputError(f"{path} holds NaN or infinite samples; write it again from the program that made it")
    if peak > MAX_PEAK:
        raise InputError(f"{path} has float samples up to {peak:.0f}, expected -1 to 1; divide them by full scale")
    mono = mix.mono(length)
    return np.clip(mono, -1.0, 1.0, out=mono)


def as_pcm(audio: str | os.PathLike[str] | Array) -> Array:
    """Return the sound of a file as `read` does, or 16 kHz mono float32 PCM, (N,), as it is.

    Warns of a file that is silent, as a track is that nobody spoke into; who passes an array has looked at it. Raises
    as `read`, and InputError where PCM is of another kind or has no samples.
    """
    if isinstance(audio, str | os.PathLike):
        pcm = read(audio)
        if float(np.abs(pcm).max()) < SILENT:
            warnings.warn(
                f"{audio} is silent: nothing in it reaches -60 dB, so the lips stay closed; another track?",
                stacklevel=3,
            )
        return pcm
    pcm = check_pcm(audio)
    if not len(pcm):
        raise InputError("pcm: got 0 samples, expected sound")
    return pcm


class _Mix:
    """Blocks of sound added up to one channel at 16 kHz; where a broadcast changes their number, each number by itself.

    How loud each channel is shows at the end alone: until then the average is kept, resampled, which a factor passes
    unchanged. What the file's own rate would take, 345 MB in half an hour at 48 kHz, is never held.
    """

    def __init__(self, alone: dict[int, int]) -> None:
        """`alone` names the one channel that is taken, by how many there are."""
        self.rate = SAMPLE_RATE
        self.held = 0
        """Samples that came, at that rate."""
        self._alone = alone
        self._blocks: list[NDArray[Any]] = []  # a second of them, with as many channels, costs numpy no more than one
        self._gathered = 0  # samples in them
        self._last: tuple[int, Array] | None = None  # how many channels there were, and what is taken of them
        self._resampled = 0  # samples before those
        self._channels: dict[int, _Channels] = {}  # by how many there are

    def add(self, block: NDArray[Any], rate: int) -> None:
        """Take the next block, float32 (N, C), sampled at the rate of those before."""
        self.rate = rate
        if self._blocks and self._blocks[0].shape[1] != block.shape[1]:
            self._take()
        self._blocks.append(block)
        self._gathered += len(block)
        self.held += len(block)
        if self._gathered >= rate:
            self._take()

    def _take(self) -> None:
        """Mix down what was gathered, and resample what had been before."""
        if not self._blocks:
            return
        block = np.concatenate(self._blocks) if len(self._blocks) > 1 else self._blocks[0]
        self._blocks, self._gathered = [], 0
        self._resample()
        count, average = block.shape[1], block.mean(1)
        if count not in self._channels:
            self._channels[count] = _Channels(np.zeros(count), _Resampled(self.rate, self._resampled))
        channels = self._channels[count]
        channels.energy += np.square(block, dtype=np.float64).sum(0)
        channels.average += float(np.square(average, dtype=np.float64).sum())
        taken = np.ascontiguousarray(block[:, self._alone[count]] if count in self._alone else average)
        channels.peak = float(np.maximum(channels.peak, np.abs(taken).max()))
        self._last = count, taken

    def _resample(self) -> None:
        """Resample what was mixed down last; a sound of other channels is silent meanwhile."""
        if self._last is None:
            return
        count, taken = self._last
        self._last = None
        for other, channels in self._channels.items():
            channels.sound.add(taken if other == count else np.zeros_like(taken))
        self._resampled += len(taken)

    def cancelled(self) -> dict[int, int]:
        """Return the loudest channel, by how many there are, where averaging them left next to nothing."""
        self._take()
        return {
            count: int(channels.energy.argmax())
            for count, channels in self._channels.items()
            if channels.average < CANCELLED * float(channels.energy.sum()) / count**2
        }

    def peak(self) -> float:
        """Return how far a sample is from 0 at most, at the file's own rate; NaN where one is."""
        self._take()
        peaks = [self._gain(count) * channels.peak for count, channels in self._channels.items()]
        return float(np.max(peaks, initial=0.0))

    def mono(self, length: int) -> Array:
        """Return the first `length` samples of the whole sound at 16 kHz, (N,); nothing more can be added."""
        self._take()
        surplus = self.held - length
        if self._last is not None and surplus > 0:  # away before the resampler hears it
            count, taken = self._last
            self._last = count, taken[: max(0, len(taken) - surplus)]
        self._resample()
        mono = np.zeros(0, np.float32)
        for count, channels in self._channels.items():
            sound = channels.sound.end()
            sound *= np.float32(self._gain(count))
            mono = np.add(mono, sound, out=mono) if len(mono) else sound
        return mono[: round(length * SAMPLE_RATE / self.rate)] if self._resampled > length else mono

    def _gain(self, count: int) -> float:
        """Return what the mean of the channels is multiplied by.

        Speech in one of six is then as loud as speech in one of one.
        """
        energy = self._channels[count].energy
        whole = float(energy.sum())
        if count in self._alone or not 0 < whole < math.inf:
            return 1.0
        return count * float(energy.max()) / whole


@dataclass
class _Channels:
    """What came in one number of channels."""

    energy: NDArray[np.float64]
    """Of each channel."""
    sound: _Resampled
    """What is taken of them, silent where there are others."""
    average: float = 0.0
    """Energy of their average."""
    peak: float = 0.0
    """Of what is taken; NaN where a sample is."""


class _Resampled:
    """Sound of one channel brought to 16 kHz as it comes, bit for bit as if it had come at once."""

    def __init__(self, rate: int, silent: int) -> None:
        """`silent` samples of silence come first."""
        self._sound = bytearray()  # which grows in place: half an hour is 115 MB, and is never there twice
        self._stream = None
        if rate != SAMPLE_RATE:
            import soxr

            self._stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1)
        for first in range(0, silent, BLOCK):
            self.add(np.zeros(min(BLOCK, silent - first), np.float32))

    def add(self, samples: Array, last: bool = False) -> None:
        self._sound += (samples if self._stream is None else self._stream.resample_chunk(samples, last)).data

    def end(self) -> Array:
        """Return all of it, (N,)."""
        self.add(np.zeros(0, np.float32), last=True)
        return np.frombuffer(self._sound, np.float32)


def _with_soundfile(path: Path, head: bytes, mix: _Mix) -> int | None:
    """Return how many samples `mix` got, or None where libsndfile does not know the format or how long it is."""
    import soundfile

    try:
        file = soundfile.SoundFile(os.fsencode(path) if os.name == "posix" else path)
    except soundfile.LibsndfileError as error:
        if error.code == _MALFORMED and _OPEN_CAF not in head:
            raise _truncated(path) from None
        return None
    except TypeError:  # .raw: libsndfile would want to be told rate and format
        return None
    with file:
        if file.frames >= _UNKNOWN:
            return None
        for promised, held in _SHORT.findall(file.extra_info):
            if int(held) < int(promised) < _OPEN_END:
                raise _truncated(path)
            if file.frames == int(promised) == 0:  # RF64, whose samples FFmpeg does not find either
                raise InputError(f"{path} tells no length, as where it was written to a pipe; write it to a file")
        rate = int(file.samplerate)
        try:
            while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
                mix.add(block, _checked(path, rate))
        except soundfile.LibsndfileError:
            raise _truncated(path) from None
        if mix.held < file.frames:
            raise _truncated(path)
        return mix.held


def _with_av(path: Path, mix: _Mix) -> int:
    """Return how many of the samples that `mix` got are sound; what fills the last packet is not."""
    import av

    try:
        with av.open(plain(path)) as container:
            streams = container.streams.audio
            stream = next((stream for stream in streams if stream.codec_context is not None), None)
            if stream is None:
                if streams:
                    raise InputError(
                        f"{path} has sound that this FFmpeg cannot decode, expected AAC or the like; convert it first"
                    )
                raise InputError(f"{path} has no sound; expected a sound file or a film with a sound track")
            own = (stream.start_time or 0) * (stream.time_base or Fraction(0))
            begin = _first_picture(path, container, own)
            for block in _placed(container, stream, begin):
                mix.add(block.samples, _checked(path, block.rate))
            promised = 0.0
            if _tells_length(path, container.format.name):
                if stream.duration is not None and stream.time_base is not None:
                    promised = float(stream.duration * stream.time_base + own - begin)
                elif container.duration is not None and len(container.streams) == 1:
                    promised = container.duration / av.time_base
    except av.FFmpegError as error:
        raise InputError(f"{path} is no sound that FFmpeg can read ({error.strerror}), or it is damaged") from None
    if mix.held / mix.rate < promised - SLACK:
        raise _truncated(path)
    return max(0, min(mix.held, round(promised * mix.rate))) if promised else mix.held


def _checked(path: Path, rate: int) -> int:
    if rate < MIN_RATE:
        raise InputError(f"{path} is sampled at {rate} Hz, expected at least {MIN_RATE} Hz; record it again")
    return rate


class _Block(NamedTuple):
    samples: Array
    """(N, channels)."""
    rate: int


def _placed(container: Any, stream: Any, begin: Fraction) -> Iterator[_Block]:
    """Yield the sound from the time `begin` on, silence where there is none."""
    longest = JUMP if container.format.flags & TS_DISCONT else LONGEST
    held = 0  # samples
    for block in _floats(container.decode(stream)):
        rate: int = block.sample_rate
        samples: Array = block.to_ndarray().T.astype(np.float32, copy=False)
        # How far its time is from where it would be added.
        time = None if block.pts is None or block.time_base is None else block.pts * block.time_base
        away = 0 if time is None else round((time - begin) * rate) - held
        if away > longest * rate or (held and away < -BACK * rate):  # the clock was set
            begin, away = begin + Fraction(away, rate), 0
        if away > (HOLE if held else START) * rate:
            held += away
            for first in range(0, away, BLOCK):
                yield _Block(np.zeros((min(BLOCK, away - first), samples.shape[1]), np.float32), rate)
        elif not held and away < -START * rate:  # it was heard before the first picture was seen
            samples = samples[-away:]
        if len(samples):
            yield _Block(samples, rate)
            held += len(samples)


def _first_picture(path: Path, container: Any, own: Fraction) -> Fraction:
    """Return the time at which a film shows its first picture, from where its sound is heard; `own` where it has none.

    It may be later than its stream begins, where a broadcast was cut between two key frames.
    """
    if not any(stream.codec_context for stream in picture_streams(container)):
        return own
    try:
        begins = Reader(path).begins
        return own if begins is None else begins
    except InputError:  # its pictures' errors are not those of the sound
        return own


def _floats(frames: Iterable[av.AudioFrame]) -> Iterator[av.AudioFrame]:
    """Yield sound as floats at the rate of its beginning, in the channels that it has: broadcasts change both."""
    import av

    def kind(frame: av.AudioFrame) -> tuple[int, str, str]:
        return frame.sample_rate, frame.format.name, frame.layout.name

    rate = 0
    for (own, *_), stretch in itertools.groupby(frames, kind):
        rate = rate or own
        resampler = av.AudioResampler("fltp", rate=rate)
        for frame in itertools.chain(stretch, [None]):  # None: what it holds back
            yield from resampler.resample(frame)


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
