"""Drawn people for WavSyncSwap: endless identities, what they say, and clips with the pixel-exact truth of their swap.

`python -m edgetalk.train.swap speech …` synthesises speech once, `… draw` draws from it. Every file has random
numbers of its own, so any process draws the same.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edgetalk.errors import InputError
from edgetalk.files import replacing
from edgetalk.mel import RANGE, log_mel
from edgetalk.train.announcers import motion
from edgetalk.train.announcers.announcer import Announcer
from edgetalk.train.announcers.camera import FACE
from edgetalk.train.announcers.features import Controls
from edgetalk.train.announcers.identity import Identity, dressed, random_identity, swapped
from edgetalk.train.announcers.parallel import spread
from edgetalk.train.announcers.speech import HELD_OUT_VOICES, TRAINING_VOICES, Speech, synthesize
from edgetalk.train.announcers.visemes import SHAPES

from .crops import apply, tracked
from .data import (
    CLIP_FRAMES,
    FIRST,
    FPS,
    LOOKS,
    POSES,
    SIZE,
    SPEC,
    SPOKEN,
    STILLS_PER_JOB,
    Utterance,
    check_spoken,
    read_record,
    read_speech,
)

CALM = 0.75
"""Share of motion.POSE_LIMIT that heads turn here, at most 21° aside: people who are dubbed look at the camera."""
SHARE = 16
"""One in so many sentences in known voices is kept unseen."""

SUBJECTS = """the mayor|our reporter|a young farmer|the old captain|the whole village|my neighbour|the museum|
a small company|the weather service|the northern team|a retired teacher|the city council|every driver|the orchestra|
the baker|a group of pupils|the fire brigade|her brother|the new minister|a famous painter|the harbour|the hospital|
this morning's paper|the last witness|our viewers|the young pianist|the mountain guide|a large ship""".replace(
    "\n", ""
).split("|")
VERBS = """will open|has promised|could not find|wants to move|brought back|bought|is waiting for|has described|
watched|may rebuild|forgot|paid for|washed|has found|should fix|gave away|protects|will show|loves|heard about|
photographed|repaired|is looking for|has sold|keeps|remembers""".replace("\n", "").split("|")
OBJECTS = """a broken fountain|the old bridge|five fishing boats|seventy maps|the blue frog|a cheap watch|
four apple trees|the evening bus|more warm bread|a quiet piece for the violin|the village school|a box of cups|
the river path|three goals|the missing judge|a bowl of fruit|the moon above the bay|every window|a big brown horse|
the first snow|a new power plant|the market hall|both of these photographs|a heavy wooden door|the whole show|
half of the money|a wave of applause|the foggy valley""".replace("\n", "").split("|")
ENDS = """before midnight|on Tuesday|by the end of May|in the park|for the first time|without a word|near the beach|
after a short break|above the clouds|with much joy|this afternoon|in the west|at five o'clock|again and again|
by themselves|for charity|through the fog|every Friday|in front of the church|over the weekend||||""".replace(
    "\n", ""
).split("|")


def sentence(rng: np.random.Generator) -> str:
    """Return a random plain sentence; 28 × 26 × 28 × 24 are possible."""
    words = (rng.choice(part) for part in (SUBJECTS, VERBS, OBJECTS, ENDS))
    text = " ".join(words).strip()
    return text[0].upper() + text[1:] + "."


def write_speech(path: Path, count: int, held_out: int, seed: int = 0) -> None:
    """Synthesise `count` sentences in known voices, each SHARE-th of them unseen, and `held_out` in an unseen one.

    Raises InputError where they are too few for a split to have one, or more than half of all that there are: to find
    the last new ones by chance would have no end.
    """
    if count < SHARE or held_out < 1:
        raise InputError(
            f"sentences: got {count} and {held_out} held out, expected {SHARE} and 1 at least, since one in {SHARE} is "
            "for validation; ask for more with --sentences and --held-out"
        )
    most = math.prod(len(set(part)) for part in (SUBJECTS, VERBS, OBJECTS, ENDS)) // 2
    if count + held_out > most:
        raise InputError(
            f"sentences: got {count} and {held_out} held out, expected {most} in all at most; ask for fewer with "
            "--sentences and --held-out"
        )
    rng = np.random.default_rng([seed, 5])
    texts: dict[str, None] = {}
    while len(texts) < count + held_out:
        texts[sentence(rng)] = None
    mels, phones, samples, splits = [], [], [], []
    for number, text in enumerate(tqdm(texts, desc="speech", unit="sentence")):
        voices = TRAINING_VOICES if number < count else HELD_OUT_VOICES
        speech = synthesize(text, voices[number % len(voices)])
        samples.append(len(speech.pcm))
        splits.append("test" if number >= count else "valid" if number % SHARE == SHARE - 1 else "train")
        mels.append(np.round((log_mel(speech.pcm, SPEC) + RANGE) * (255 / (2 * RANGE))).astype(np.uint8))
        phones.append(np.array([tuple(p) for p in speech.phones], dtype="f4,f4,U4"))
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file, mel=np.concatenate(mels), mel_counts=[len(m) for m in mels], phones=np.concatenate(phones),
            phone_counts=[len(p) for p in phones], samples=samples,
            split=splits,
        )  # fmt: skip


