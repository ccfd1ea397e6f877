"""Speech with exact phone timing: flite as a program, espeak-ng as a library (espeak.py), both offline.

`synthesize(text, voice)` returns 16 kHz sound and when which viseme is spoken. A voice may play its sound faster or
slower than it was made (`shift`), which gives further speakers; phone times follow. `random_voice` draws one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgetalk.errors import BackendError, InputError

from .visemes import from_arpabet, from_ipa

RATE = 16_000
LOUDNESS = 0.08
"""Root mean square of the spoken parts after levelling."""


class Phone(NamedTuple):
    """One sound, in seconds from the start."""

    start: float
    end: float
    viseme: str


@dataclass(frozen=True)
class Speech:
    """pcm float32 (n,) at 16 kHz in [−1, 1]; phones in order, the first from 0, the last to the end of the sound."""

    pcm: np.ndarray
    phones: tuple[Phone, ...]

    @property
    def seconds(self) -> float:
        return len(self.pcm) / RATE


@dataclass(frozen=True)
class Voice:
    """How a voice is made."""

    sex: str
    """"f", "m", or "" where nobody chose."""
    tool: str
    """"flite" or "espeak"."""
    name: str
    """The tool's own name for it."""
    shift: float = 1.0
    """Played this many times as fast: higher and quicker above 1."""
    pitch: int | None = None
    """espeak-ng: 0–99, 50 by default; flite: mean in Hz, the voice's own by default."""
    rate: int = 160
    """espeak-ng only, words per minute."""
    stretch: float | None = None
    """flite only: how long phones and pauses are, 1.0 to 1.1 by default."""


VOICES: dict[str, Voice] = {
    "slt": Voice("f", "flite", "slt"),
    "rms": Voice("m", "flite", "rms"),
    "kal": Voice("m", "flite", "kal16"),
    "awb": Voice("m", "flite", "awb"),
    "slt-low": Voice("f", "flite", "slt", 0.92),
    "rms-high": Voice("f", "flite", "rms", 1.17),
    "anna": Voice("f", "espeak", "en-us+f2", pitch=55),
    "joan": Voice("f", "espeak", "en-gb-x-rp+f4", pitch=50, rate=150),
    "paul": Voice("m", "espeak", "en-us+m3", pitch=40),
    "iain": Voice("m", "espeak", "en-gb-scotland+m7", pitch=45, rate=150),
}
HELD_OUT_VOICES = ("awb",)
"""Heard in test clips only."""
TRAINING_VOICES = tuple(name for name in VOICES if name not in HELD_OUT_VOICES)

_ACCENTS = ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc", "en-029")
_VARIANTS = tuple(
    "f1 f2 f3 f4 f5 m1 m2 m3 m4 m5 m6 m7 m8 klatt2 klatt3 klatt4 klatt5 croak Alicia Andrea Andy Annie Denis Diogo "
    "Gene Gene2 Henrique Hugo Jacky Lee Mario Michael Mike Nguyen adam anika antonio aunty belinda benjamin boris "
    "caleb david ed edward grandma grandpa gustave iven john kaukovalta linda marcelo max michel miguel pablo paul "
    "pedro quincy rob robert sandro shelby steph travis victor zac".split()
)
"""espeak-ng's speakers that are no robots and do not whisper."""


def random_voice(rng: np.random.Generator) -> Voice:
    """Draw a voice that has not the name of a held-out one: half of them flite's, half espeak-ng's."""
    shift = float(rng.uniform(0.85, 1.2))
    if rng.random() < 0.5:
        name = str(rng.choice(["slt", "rms", "kal16"]))
        pitch = int(rng.uniform(90, 240)) if name != "rms" else None  # which keeps its own
        return Voice("", "flite", name, shift, pitch, stretch=float(rng.uniform(0.8, 1.35)))
    name = f"{rng.choice(_ACCENTS)}+{rng.choice(_VARIANTS)}"
    return Voice("", "espeak", name, shift, int(rng.integers(20, 80)), rate=int(rng.integers(120, 200)))


def silence(seconds: float) -> Speech:
    """Nothing is said."""
    return Speech(np.zeros(int(seconds * RATE), np.float32), (Phone(0, seconds, "sil"),))


