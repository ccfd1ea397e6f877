"""What a data set holds: who says what with which voice, frame for frame; the first stage, which makes the speech.

A set is made of lanes: one person's training or test frames. A lane takes sentences in a shuffled order, voices in
turn, pauses and now and then complete silence, until its frames are full; the last clip is a piece of a longer one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgetalk.errors import InputError
from edgetalk.files import replacing
from edgetalk.train.amnet.dataset import FPS, SAMPLES, TEST, TRAIN, UNDRAWN, read_plan

from . import sentences, speech
from .announcer import STUDIO, Light
from .identity import CAST, Identity, dressed, random_identity
from .parallel import spread
from .speech import Phone, Speech
from .visemes import SHAPES


@dataclass(frozen=True)
class Kind:
    """What a set has that others have not."""

    frames: int
    """By default."""
    cast: bool = False
    """Whether its persons are the six announcers, all of them in training and test."""
    calm: bool = False
    """Whether heads turn little, as in idle motion."""
    varied: bool = False
    """Whether in training each clip has a voice of its own, and half of them words in an order drawn anew."""
    test_share: float = 3_790 / 23_790
    codec: str = "h264"
    """By default; see dataset.CODECS."""


SETS = {
    "announcers-6": Kind(23_790, cast=True),
    "any": Kind(26_400),
    "wild": Kind(24_000),
    "calm": Kind(6_000, cast=True, calm=True),
    "heard": Kind(240_000, cast=True, varied=True, test_share=0.02, codec=UNDRAWN),
}
SHORTEST = 25
"""No clip is left with fewer frames, if its lane is long enough."""
VISEMES = tuple(SHAPES)
SILENCE = "silence"
RANDOM = "random"
VOICE_NAMES = (*speech.VOICES, SILENCE, RANDOM)
"""Voices by number; "silence" says nothing, "random" are all those that were drawn for one clip."""


class Person(NamedTuple):
    """Someone as they look throughout the set: a source picture of theirs fits every frame of theirs."""

    identity: Identity
    light: Light


@dataclass(frozen=True)
class Lane:
    """One person's frames of one split."""

    person: int
    split: int
    frames: int