def face_parameters(identity: Identity) -> np.ndarray:
    """Return the 22 numbers that make a face, (22,) float32, each roughly in [-1, 1]."""
    plain = [
        (identity.face_w - 1) / 0.08,
        (identity.jaw_w - 1) / 0.12,
        (identity.chin - 0.03) / 0.05,
        (identity.eye_s - 1) / 0.1,
        (identity.nose_w - 1.05) / 0.2,
        (identity.mouth_w - 1) / 0.1,
        (identity.lip_t - 1.05) / 0.3,
        (identity.brow_t - 1.05) / 0.35,
        identity.brow_y / 0.03,
        identity.eye_dx / 0.02,
        2 * identity.beard - 0.5,
        identity.freckles / 30 - 0.5,
        2 * identity.age - 1,
    ]
    colours = np.concatenate([identity.skin, identity.iris, identity.lip])
    return np.array([*plain, *(4 * colours - 2)], np.float32)


def close_up(identity: Identity, size: int = SIZE) -> Announcer:
    """Someone as the crops of a tracker show them."""
    return Announcer(identity, size, FACE, finer=2)


def moves(said: Speech, seed: int) -> list[Controls]:
    """How somebody moves who says it, for each frame."""
    return [replace(c, pose=CALM * c.pose) for c in motion.controls(said, float(FPS), seed)]


def _moves(spoken: Utterance, seed: int) -> list[Controls]:
    silent = np.zeros(spoken.samples, np.float32)  # motion takes phones and length, not the sound itself
    return moves(Speech(silent, spoken.phones), seed)


def _draw_stills(number: int, split: str) -> dict[str, np.ndarray]:
    """Stills of STILLS_PER_JOB persons, each face in LOOKS other people's hair and clothes."""
    pictures, persons, parameters = [], [], []
    for k in range(STILLS_PER_JOB):
        person = number * STILLS_PER_JOB + k + FIRST[split]
        rng = np.random.default_rng([person, 91])
        identity = random_identity(person)
        for _ in range(LOOKS):
            other = dressed(random_identity(2_000_000 + int(rng.integers(1 << 30))), int(rng.integers(1 << 30)))
            announcer = close_up(swapped(identity, other))
            for _ in range(POSES):
                shape = SHAPES[rng.choice(list(SHAPES))] * rng.uniform(0.2, 1)
                pose = rng.normal(0, 1, 3) * (0.16, 0.09, 0.06)
                blink = np.full(2, float(rng.random() < 0.06))
                controls = Controls(shape, pose, blink)
                pictures.append(announcer.draw(controls, tracked(announcer.landmarks(controls)[None], rng)[0]))
                persons.append(person)
                parameters.append(face_parameters(identity))
    return {"frames": np.stack(pictures), "person": np.array(persons), "parameters": np.stack(parameters)}


def _long_enough(speech: list[Utterance], split: str) -> list[int]:
    """Return which sentences of a split fill a clip."""
    return [i for i, u in enumerate(speech) if u.split == split and u.samples >= CLIP_FRAMES * 640]


