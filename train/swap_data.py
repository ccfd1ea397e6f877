"""Data for WavSyncSwap: endless drawn identities, spoken clips with their pixel-exact swap truth, and stills.

`python -m edgetalk.train.swap_data speech -o speech.npz` synthesises speech once (mel and phones, no sound: a few MB);
`python -m edgetalk.train.swap_data draw --speech speech.npz -o DIR --seconds 120` draws from it on any machine with
numba. Drawing stops at its time limit: stills and test clips come first, training clips go on until the end.
`Swaps` keeps a folder of them on a device. The same motion drawn under the source's face is the truth of a swap, which
no filmed data has: `python -m edgetalk.train.swap_data filmed FILM_OR_FOLDER … -o DIR` cuts the same files without it
out of films (swap_films.py). `python -m edgetalk.train.swap_data scene -o DIR` draws a film to dub (swap_scene.py).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from edgetalk.consent import ALLOWED
from edgetalk.errors import BackendError, InputError, word
from edgetalk.files import replacing
from edgetalk.mel import RANGE, windows
from edgetalk.metadata import AudioSpec

from . import program
from .crops import apply, tracked

SIZE = 96
FPS = Fraction(25)
FRAMES = 50  # frames per clip: two seconds
CALM = 0.75
"""Share of motion.POSE_LIMIT that heads turn here, at most 21° aside: people who are dubbed look at the camera."""
SPEC = AudioSpec(window=16, offset=-6.4)
"""What the generator hears: 200 ms about the frame's middle."""
SYNC_SPEC = AudioSpec(window=16, offset=0.0)
"""What the lip-sync expert hears: the 200 ms that begin with the first of five frames."""

LOOKS, POSES = 3, 4  # stills of a person: outfits, and pictures in each
FIRST = {"train": 0, "valid": 500_000, "test": 1_000_000}
"""Seeds of persons from here on: those of "valid" and "test" are never trained on. The sentences of "valid" are unseen
and in known voices, those of "test" are unseen and in an unseen voice."""
STILLS_PER_JOB = 8
SHARE = 16
"""One in so many sentences in known voices is kept unseen."""
RECORD = "films.json"
"""What a whole set of filmed people has beside its clips: who is in it, and how it was divided."""


