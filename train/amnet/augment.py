"""What training does to clean speech so that real voices, rooms and microphones work.

Each clip is heard in several versions, drawn once: other pitch and vocal tract, livelier stress, tilted spectrum, room,
noise, level.
Timing never changes, so the labels of the frames hold. No torch here: data.py makes the versions of several clips in
threads.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgetalk.mel import log_mel
from edgetalk.metadata import AudioSpec

Array = NDArray[np.float32]


def degrade(pcm: Array, rng: np.random.Generator, rate: int = 16000) -> Array:
    """Return (N,) PCM with random stress, tilt, room, noise and level; each in a quarter to all of the draws."""
    n = len(pcm)
    dry = pcm.astype(np.float64)
    if rng.random() < 0.5:  # people are louder at one word and softer at the next; synthetic voices hardly are
        knots = 2 + int(n / rate / rng.uniform(0.2, 0.8))
        decibels = np.interp(np.linspace(0, knots - 1, n), np.arange(knots), rng.normal(0, 4, knots))
        dry *= 10 ** (decibels / 20)
    spectrum = np.fft.rfft(dry, 2 * n)
    hz = np.fft.rfftfreq(2 * n, 1 / rate)
    tilt = rng.uniform(-4, 4) * np.log2(np.maximum(hz, 60) / 1000)  # dB per octave about 1 kHz
    spectrum *= 10 ** (np.clip(tilt, -18, 12) / 20)
    if rng.random() < 0.25:  # a narrow band, as of a telephone or a small loudspeaker
        low, high = rng.uniform(80, 350), rng.uniform(3000, 7000)
        spectrum *= 1 / (1 + (low / np.maximum(hz, 1)) ** 6) / (1 + (hz / high) ** 8)
    if rng.random() < 0.5:  # a room: direct sound and an exponential tail of noise
        decay = rng.uniform(0.05, 0.4)
        t = np.arange(int(rate * decay)) / rate
        tail = rng.normal(size=len(t)) * np.exp(-6.9 * t / decay)
        tail *= 10 ** (rng.uniform(-18, -3) / 20) / (np.linalg.norm(tail) + 1e-9)
        tail[0] += 1
        spectrum *= np.fft.rfft(tail, 2 * n) if len(tail) <= n else 1
    out = np.fft.irfft(spectrum, 2 * n)[:n]
    level = np.sqrt(np.mean(out**2)) + 1e-9
    if rng.random() < 0.75:  # white to brown noise
        colour = np.fft.rfft(rng.normal(size=n)) / np.maximum(np.fft.rfftfreq(n, 1 / rate), 50) ** rng.uniform(0, 1)
        noise = np.fft.irfft(colour, n)
        speech = max(level, 0.02)  # silent clips get noise too: silence is not always digital
        out += noise / (np.std(noise) + 1e-9) * speech * 10 ** (-rng.uniform(10, 45) / 20)
    gain = 10 ** (rng.uniform(-14, 6) / 20)
    return np.clip(out * gain, -1, 1).astype(np.float32)


def shifted_mel(pcm: Array, spec: AudioSpec, hop: int) -> Array:
    """Return the log-mel of a voice of another pitch and vocal tract: (len(pcm) // spec.hop + 1, n_mels).

    The sound is played spec.hop / hop times as fast and analysed at `hop`, so that frame j still belongs to sample
    j * spec.hop of `pcm`.
    """
    frames = len(pcm) // spec.hop + 1
    n = (frames - 1) * hop
    played = np.interp(np.arange(n) * (spec.hop / hop), np.arange(len(pcm)), pcm).astype(np.float32)
    return log_mel(played, replace(spec, hop=hop))[:frames]


def mel_versions(pcm: Array, spec: AudioSpec, versions: int, seed: int) -> Array:
    """Return (versions, frames, n_mels) float16 log-mel of a clip: the clean one first, then random ones."""
    rng = np.random.default_rng(seed)
    tracks = [log_mel(pcm, spec)]
    for _ in range(versions - 1):
        hop = int(rng.integers(round(spec.hop * 0.82), round(spec.hop * 1.22))) if rng.random() < 0.7 else spec.hop
        tracks.append(shifted_mel(degrade(pcm, rng, spec.sample_rate), spec, hop))
    return np.stack(tracks).astype(np.float16)