def joined(pieces: list[Speech]) -> Speech:
    """One after another."""
    phones, start = [], 0.0
    for piece in pieces:
        phones += [Phone(a + start, b + start, viseme) for a, b, viseme in piece.phones]
        start += piece.seconds
    return Speech(np.concatenate([piece.pcm for piece in pieces]), tuple(phones))


def synthesize(text: str, voice: str | Voice = "slt") -> Speech:
    """Say `text`; InputError for an unknown voice, BackendError if the voice's tool is missing or fails."""
    if isinstance(voice, str) and voice not in VOICES:
        raise InputError(f"voice: got {voice!r}, expected one of {', '.join(VOICES)}")
    kind = VOICES[voice] if isinstance(voice, str) else voice
    pcm, rate, phones = (_flite if kind.tool == "flite" else _espeak)(text, kind)
    pcm = _resampled(pcm, rate * kind.shift)
    end = len(pcm) / RATE
    starts = [min(start / kind.shift, end) for start, _ in phones]
    names = [viseme for _, viseme in phones]
    if not starts or starts[0] > 0:
        starts, names = [0.0, *starts], ["sil", *names]
    timed = tuple(Phone(a, b, v) for a, b, v in zip(starts, [*starts[1:], end], names, strict=True) if b > a)
    return Speech(levelled(pcm), timed)


def levelled(pcm: np.ndarray) -> np.ndarray:
    """Return sound (n,) at the LOUDNESS of its spoken parts, float32; silence stays silence."""
    spoken = np.abs(pcm) > 0.02 * np.abs(pcm).max(initial=1e-9)
    level = np.sqrt(np.mean(pcm[spoken] ** 2)) if spoken.any() else 1.0
    return np.clip(pcm * (LOUDNESS / level), -0.98, 0.98).astype(np.float32)


def _resampled(pcm: np.ndarray, rate: float) -> np.ndarray:
    if round(rate) == RATE:
        return pcm
    import soxr

    return soxr.resample(pcm, rate, RATE)


def _flite(text: str, voice: Voice) -> tuple[np.ndarray, int, list[tuple[float, str]]]:
    """Sound, its rate, and (start, viseme) of each phone; `flite -psdur` prints `name:end` for each."""
    if shutil.which("flite") is None:
        raise BackendError(
            f"voice {voice.name}: the program flite is not installed, expected on PATH; "
            "install the package flite or use an espeak-ng voice"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "speech.raw")
        asked = {"duration_stretch": voice.stretch, "int_f0_target_mean": voice.pitch}
        manner = [word for name, value in asked.items() if value for word in ("--setf", f"{name}={value}")]
        run = subprocess.run(
            ["flite", "-voice", voice.name, *manner, "-psdur", "-t", text, "-o", path],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode or not os.path.exists(path):
            raise BackendError(f"flite: exit status {run.returncode} for {text!r}, expected 0: {run.stderr.strip()}")
        with wave.open(path) as sound:
            rate = sound.getframerate()
            pcm = np.frombuffer(sound.readframes(sound.getnframes()), np.int16).astype(np.float32) / 32768
    phones, start = [], 0.0
    for item in run.stdout.split():
        name, _, end = item.rpartition(":")
        phones.append((start, from_arpabet(name)))
        start = float(end)
    return pcm, rate, phones


def _espeak(text: str, voice: Voice) -> tuple[np.ndarray, int, list[tuple[float, str]]]:
    """Sound, its rate, and (start, viseme) of each phoneme; see espeak.py for why it is a process of its own."""
    run = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            str(Path(__file__).with_name("espeak.py")),
            voice.name,
            str(voice.rate),
            str(50 if voice.pitch is None else voice.pitch),
        ],
        input=text.encode(),
        capture_output=True,
        check=False,
    )
    if run.returncode:
        raise BackendError(" ".join(run.stderr.decode(errors="replace").split()))
    header, _, sound = run.stdout.partition(b"\n")
    about = json.loads(header)
    if not sound:
        raise BackendError(f"libespeak-ng: no sound for {text!r}, expected speech; use a text with words")
    pcm = np.frombuffer(sound, np.int16).astype(np.float32) / 32768
    return pcm, about["rate"], [(start, from_ipa(phone)) for start, phone in about["phones"]]