@dataclass(frozen=True)
class Utterance:
    """A spoken sentence as far as drawing and listening need it."""

    mel: np.ndarray
    """(M, 80) uint8, log-mel in [-4, 4] as 0–255."""
    phones: tuple[tuple[float, float, str], ...]
    """Start and end in seconds, viseme."""
    samples: int
    """Length at 16 kHz."""
    split: str
    """A key of FIRST."""

    def heard(self, spec: AudioSpec, frames: int) -> np.ndarray:
        """Return the mel windows of the first `frames` video frames, (frames, 16, 80) float32."""
        return windows(self.mel.astype(np.float32) * (2 * RANGE / 255) - RANGE, frames, spec, FPS)


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

    Raises InputError where they are too few for a split to have one.
    """
    if count < SHARE or held_out < 1:
        raise InputError(
            f"sentences: got {count} and {held_out} held out, expected {SHARE} and 1 at least, since one in {SHARE} is "
            "for validation; ask for more with --sentences and --held-out"
        )
    from tqdm import tqdm

    from edgetalk.mel import log_mel

    from .announcers.speech import HELD_OUT_VOICES, TRAINING_VOICES, synthesize

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


def read_speech(path: Path) -> list[Utterance]:
    """Return what write_speech wrote. Raises InputError where the file holds something else."""
    try:
        with np.load(path) as file:
            mels = np.split(file["mel"], np.cumsum(file["mel_counts"])[:-1])
            phones = np.split(file["phones"], np.cumsum(file["phone_counts"])[:-1])
            return [
                Utterance(mel, tuple((float(a), float(b), str(v)) for a, b, v in spoken), int(n), str(split))
                for mel, spoken, n, split in zip(mels, phones, file["samples"], file["split"], strict=True)
            ]
    except (KeyError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(
            f"{path} is no speech for swaps ({error}); write it with: "
            "python -m edgetalk.train.swap_data speech -o speech.npz"
        ) from error


# Drawing. A job is (kind, number); its random numbers are derived from both, so any worker draws the same.


def face_parameters(identity) -> np.ndarray:
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


def _announcer(identity):
    from .announcers.announcer import Announcer
    from .announcers.camera import FACE

    return Announcer(identity, SIZE, FACE, finer=2)


def _motion(utterance: Utterance, seed: int):
    from .announcers.motion import controls
    from .announcers.speech import Speech

    silent = np.zeros(utterance.samples, np.float32)  # motion takes phones and length, not the sound itself
    moves = controls(Speech(silent, utterance.phones), float(FPS), seed)
    return [replace(c, pose=CALM * c.pose) for c in moves]


def _draw_stills(number: int, split: str) -> dict[str, np.ndarray]:
    """Stills of STILLS_PER_JOB persons, each face in LOOKS other people's hair and clothes."""
    from .announcers.features import Controls
    from .announcers.identity import dressed, random_identity, swapped
    from .announcers.visemes import SHAPES

    pictures, persons, parameters = [], [], []
    for k in range(STILLS_PER_JOB):
        person = number * STILLS_PER_JOB + k + FIRST[split]
        rng = np.random.default_rng([person, 91])
        identity = random_identity(person)
        for _ in range(LOOKS):
            other = dressed(random_identity(2_000_000 + int(rng.integers(1 << 30))), int(rng.integers(1 << 30)))
            announcer = _announcer(swapped(identity, other))
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
    return [i for i, u in enumerate(speech) if u.split == split and u.samples >= FRAMES * 640]


