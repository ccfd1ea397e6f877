"""Samples of what a network is fed with, for calibrating and judging int8 engines (edgetalk build --calibration).

Announcers' voices say sentences, their heads move, and one frame of each sentence is kept; the source pictures are
those in the checkpoint. Every fifth sample, which judges the engine and is not calibrated on, says a sentence and
moves in a way that training has not had. Nothing is drawn, so this takes seconds.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from edgetalk.errors import InputError
from edgetalk.files import replacing
from edgetalk.mel import log_mel, windows
from edgetalk.metadata import AudioSpec
from edgetalk.npz import HELD_OUT
from edgetalk.train.announcers import motion, sentences, speech
from edgetalk.train.announcers.identity import CAST
from edgetalk.train.announcers.plan import FPS
from edgetalk.train.networks.checkpoint import load_checkpoint


def write(checkpoint: Path, out: Path, count: int = 60, seed: int = 0) -> None:
    """Write `count` samples for AMNet as .npz: mel float16, pose and blink float32, and the persons' `source`.

    `count` is a multiple of the persons in the checkpoint; sample i has the person i mod their number. Of five persons,
    or a multiple of them, each round begins one person later, or every fifth sample, which judges, would show the
    same. Raises FileNotFoundError, ModelError where the checkpoint is none, InputError, and BackendError without flite.
    """
    if seed < 0:
        raise InputError(f"seed: got {seed}, expected 0 or more; change --seed")
    read = load_checkpoint(checkpoint)
    if not read.sources:
        raise InputError(f"{checkpoint.name} has no pictures of its persons to calibrate with; train it anew")
    if count < HELD_OUT or count % len(read.sources):
        raise InputError(
            f"samples: got {count}, expected a multiple of its {len(read.sources)} persons, at least {HELD_OUT}"
        )
    persons = list(read.sources)
    late = len(persons) % HELD_OUT == 0
    order = [persons[(i + late * (i // len(persons))) % len(persons)] for i in range(count)]
    drive = [sample(i, person, read.audio, seed) for i, person in enumerate(order)]
    mel, pose, blink = (np.stack(values) for values in zip(*drive, strict=True))
    with replacing(out) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            source=np.stack([read.sources[person].numpy() for person in (order if late else persons)]),
            mel=mel.astype(np.float16),
            pose=pose.astype(np.float32),
            blink=blink.astype(np.float32),
        )


def sample(number: int, person: str, audio: AudioSpec, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mel window (T, F), pose (3,) and blink (2,) of one frame of a sentence."""
    rng = np.random.default_rng([seed, number, 17])
    texts = sentences.training() if number % HELD_OUT else sentences.held_out()
    sex = CAST[person].sex if person in CAST else None
    voices = [  # espeak-ng's noise depends on what it has said before
        name
        for name in speech.TRAINING_VOICES
        if speech.VOICES[name].tool == "flite" and sex in (None, speech.VOICES[name].sex)
    ]
    said = speech.synthesize(texts[rng.integers(len(texts))], voices[rng.integers(len(voices))])
    moves = motion.controls(said, FPS, seed=int(rng.integers(2**31)))
    frame = int(rng.integers(len(moves)))
    heard = windows(log_mel(said.pcm, audio), len(moves), audio, Fraction(FPS))[frame]
    return heard, moves[frame].pose, moves[frame].blink
