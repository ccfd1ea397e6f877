"""The audio front end: log-mel and MFCC frames in numpy, whole or streaming, and the window of each video frame.

Frame j is centred on sample j * hop; the sound is taken to be zero before its start and after its end. Log-mel
values are decibels scaled to [-4, 4] as Wav2Lip does, MFCCs (with Δ and ΔΔ) are those of the released AMNet.
Reading and resampling of files is in audio.py.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .arrays import Array
from .errors import InputError
from .metadata import AudioSpec

REFERENCE_DB = 20.0  # subtracted from the level, as in Wav2Lip's front end
FLOOR_DB = -100.0  # what counts as silence
RANGE = 4.0  # values lie in [-RANGE, RANGE]
BLOCK = 1024  # analysis windows at once: half an hour's spectra would be gigabytes


def _mel_of_hz(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's scale: linear below 1 kHz, logarithmic above."""
    return np.where(hz < 1000.0, hz * 3.0 / 200.0, 15.0 + 27.0 * np.log(np.maximum(hz, 1000.0) / 1000.0) / np.log(6.4))


def _hz_of_mel(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * np.exp(np.log(6.4) * (mel - 15.0) / 27.0))


@lru_cache(maxsize=8)
def filterbank(spec: AudioSpec) -> NDArray[np.float64]:
    """Return the triangular mel filters, (n_fft // 2 + 1, n_mels), each of unit area (Slaney's normalisation)."""
    low, high = _mel_of_hz(np.array([spec.fmin, spec.fmax]))
    edges = _hz_of_mel(np.linspace(low, high, spec.n_mels + 2))
    bins = np.fft.rfftfreq(spec.n_fft, 1.0 / spec.sample_rate)[:, None]
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rise, fall)) * (2.0 / (edges[2:] - edges[:-2]))


@lru_cache(maxsize=8)
def _hann(n: int) -> NDArray[np.float64]:
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n) / n)


