"""Samples of what WavSyncSwap is fed with, for calibrating and judging int8 engines (edgetalk build --calibration).

Each sample is drawn as training's are: a person in clothes of his own turns and speaks, seen as a tracker sees him; the
reference is another moment of the same, the identity that of somebody else's still, the sound another sentence. Every
fifth sample, which judges the engine and is not calibrated on, has people whom training never meets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgetalk.errors import InputError
from edgetalk.files import replacing
from edgetalk.mel import log_mel, windows
from edgetalk.npz import HELD_OUT
from edgetalk.train.announcers import speech
from edgetalk.train.announcers.features import Controls
from edgetalk.train.announcers.identity import dressed, random_identity
from edgetalk.train.networks import store

from .crops import tracked
from .data import CLIP_FRAMES, FIRST, FPS, SPEC
from .drawn import close_up, moves, sentence

APART = 8  # frames between a frame and its reference, at least


def write(checkpoint: Path, out: Path, count: int = 60, seed: int = 0, extractor: Path | None = None) -> None:
    """Write `count` samples as .npz: `target` and `reference` uint8, `identity` float32, `mel` float16.

    `extractor` is the identity extractor that the checkpoint was trained with (default: what lies beside it). Raises
    FileNotFoundError, ModelError where a file is none, InputError, and BackendError without flite.
    """
    import torch

    from .judging import embed

    if count < HELD_OUT:
        raise InputError(f"samples: got {count}, expected at least {HELD_OUT}")
    if seed < 0:
        raise InputError(f"seed: got {seed}, expected 0 or more; change --seed")
    network, _ = store.load(store.existing(checkpoint), "wavsyncswap")
    found, _ = store.load(store.extractor(checkpoint, extractor), "arcface")
    drawn = [sample(i, network.config.size, seed) for i in range(count)]
    target, reference, portrait, mel = (np.stack(values) for values in zip(*drawn, strict=True))
    with torch.inference_mode():
        identity = embed(found, torch.from_numpy(portrait)).numpy()
    with replacing(out) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            target=target,
            reference=reference,
            identity=(identity / np.linalg.norm(identity, axis=1, keepdims=True)).astype(np.float32),
            mel=mel.astype(np.float16),
        )


def sample(number: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return target and reference uint8 (size, size, 3), a portrait uint8 (96, 96, 3), and mel (16, 80)."""
    rng = np.random.default_rng([seed, number, 23])
    first = FIRST["train"] if number % HELD_OUT else FIRST["test"]
    target, source = (dressed(random_identity(first + int(p)), int(rng.integers(1 << 30)))
                      for p in rng.choice(100_000, 2, replace=False))  # fmt: skip
    voices = [name for name in speech.TRAINING_VOICES if speech.VOICES[name].tool == "flite"]
    said, heard = (speech.synthesize(sentence(rng), voices[rng.integers(len(voices))]) for _ in range(2))
    motion = moves(said, seed=int(rng.integers(1 << 30)))[:CLIP_FRAMES]
    shown = close_up(target, size)
    views = tracked(np.stack([shown.landmarks(c) for c in motion]), rng)
    at = int(rng.integers(len(motion)))
    other = (at + int(rng.integers(APART, max(APART + 1, len(motion) - APART)))) % len(motion)
    pictures = [shown.draw(motion[i], views[i]) for i in (at, other)]
    sitter, still = close_up(source), Controls()
    portrait = sitter.draw(still, tracked(sitter.landmarks(still)[None], rng)[0])
    count = max(1, int(len(heard.pcm) * FPS / speech.RATE))
    window = windows(log_mel(heard.pcm, SPEC), count, SPEC, FPS)[int(rng.integers(count))]
    return pictures[0], pictures[1], portrait, window