@dataclass(frozen=True)
class Plan:
    """Everything that decides what a set holds."""

    name: str
    frames: int
    seed: int

    def persons(self) -> list[Person]:
        """By person number; in "any" the last eleventh is nobody that training sees."""
        if SETS[self.name].cast:
            return [Person(identity, STUDIO) for identity in CAST.values()]
        if self.name == "any":
            return [Person(random_identity(10_000 + i), STUDIO) for i in range(max(self.frames // 44, 11))]
        return [_outdoors(random_identity(50_000 + i // 3), i) for i in range(120)]

    def turn(self, motion_seed: int) -> float:
        """How far the heads of a clip turn, as a factor."""
        return float(np.random.default_rng([motion_seed, 84]).uniform(0.15, 0.6)) if SETS[self.name].calm else 1.0

    def lanes(self) -> list[Lane]:
        """All lanes, training before test; their frames add up to `frames`."""
        count = len(self.persons())
        if self.name == "any":
            unseen = count - count // 11
            lanes = [(i, TRAIN if i < unseen else TEST) for i in range(count)]
            # Every tenth person of the training says something in the test, too: what strangers are compared with.
            lanes += [(i, TEST) for i in range(0, unseen, 10)]
            return [Lane(*lane, n) for lane, n in zip(lanes, _shared(self.frames, len(lanes)), strict=True) if n]
        test = round(self.frames * SETS[self.name].test_share)
        tested = range(0, count, 1 if SETS[self.name].cast else 4)
        lanes = [Lane(i, TRAIN, n) for i, n in enumerate(_shared(self.frames - test, count))]
        lanes += [Lane(i, TEST, n) for i, n in zip(tested, _shared(test, len(tested)), strict=True)]
        return [lane for lane in lanes if lane.frames]


def _outdoors(identity: Identity, seed: int) -> Person:
    """Someone in other clothes, hair, surroundings and light."""
    rng = np.random.default_rng([seed, 82])
    angle, height = rng.uniform(-1.2, 1.2), rng.uniform(0.1, 0.8)
    tint = 1 + rng.uniform(-1, 1) * np.array([0.14, 0, -0.16]) + rng.uniform(-0.12, 0.12)
    light = Light((float(np.sin(angle)), float(height), float(np.cos(angle))), tuple(tint.tolist()))
    return Person(dressed(identity, seed), light)


def _shared(total: int, count: int) -> list[int]:
    return [total * (i + 1) // count - total * i // count for i in range(count)]


def cut(said: Speech, first: int, frames: int) -> Speech:
    """`frames` whole frames of a speech from frame `first` on."""
    start, end = first / FPS, (first + frames) / FPS
    phones = tuple(
        Phone(max(a, start) - start, min(b, end) - start, viseme)
        for a, b, viseme in said.phones
        if b > start and a < end
    )
    return Speech(said.pcm[first * SAMPLES : (first + frames) * SAMPLES], phones)


def _clips(plan: Plan, lane: Lane) -> list[tuple[Speech, int, str, int]]:
    """(speech, sentence number or −1, voice, motion seed) until the lane is full; whole frames each."""
    rng = np.random.default_rng([plan.seed, lane.person, lane.split, 83])
    texts = sentences.held_out() if lane.split == TEST else sentences.training()
    number = {text: i for i, text in enumerate(sentences.sentences())}
    varied = SETS[plan.name].varied and lane.split == TRAIN
    voices = list(speech.TRAINING_VOICES)
    clips: list[tuple[Speech, int, str, int]] = []
    left, turn = lane.frames, int(rng.integers(len(voices)))
    order: list[str] = []
    while left:
        motion_seed = int(rng.integers(1 << 31))
        if lane.split == TRAIN and rng.random() < 0.04:
            said, sentence, name = speech.silence(rng.uniform(2, 3.5)), -1, SILENCE
        else:
            turn += 1
            name = voices[turn % len(voices)]
            if lane.split == TEST and (turn + lane.person) % 4 == 0:
                name = speech.HELD_OUT_VOICES[0]
            voice: str | speech.Voice = name
            if varied:
                name, voice = RANDOM, speech.random_voice(rng)
            pieces = [speech.silence(rng.uniform(0.04, 0.5))]
            for _ in range(2 if rng.random() < 0.25 else 1):
                order = order or [texts[i] for i in rng.permutation(len(texts))]
                text = order.pop()
                if varied and rng.random() < 0.5:
                    text = sentences.scrambled(rng)
                pieces += [speech.synthesize(text, voice), speech.silence(rng.uniform(0.5, 1.5))]
            pieces[-1] = speech.silence(rng.uniform(0.04, 0.6))
            said, sentence = speech.joined(pieces), number.get(text, -1)
        whole = len(said.pcm) // SAMPLES
        frames = min(whole, left)
        if 0 < left - frames < SHORTEST <= left - SHORTEST:
            frames = left - SHORTEST
        first = int(rng.integers(whole - frames + 1))
        clips.append((cut(said, first, frames), sentence, name, motion_seed))
        left -= frames
    return clips


def write_speech(folder: Path, plan: Plan, workers: int) -> None:
    """First stage: folder/speech.npz (its arrays are listed in both dataset.py); goes on where it was."""
    target = folder / "speech.npz"
    if target.exists():
        found = as_plan(read_plan(target))
        if found != plan:
            raise InputError(f"{target}: got {found}, expected {plan}; choose another folder or the same options")
        return
    lanes = plan.lanes()
    shards = folder / f"speech-{plan.name}-{plan.frames}-{plan.seed}.parts"
    shards.mkdir(parents=True, exist_ok=True)
    paths = [shards / f"{i:05d}.npz" for i in range(len(lanes))]

    def make(i: int) -> int:
        clips = _clips(plan, lanes[i])
        phones = [phone for said, *_ in clips for phone in said.phones]
        with replacing(paths[i]) as part, part.open("wb") as file:
            np.savez(
                file,
                pcm=np.concatenate([(said.pcm * 32767).round().astype(np.int16) for said, *_ in clips]),
                samples=np.array([len(said.pcm) for said, *_ in clips], np.int64),
                phones=np.array([len(said.phones) for said, *_ in clips], np.int64),
                phone_times=np.array([phone[:2] for phone in phones], np.float32),
                phone_viseme=np.array([VISEMES.index(phone.viseme) for phone in phones], np.uint8),
                sentence=np.array([sentence for _, sentence, _, _ in clips], np.int32),
                voice=np.array([VOICE_NAMES.index(voice) for _, _, voice, _ in clips], np.uint8),
                motion_seed=np.array([seed for *_, seed in clips], np.int64),
            )
        return lanes[i].frames

    missing = [i for i, path in enumerate(paths) if not path.exists()]
    spread(make, missing, workers, "speech", "frame", sum(lanes[i].frames for i in missing))
    parts = []
    for path in paths:
        with np.load(path) as part:
            parts.append(dict(part))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    clips = [len(part["samples"]) for part in parts]
    for name in ("samples", "phones"):
        joined[f"{name}_bounds"] = np.concatenate([[0], np.cumsum(joined.pop(name))])
    joined["person"] = np.repeat(np.array([lane.person for lane in lanes], np.uint16), clips)
    joined["split"] = np.repeat(np.array([lane.split for lane in lanes], np.uint8), clips)
    with replacing(target) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            plan=json.dumps(
                {
                    "format": 1,
                    "name": plan.name,
                    "frames": plan.frames,
                    "seed": plan.seed,
                    "fps": FPS,
                    "persons": [person.identity.name for person in plan.persons()],
                    "visemes": VISEMES,
                    "voices": VOICE_NAMES,
                    "held_out": speech.HELD_OUT_VOICES,
                }
            ),
            **joined,
        )
    for path in paths:
        path.unlink()
    shards.rmdir()


def as_plan(told: dict[str, Any]) -> Plan:
    """Return the plan of what read_plan has read; InputError where that is of no announcers."""
    if told["name"] not in SETS:
        raise InputError(f"data set: got one called {told['name']!r}, expected announcers; choose another folder")
    return Plan(told["name"], told["frames"], told["seed"])