def _draw_clip(number: int, split: str, speech: list[Utterance], people: int) -> dict[str, np.ndarray]:
    """One clip: the target, the source's face on it, and (test only) that with another sentence's mouth."""
    rng = np.random.default_rng([number, FIRST[split], 92])
    spoken = _long_enough(speech, split)
    if split != "train":  # every clip has its own sentences and its own two persons
        apart = min(len(spoken) // 2 + 1, len(spoken) - 1)  # of two the other one; one alone is for "valid" enough
        said, other = spoken[number % len(spoken)], spoken[(number + apart) % len(spoken)]
        target, source = FIRST[split] + 2 * number % people, FIRST[split] + (2 * number + 1) % people
    else:
        said, other = (int(i) for i in rng.choice(spoken, 2, replace=False))
        target, source = (int(i) for i in rng.choice(people, 2, replace=False))
    seed = int(rng.integers(1 << 30))
    whole = _moves(speech[said], seed)
    first = int(rng.integers(len(whole) - CLIP_FRAMES + 1)) if len(whole) > CLIP_FRAMES else 0
    shown = whole[first : first + CLIP_FRAMES]
    worn = dressed(random_identity(target), int(rng.integers(1 << 30)))
    own, swap = close_up(worn), close_up(swapped(random_identity(source), worn))
    marks = np.stack([own.landmarks(c) for c in shown])
    views = tracked(marks, rng)  # of the target's face, whoever is drawn in its place
    out = {
        "own": np.stack([own.draw(c, v) for c, v in zip(shown, views, strict=True)]),
        "swap": np.stack([swap.draw(c, v) for c, v in zip(shown, views, strict=True)]),
        "pose": np.stack([c.pose for c in shown]).astype(np.float32),
        "blink": np.stack([c.blink for c in shown]).astype(np.float32),
        "mouth": np.stack([c.mouth for c in shown]).astype(np.float32),
        "meta": np.array([target, source, said, first, other]),
    }  # fmt: skip
    labelled = range(CLIP_FRAMES) if split == "test" else range(number % 5, CLIP_FRAMES, 5)
    out["labelled"] = np.array(labelled)
    label = lambda shown, i: apply(views[i], swap.landmarks(shown[i])).astype(np.float32)  # noqa: E731
    out["own_landmarks"] = np.stack([apply(views[i], marks[i]).astype(np.float32) for i in labelled])
    out["swap_landmarks"] = np.stack([label(shown, i) for i in labelled])
    if split == "test":
        mouths = _moves(speech[other], seed)[:CLIP_FRAMES]
        mixed = [replace(c, mouth=m.mouth) for c, m in zip(shown, mouths, strict=True)]
        out["other"] = np.stack([swap.draw(c, v) for c, v in zip(mixed, views, strict=True)])
        out["other_landmarks"] = np.stack([label(mixed, i) for i in labelled])
    return out


def draw(
    folder: Path,
    speech_file: Path,
    seconds: float,
    people: int,
    test_clips: int,
    valid_clips: int,
    clips: int,
    workers: int,
    nice: int = 10,
) -> None:
    """Draw into `folder` for at most `seconds`: stills of all persons, test clips, then up to `clips` for training.

    A test clip has two persons of its own. Files that are there already are kept, so the same call goes on. At
    niceness `nice` training that shares the machine goes first. Raises InputError where a split has too few
    sentences and where the folder holds films or was begun with another file of speech, EdgetalkError where a drawing
    process failed.
    """
    until = time.time() + seconds
    speech = read_speech(speech_file)
    if read_record(folder) is not None:
        raise InputError(f"{folder}: holds filmed people, expected a folder for drawn ones; take another one")
    spoken = check_spoken(folder, speech_file)
    for split, wanted, least in (("train", clips, 2), ("valid", valid_clips, 1), ("test", test_clips, 2)):
        if wanted and (found := len(_long_enough(speech, split))) < least:
            raise InputError(
                f"{speech_file}: got {found} sentences of {split!r} of {CLIP_FRAMES / FPS} s or more, "
                f"expected {least}; write it with more --sentences or --held-out"
            )
    folder.mkdir(parents=True, exist_ok=True)
    somebody = close_up(random_identity(0))  # compiles the rasteriser once, before the workers are forked
    somebody.draw(Controls())
    somebody.landmarks(Controls())
    jobs = [("still", n, "train") for n in range(-(-people // STILLS_PER_JOB))]
    early = min(clips, people // 5)  # so that no trainer waits for the tests
    for split, held_out in (("valid", valid_clips), ("test", test_clips)):
        jobs += [("still", n, split) for n in range(-(-2 * held_out // STILLS_PER_JOB))]
    jobs += [("clip", n, "train") for n in range(early)]
    jobs += [("clip", n, "test") for n in range(test_clips)] + [("clip", n, "valid") for n in range(valid_clips)]
    jobs += [("clip", n, "train") for n in range(early, clips)]
    counts = {"train": people, "valid": 2 * valid_clips, "test": 2 * test_clips}

    def path(kind: str, number: int, split: str) -> Path:
        return folder / f"{split}-{kind}-{number:05d}.npz"

    def work(i: int) -> int:
        if time.time() > until:
            return 0
        os.nice(max(0, nice - os.nice(0)))
        kind, number, split = jobs[i]
        if kind == "still":
            made = _draw_stills(number, split)
        else:
            made = _draw_clip(number, split, speech, counts[split]) | {SPOKEN: spoken}
        with replacing(path(kind, number, split)) as part, part.open("wb") as file:
            np.savez(file, **made)
        return 1

    missing = [i for i, job in enumerate(jobs) if not path(*job).exists()]
    spread(work, missing, workers, "drawn", "file", len(missing))