def _draw_clip(number: int, split: str, speech: list[Utterance], people: int) -> dict[str, np.ndarray]:
    """One clip: the target, the source's face on it, and (test only) that with another sentence's mouth."""
    from .announcers.identity import dressed, random_identity, swapped

    rng = np.random.default_rng([number, FIRST[split], 92])
    spoken = _long_enough(speech, split)
    if split != "train":  # every clip has its own sentences and its own two persons
        said, other = spoken[number % len(spoken)], spoken[(number + len(spoken) // 2 + 1) % len(spoken)]
        target, source = FIRST[split] + 2 * number % people, FIRST[split] + (2 * number + 1) % people
    else:
        said, other = (int(i) for i in rng.choice(spoken, 2, replace=False))
        target, source = (int(i) for i in rng.choice(people, 2, replace=False))
    seed = int(rng.integers(1 << 30))
    motion = _motion(speech[said], seed)
    first = int(rng.integers(len(motion) - FRAMES + 1)) if len(motion) > FRAMES else 0
    shown = motion[first : first + FRAMES]
    worn = dressed(random_identity(target), int(rng.integers(1 << 30)))
    own, swap = _announcer(worn), _announcer(swapped(random_identity(source), worn))
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
    labelled = range(FRAMES) if split == "test" else range(number % 5, FRAMES, 5)
    out["labelled"] = np.array(labelled)
    label = lambda shown, i: apply(views[i], swap.landmarks(shown[i])).astype(np.float32)  # noqa: E731
    out["own_landmarks"] = np.stack([apply(views[i], marks[i]).astype(np.float32) for i in labelled])
    out["swap_landmarks"] = np.stack([label(shown, i) for i in labelled])
    if split == "test":
        mouths = _motion(speech[other], seed)[:FRAMES]
        mixed = [replace(c, mouth=m.mouth) for c, m in zip(shown, mouths, strict=True)]
        out["other"] = np.stack([swap.draw(c, v) for c, v in zip(mixed, views, strict=True)])
        out["other_landmarks"] = np.stack([label(mixed, i) for i in labelled])
    return out


def _work(job: tuple[str, int, str], folder: Path, speech: list[Utterance], people: int) -> None:
    kind, number, split = job
    made = _draw_stills(number, split) if kind == "still" else _draw_clip(number, split, speech, people)
    path = folder / f"{split}-{kind}-{number:05d}.npz"
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **made)


def _worker(
    jobs: list, taken, folder: Path, speech: list[Utterance], people: dict[str, int], until: float, nice: int
) -> None:
    os.nice(nice)
    while time.time() < until:
        with taken.get_lock():
            number = taken.value
            taken.value += 1
        if number >= len(jobs):
            return
        _work(jobs[number], folder, speech, people[jobs[number][2]])


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
    niceness `nice` training that shares the machine goes first. Raises InputError where a split has too few sentences,
    BackendError where a drawing process failed.
    """
    import cv2

    cv2.setNumThreads(1)  # a pool of threads would not outlive the fork
    until = time.time() + seconds
    folder.mkdir(parents=True, exist_ok=True)
    speech = read_speech(speech_file)
    for split, wanted, least in (("train", clips, 2), ("valid", valid_clips, 1), ("test", test_clips, 1)):
        if wanted and (found := len(_long_enough(speech, split))) < least:
            raise InputError(
                f"{speech_file}: got {found} sentences of {split!r} of {FRAMES / FPS} s or more, expected {least}; "
                "write it with more --sentences or --held-out"
            )
    _draw_stills(0, "train")  # compiles the rasteriser once, before the workers are forked
    _motion(speech[0], 0)
    jobs = [("still", n, "train") for n in range(-(-people // STILLS_PER_JOB))]
    early = min(clips, people // 5)  # so that no trainer waits for the tests
    jobs += [("still", n, "test") for n in range(-(-2 * test_clips // STILLS_PER_JOB))]
    jobs += [("clip", n, "train") for n in range(early)]
    jobs += [("clip", n, "test") for n in range(test_clips)] + [("clip", n, "valid") for n in range(valid_clips)]
    jobs += [("clip", n, "train") for n in range(early, clips)]
    there = {path.name for path in folder.glob("*.npz")}
    jobs = [j for j in jobs if f"{j[2]}-{j[0]}-{j[1]:05d}.npz" not in there]
    context = multiprocessing.get_context("fork")
    taken = context.Value("l", 0)
    counts = {"train": people, "valid": 2 * valid_clips, "test": 2 * test_clips}
    arguments = (jobs, taken, folder, speech, counts, until, nice)
    # Daemons, which end with what ends this process.
    processes = [context.Process(target=_worker, args=arguments, daemon=True) for _ in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if failed := [process.exitcode for process in processes if process.exitcode]:
        raise BackendError(
            f"{folder}: {len(failed)} of {workers} drawing processes ended with status {failed[0]}, expected 0; "
            "see why above, and give the same command to go on"
        )


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of a whole set of filmed people, None where the folder holds none; InputError if damaged."""
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        if record["format"] == 1 and record["asked"]["terms"] and record["people"]:
            return record
        raise KeyError("format")
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is no record of filmed people, or it is damaged; make the set again") from None


class Swaps:
    """Drawn or filmed pictures on a device, as uint8, grown by `refresh` while drawing goes on.

    Frames of clip c are rows c * FRAMES … of `own` and `swap`; stills of a person are the rows listed for it in `rows`.
    What has not been drawn yet is no error before it is asked for. Filmed people bring their sound, have no `swap`, and
    are all there; `speech_file` is None for them. Raises InputError where the folder is of the other kind.
    """

    def __init__(
        self,
        folder: Path,
        speech_file: Path | None,
        device: str,
        split: str = "train",
        clips: bool = True,
        stills: bool = True,
        limit: int | None = None,
    ) -> None:
        self.limit = limit  # clips at most
        self.folder, self.device, self.split = Path(folder), device, split
        self.kinds = [kind for kind, wanted in (("still", stills), ("clip", clips)) if wanted]
        record = read_record(self.folder)
        self.filmed = record is not None
        """Whether they are of filmed people."""
        self.terms: dict[str, str] = {} if record is None else record["asked"]["terms"]
        """What filmed people agreed to; it goes into every checkpoint."""
        self.strangers = FIRST["valid"] if record is None else sum(bool(p["train"]) for p in record["people"].values())
        """The first number of persons whom training does not see."""
        if self.filmed and speech_file is not None:
            raise InputError(f"{folder}: holds filmed people, whose sound is in their clips; leave --speech out")
        if not self.filmed and speech_file is None:
            raise InputError(
                f"{folder}: has no {RECORD}, expected a whole set of filmed people; give the command that makes it "
                "again, or for a drawn set its sentences with --speech"
            )
        self.speech_file = speech_file
        self.speech = [] if speech_file is None else read_speech(speech_file)
        self.rows: dict[int, np.ndarray] = {}
        self.seen: set[str] = set()
        self.arrays: dict[str, list] = {}
        self.refresh()

    def refresh(self) -> int:
        """Take in what has been drawn since; return the number of new files."""
        import torch

        new = [
            p
            for kind in self.kinds
            for p in sorted(self.folder.glob(f"{self.split}-{kind}-*.npz"))[: self.limit if kind == "clip" else None]
            if p.name not in self.seen
        ]
        with ThreadPoolExecutor(4) as pool:
            for path, arrays in zip(new, pool.map(_read, new), strict=True):
                self.seen.add(path.name)
                kind = path.name.split("-")[1]
                if kind == "clip":
                    said, first, other = map(int, arrays["meta"][0, 2:])
                    if self.filmed:
                        arrays |= self._paired(said, other) if self.split == "test" else {}
                    else:
                        arrays |= self._heard("", said, first)
                        arrays |= self._heard("other_", other, 0) if self.split == "test" else {}
                for name, array in arrays.items():
                    self.arrays.setdefault(f"{kind}_{name}", []).append(torch.from_numpy(array))
        if new:
            for name, parts in self.arrays.items():
                joined = parts[0] if len(parts) == 1 else torch.cat([p.to(self.device) for p in parts])
                self.arrays[name] = [joined.to(self.device)]
            if "still_person" in self.arrays:
                self.rows = rows_by_person(self["still_person"].cpu().numpy())
        return len(new)

    def _heard(self, prefix: str, utterance: int, first: int) -> dict[str, np.ndarray]:
        spoken = self.speech[utterance]
        return {
            f"{prefix}mel": spoken.heard(SPEC, first + FRAMES)[None, first:].astype(np.float16),
            f"{prefix}sync": spoken.heard(SYNC_SPEC, first + FRAMES)[None, first:].astype(np.float16),
        }

    def _paired(self, source: int, other: int) -> dict[str, np.ndarray]:
        """Return the first frame of one filmed test clip, and what is heard in another."""
        first, sounding = (_read(self.folder / f"test-clip-{number:05d}.npz") for number in (source, other))
        return {"source": first["own"][:, 0], "other_mel": sounding["mel"], "other_sync": sounding["sync"]}

    def __getitem__(self, name: str):
        """The tensor of that name: "still_frames", "still_person", "clip_own" (clips, FRAMES, 96, 96, 3), …

        Raises InputError where no such file has been drawn, and where it is asked of filmed people what is not known.
        """
        if name not in self.arrays:
            kind, _, field = name.partition("_")
            if self.filmed:
                raise InputError(
                    f"{self.folder}: got filmed people, expected some that have {field!r} in a {kind} of "
                    f"{self.split!r}; take drawn ones: python -m edgetalk.train.swap_data draw"
                )
            raise InputError(
                f"{self.folder}: got no file {self.split}-{kind}-*.npz, expected some that hold {field!r}; draw them "
                f"with: python -m edgetalk.train.swap_data draw --speech {word(self.speech_file)} "
                f"-o {word(self.folder)}"
            )
        return self.arrays[name][0]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    @property
    def renderings(self) -> tuple[str, ...]:
        """What each clip shows: its person, and where they are drawn the source in his place; see `clip_meta`."""
        return ("own",) if self.filmed else ("own", "swap")

    @property
    def clips(self) -> int:
        return len(self["clip_own"]) if "clip_own" in self else 0


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        arrays = dict(file)
    return {name: array[None] for name, array in arrays.items()} if "meta" in arrays else arrays


def rows_by_person(persons: np.ndarray) -> dict[int, np.ndarray]:
    """Return the rows at which each person stands."""
    order = np.argsort(persons, kind="stable")
    names, starts = np.unique(persons[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True))


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    speech = commands.add_parser("speech")
    speech.add_argument("-o", type=Path, required=True)
    speech.add_argument("--sentences", type=int, default=900)
    speech.add_argument("--held-out", type=int, default=120)
    drawing = commands.add_parser("draw")
    drawing.add_argument("-o", type=Path, required=True)
    drawing.add_argument("--speech", type=Path, required=True)
    drawing.add_argument("--seconds", type=float, default=120)
    drawing.add_argument("--people", type=int, default=1000)
    drawing.add_argument("--test-clips", type=int, default=120)
    drawing.add_argument("--valid-clips", type=int, default=48)
    drawing.add_argument("--clips", type=int, default=4000)
    drawing.add_argument("--workers", type=int, default=os.cpu_count())
    drawing.add_argument("--nice", type=int, default=10, help="niceness of the drawing processes")
    scene = commands.add_parser("scene", help="a film, its track, a portrait and a sentence, to dub")
    scene.add_argument("-o", type=Path, required=True)
    scene.add_argument("--target", default="dan", help="announcer who is filmed")
    scene.add_argument("--portrait", default="finn", help="announcer whose face it gets")
    scene.add_argument("--seconds", type=float, help="length of the film (default: of its sentence)")
    filmed = commands.add_parser("filmed", help="clips and stills of filmed people")
    filmed.add_argument("films", type=Path, nargs="+", metavar="FILM_OR_FOLDER",
                        help="a film is a person, and so is a folder of films within a folder")  # fmt: skip
    filmed.add_argument("-o", type=Path, required=True, metavar="DIR", help="the same command goes on")
    filmed.add_argument(
        "--consent", required=True, metavar="NOTE", help="who agreed, and when, that face and voice are trained on"
    )
    filmed.add_argument("--licence", default="", help="licence of the films, which the weights will be under, too")
    filmed.add_argument("--use", choices=ALLOWED, default="any", help="what weights of these films may be used for")
    filmed.add_argument("--seed", type=int, default=0, help="another seed, other people in the test")
    filmed.add_argument("--clips", type=int, help="of a person at most, evenly spread (default: all)")
    filmed.add_argument("--face-models", type=Path, metavar="FOLDER", help="of the two networks that find faces")
    filmed.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    args = parser.parse_args(arguments)
    if args.command == "filmed":
        from .swap_films import told, write
        from .terms import Terms

        terms = Terms(args.consent, args.licence, args.use)
        record = write(args.films, args.o, terms, args.seed, args.clips, args.face_models, args.workers)
        print(f"{args.o}: {told(record)}")
    elif args.command == "scene":
        from .swap_scene import write_scene

        write_scene(args.o, args.target, args.portrait, args.seconds)
    elif args.command == "speech":
        write_speech(args.o, args.sentences, args.held_out)
    else:
        draw(args.o, args.speech, args.seconds, args.people, args.test_clips, args.valid_clips, args.clips,
             args.workers, args.nice)  # fmt: skip


if __name__ == "__main__":
    program.run(main)