def _bands(samples: NDArray[np.float64], spec: AudioSpec, power: int = 1) -> NDArray[np.float64]:
    """Return what passes each filter in every whole analysis window of `samples`, (frames, n_mels).

    That is the sum of the spectrum's magnitudes to that `power`.
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, spec.n_fft)[:: spec.hop]
    passed = np.empty((len(frames), spec.n_mels))
    for i in range(0, len(frames), BLOCK):
        magnitudes = np.abs(np.fft.rfft(frames[i : i + BLOCK] * _hann(spec.n_fft)))
        passed[i : i + BLOCK] = magnitudes**power @ filterbank(spec)
    return passed


def _scaled(bands: NDArray[np.float64]) -> Array:
    level = 20.0 * np.log10(np.maximum(1e-5, bands)) - REFERENCE_DB
    return np.clip(2 * RANGE * (level - FLOOR_DB) / -FLOOR_DB - RANGE, -RANGE, RANGE).astype(np.float32)


def _emphasised(pcm: Array, before: float, spec: AudioSpec) -> NDArray[np.float64]:
    samples = np.concatenate([[before], pcm]).astype(np.float64)
    return samples[1:] - spec.preemphasis * samples[:-1]


def log_mel(pcm: Array, spec: AudioSpec) -> Array:
    """Return the frames of a whole sound, (N // hop + 1, F) float32, from (N,) float32 PCM at spec.sample_rate.

    F is n_mels for log-mel and 3 * n_mfcc for MFCC.
    """
    if spec.kind == "mfcc":
        return _mfcc(pcm, spec)
    margin = np.zeros(spec.n_fft // 2)
    return _scaled(_bands(np.concatenate([margin, _emphasised(pcm, 0.0, spec), margin]), spec))


def _mfcc(pcm: Array, spec: AudioSpec) -> Array:
    """Cepstra as librosa.feature.mfcc gives them, with Δ and ΔΔ as the released AMNet was trained with.

    Its authors took the differences along the coefficients, not along time, and a network knows what it was trained
    with. The level is limited to 80 dB below the loudest band of the whole sound, so there is no streaming form.
    """
    margin = np.zeros(spec.n_fft // 2)
    power = _bands(np.concatenate([margin, pcm.astype(np.float64), margin]), spec, 2)
    level = 10.0 * np.log10(np.maximum(1e-10, power))
    level = np.maximum(level, level.max() - 80.0)
    k, n = np.arange(spec.n_mfcc)[:, None], np.arange(spec.n_mels)
    cosines = np.cos(np.pi * k * (2 * n + 1) / (2 * spec.n_mels)) * np.sqrt(2.0 / spec.n_mels)
    cosines[0] /= np.sqrt(2.0)
    cepstra = level @ cosines.T
    slopes = _difference(cepstra)
    return np.concatenate([cepstra, slopes, _difference(slopes)], 1).astype(np.float32)


def _difference(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The slope of each row of (M, K) over five neighbours; the first and the last value are repeated beyond it."""
    count = values.shape[1]
    padded = np.pad(values, ((0, 0), (2, 2)), "edge")
    slope: NDArray[np.float64] = sum((n * padded[:, 2 + n : 2 + n + count] for n in (-1, 1, 2)), -2 * padded[:, :count])
    return slope / 10.0


@lru_cache(maxsize=8)
def silence(spec: AudioSpec) -> Array:
    """Return the frame of digital silence, (F,) float32, read-only: what lies before and after a sound."""
    frame: Array = log_mel(np.zeros(spec.n_fft, np.float32), spec)[0]
    frame.flags.writeable = False  # all callers get this one
    return frame


class MelStream:
    """Log-mel frames of a sound that arrives in chunks of any size; equal to log_mel of the whole.

    >>> stream = MelStream(spec); frames = [stream.push(chunk) for chunk in chunks] + [stream.flush()]
    """

    def __init__(self, spec: AudioSpec) -> None:
        if spec.kind != "logmel":
            raise InputError(
                f"audio front end {spec.kind!r} needs the whole sound (its level is relative to the loudest "
                "moment); use talk instead of stream"
            )
        self._spec = spec
        self.reset()

    def reset(self) -> None:
        """Forget the sound; the next push starts a new one."""
        self._samples = np.zeros(self._spec.n_fft // 2)
        self._last = 0.0
        self._count = 0  # samples pushed
        self._frames = 0  # frames given

    def push(self, pcm: Array) -> Array:
        """Take (N,) float32 PCM, N >= 0, and return the frames that it completes, (M, F) float32."""
        if len(pcm):
            self._samples = np.concatenate([self._samples, _emphasised(pcm, self._last, self._spec)])
            self._last = float(pcm[-1])
            self._count += len(pcm)
        return self._complete()

    def flush(self) -> Array:
        """Return the frames that were waiting for sound after the end, (M, F) float32, and start anew."""
        total = self._count // self._spec.hop + 1
        self._samples = np.concatenate([self._samples, np.zeros(self._spec.n_fft // 2)])
        frames = self._complete()
        frames = frames[: len(frames) - max(0, self._frames - total)]
        self.reset()
        return frames

    def _complete(self) -> Array:
        spec = self._spec
        ready = max(0, (len(self._samples) - spec.n_fft) // spec.hop + 1)
        if not ready:
            return np.empty((0, spec.n_mels), np.float32)
        frames = _scaled(_bands(self._samples[: (ready - 1) * spec.hop + spec.n_fft], spec))
        self._samples = self._samples[ready * spec.hop :]
        self._frames += ready
        return frames


def pace(spec: AudioSpec, fps: Fraction) -> tuple[Fraction, Fraction]:
    """Return the mel frames from one video frame to the next, and where in mel frames the first one's window starts."""
    return Fraction(spec.sample_rate, spec.hop) / fps, Fraction(str(spec.offset))


def window_starts(n: int, spec: AudioSpec, fps: Fraction, first: int = 0) -> NDArray[np.int64]:
    """Return the mel frame at which the window of each of the video frames first … first + n - 1 starts, (n,) int64.

    It may be negative: frames before the sound are those of silence.
    """
    step, offset = pace(spec, fps)
    return np.array([(i * step + offset).__floor__() for i in range(first, first + n)], np.int64)


def windows(mel: Array, n: int, spec: AudioSpec, fps: Fraction, first: int = 0) -> Array:
    """Return the windows of n video frames from `first` on, (n, T, F) float32, from all frames of a sound, (M, F)."""
    index = window_starts(n, spec, fps, first)[:, None] + np.arange(spec.window) + 1
    padded = np.concatenate([silence(spec)[None], mel, silence(spec)[None]])
    cut: Array = padded[np.clip(index, 0, len(mel) + 1)]
    return cut
