"""Filmed people for WavSyncSwap: films in, out come the clips and stills that data.Swaps reads.

`python -m edgetalk.train.swap filmed FILM_OR_FOLDER … -o DIR`. Every film is tracked first; that takes longest,
and its track stays in DIR/tracks, so that the same command goes on. Then all clips are cut, and films.json says that
the set is whole. A clip is CLIP_FRAMES of one face without a cut, cropped as an avatar's film is, with its sound.
Nobody knows how a swap of them ought to look: what drawn.py draws as truth is not here. How they are divided is in
split.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from edgetalk.clock import frame_count
from edgetalk.errors import BackendError, InputError, counted
from edgetalk.face import Face, track_beside, write_track
from edgetalk.face.tracker import JUMP
from edgetalk.files import PARTS, replacing, together
from edgetalk.mel import MelStream, windows
from edgetalk.preprocess import MIN_SIDE, align, crop_matrix
from edgetalk.reader import Reader
from edgetalk.targets import Faces
from edgetalk.train.filmed import films
from edgetalk.train.filmed.films import Person
from edgetalk.train.options import check_bounds
from edgetalk.train.pools import pool
from edgetalk.train.terms import Terms, check_consent

from .data import CLIP_FRAMES, FPS, LOOKS, POSES, RECORD, SIZE, SPEC, SYNC_SPEC, read_record
from .split import LEFT_OUT, divided, kept_apart, pairs

SPLITS = ("train", "valid", "test")
BEGUN = "films.begun"
"""File in a set whose clips are being cut: what a killed command has left there is known by it."""
NOBODY = -1
"""In a clip's meta, where only test clips have a source and another sentence."""
BLOCK = 1 << 19  # samples that are heard at once


# Looking: which clips a film has.


class Noted:
    """The faces of a film, each noted as it is asked for, in order: a track is made of them."""

    def __init__(self, faces: Faces) -> None:
        self.faces, self.seen = faces, list[Face | None]()
        self.scene = faces.scene

    def of(self, index: int, planes: np.ndarray) -> Face | None:
        self.seen.append(self.faces.of(index, planes))
        return self.seen[-1]


def look(film: Path, kept: Path | None, face_models: Path | None = None) -> list[int]:
    """Return the frames, at 25 per second, at which a film's clips begin.

    Where no track lies beside it, `kept` is the one that is taken, or made. Raises InputError where it has no sound, or
    no face for as long as a clip, and as Reader, Faces and audio.read.
    """
    reader = Reader(film)
    sounding = frame_count(len(films.sound(reader)), FPS)
    there = kept is None or kept.exists()
    with closing(Faces(reader, kept if there else None, face_models=face_models)) as faces:
        noted = Noted(faces)
        starts = clips(films.frames(reader, noted), sounding)
    if kept is not None and not there:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_track(kept, noted.seen, reader.fps, reader.size)
    if not starts:
        raise InputError(
            f"{film} shows no face of {MIN_SIDE} pixels and more for {CLIP_FRAMES / FPS} s of sound without a cut, "
            "expected somebody who speaks to the camera"
        )
    return starts


def clips(frames: Iterator[films.Frame], sounding: int) -> list[int]:
    """Return where clips begin: CLIP_FRAMES that follow each other, with one face, within a scene and its sound."""
    starts, run = [], 0
    before: tuple[Face, int] | None = None
    for index, (_, face, scene) in enumerate(frames):
        if face is None or index >= sounding or _side(face) < MIN_SIDE:
            run, before = 0, None
            continue
        follows = before is not None and before[1] == scene and not _jumped(before[0], face)
        run, before = run + 1 if follows else 1, (face, scene)
        if run == CLIP_FRAMES:
            starts.append(index + 1 - CLIP_FRAMES)
            run, before = 0, None
    return starts


def _side(face: Face) -> float:
    """Pixels of the film that a crop of the face is wide."""
    return float(SIZE / np.sqrt(np.linalg.det(crop_matrix("wavsyncswap", face.points, SIZE)[:, :2])))


def _jumped(before: Face, face: Face) -> bool:
    """Whether the face moved as no head moves: another one, or a cut to nearly the same picture."""
    size = float((before.box[2:] - before.box[:2]).max())
    return float(np.linalg.norm(face.points.mean(0) - before.points.mean(0))) > JUMP * size


# Cutting.


class Clip(NamedTuple):
    """A clip to be written."""

    film: int
    """Which of the person's."""
    start: int
    split: str
    number: int
    """In its split."""
    meta: tuple[int, int, int, int, int]
    """Who it is, who the source is, the number of the test clip that shows it, `start`, that of another one to hear."""


def cut(person: Person, tracks: Sequence[Path | None], wanted: Sequence[Clip], folder: Path) -> None:
    """Write the clips of a person, which are in order, and stills spread evenly over those of training and test."""
    crops: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    for number, (path, track) in enumerate(zip(person.films, tracks, strict=True)):
        here = [clip for clip in wanted if clip.film == number]
        for clip, own, mel, sync in _cut_film(path, track, here):
            with replacing(folder / f"{clip.split}-clip-{clip.number:05d}.npz") as part, part.open("wb") as file:
                np.savez(file, own=own, mel=mel, sync=sync, meta=np.array(clip.meta))
            alike = [other for other in wanted if other.split == clip.split]
            first, every = CLIP_FRAMES * alike.index(clip), CLIP_FRAMES * len(alike) / (LOOKS * POSES)
            spread = ((np.arange(LOOKS * POSES) + 0.5) * every).astype(int) - first
            crops[clip.split].extend(own[at] for at in spread if 0 <= at < CLIP_FRAMES)
    for split in ("train", "test"):
        if crops[split]:
            frames = np.stack(crops[split])
            who = np.full(len(frames), wanted[0].meta[0])
            with replacing(folder / f"{split}-still-{who[0]:05d}.npz") as part, part.open("wb") as file:
                np.savez(file, frames=frames, person=who, parameters=np.zeros((len(frames), 0), np.float32))


def _cut_film(
    path: Path, track: Path | None, wanted: Sequence[Clip]
) -> Iterator[tuple[Clip, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the clips of a film with their crops and what generator and sync expert hear of them."""
    reader = Reader(path)
    mels = _heard(films.sound(reader))
    left, own = list(wanted), list[np.ndarray]()
    with closing(Faces(reader, track)) as faces:
        for index, (picture, face, _) in enumerate(films.frames(reader, faces)):
            if not left:
                break
            if index < left[0].start:
                continue
            own.append(align(picture, crop_matrix("wavsyncswap", face.points, SIZE), SIZE))
            if len(own) == CLIP_FRAMES:
                clip = left.pop(0)
                heard = (windows(mels, CLIP_FRAMES, spec, FPS, clip.start) for spec in (SPEC, SYNC_SPEC))
                yield clip, np.stack(own), *(part.astype(np.float16) for part in heard)
                own = []


def _heard(pcm: np.ndarray) -> np.ndarray:
    """Return the log-mel of a sound of any length, (M, 80) float32, without all of its spectra at once."""
    stream = MelStream(SPEC)
    blocks = [stream.push(pcm[at : at + BLOCK]) for at in range(0, len(pcm), BLOCK)]
    return np.concatenate([*blocks, stream.flush()])


# The whole.


def write(
    paths: Sequence[Path], folder: Path, terms: Terms, seed: int = 0, most: int | None = None,
    face_models: Path | None = None, workers: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Write the set of some films and folders of films into `folder`, and return its record, which films.json holds.

    `most` is how many clips of a person are taken at most, evenly spread, and `face_models` a folder with the two
    networks that find faces. Where the folder holds that very set it is left as it is. Raises FileNotFoundError,
    BackendError where the networks were not fetched, and InputError where the films cannot be divided or some of them
    not be used.
    """
    check_consent(terms)
    check_bounds(SimpleNamespace(clips=most), {"clips": (1, inf)})
    persons = films.people(paths)
    known = {p.name: [[film.name, film.stat().st_size] for film in p.films] for p in persons}
    asked = {"seed": seed, "clips": most, "films": known, "terms": asdict(terms)}
    if (record := read_record(folder)) is not None:
        if record["asked"] == asked:
            return record
        raise InputError(f"{folder}: holds a set of other films, terms, --seed or --clips; take another folder")
    if not (folder / BEGUN).exists() and any(folder.glob("*-clip-*.npz")):
        raise InputError(f"{folder}: has clips and no {RECORD}, expected a folder without any; take another one")
    if len(persons) < 3:
        divided([0] * len(persons), seed)  # raises, before the work
    folder.mkdir(parents=True, exist_ok=True)
    starts = _look(persons, folder, face_models, workers)
    if most is not None:
        starts = [_spread(one, most) for one in starts]
    wanted = _planned(starts, seed)
    _begin(folder)
    with together(folder) as parts:
        jobs = [
            (person, [_track(folder, person, film) for film in person.films], clips, parts)
            for person, clips in zip(persons, wanted, strict=True)
        ]
        _work(cut, jobs, workers, "clips")
    record = {"format": 1, "asked": asked, "people": {}}
    for person, clips in zip(persons, wanted, strict=True):
        counts = {split: sum(clip.split == split for clip in clips) for split in SPLITS}
        record["people"][person.name] = {"number": clips[0].meta[0], **counts}
    with replacing(folder / RECORD) as part:
        part.write_text(json.dumps(record, indent=1) + "\n")
    (folder / BEGUN).unlink()
    return record


def _begin(folder: Path) -> None:
    """Note that clips are ours from now on; those of a command that was killed while they got their names vanish."""
    if (folder / BEGUN).exists():
        names = (f"{split}-{kind}-*.npz" for split in SPLITS for kind in ("clip", "still"))
        for path in (path for name in names for path in folder.glob(name)):
            path.unlink()
        for parts in folder.glob(PARTS):
            shutil.rmtree(parts)
    (folder / BEGUN).touch()


def told(record: dict[str, Any]) -> str:
    """Return a record in one line."""
    whole = {split: sum(one[split] for one in record["people"].values()) for split in SPLITS}
    unseen = sum(bool(one["test"]) and not one["train"] for one in record["people"].values())
    tested = sum(bool(one["test"]) for one in record["people"].values())
    return (
        f"{counted(len(record['people']), 'person')}, clips of {CLIP_FRAMES / FPS} s: {whole['train']} to train on, "
        f"{whole['valid']} to validate, {whole['test']} to test, of {counted(tested, 'person')}, "
        f"{unseen} of them unseen"
    )


def _track(folder: Path, person: Person, film: Path) -> Path | None:
    """Return where the track of a film is kept; None where one lies beside it."""
    return folder / "tracks" / person.name / f"{film.name}.track.npz" if track_beside(film) is None else None


def _look(
    persons: Sequence[Person], folder: Path, face_models: Path | None, workers: int
) -> list[list[tuple[int, int]]]:
    """Return of each person film and start of every clip; InputError which names the films that cannot be used."""
    jobs = [(film, _track(folder, person, film), face_models) for person in persons for film in person.films]
    found = dict(zip((job[0] for job in jobs), _work(_looked, jobs, workers, "faces"), strict=True))
    if bad := [str(error) for error in found.values() if isinstance(error, InputError)]:
        raise InputError(films.refusal(bad))
    return [
        [(number, start) for number, film in enumerate(person.films) for start in found[film]] for person in persons
    ]


def _looked(film: Path, kept: Path | None, face_models: Path | None) -> list[int] | InputError:
    try:
        return look(film, kept, face_models)
    except InputError as error:  # others of the films may be bad, too
        return error


def _spread(starts: list[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    return [starts[at] for at in sorted({round(at) for at in np.linspace(0, len(starts) - 1, min(most, len(starts)))})]


def _planned(starts: Sequence[Sequence[tuple[int, int]]], seed: int) -> list[list[Clip]]:
    """Return the clips of each person, divided and numbered; those who are trained on have the first numbers.

    What is left out before a person's tests is not among them.
    """
    use = [kept_apart(*both) for both in zip(divided([len(one) for one in starts], seed), starts, strict=True)]
    seen = [p for p in range(len(use)) if "train" in use[p]]
    name = {p: n for n, p in enumerate([*seen, *(p for p in range(len(use)) if p not in seen)])}
    tested = [(p, k) for p, one in enumerate(use) for k, split in enumerate(one) if split == "test"]
    tested = [tested[i] for i in np.random.default_rng([seed, 95]).permutation(len(tested))]  # so is any part of them
    row = {clip: n for n, clip in enumerate(tested)}
    pair = pairs([p for p, _ in tested], seed)
    counts = dict.fromkeys(SPLITS, 0)
    out: list[list[Clip]] = []
    for p, one in enumerate(starts):
        out.append([])
        for k, (film, start) in enumerate(one):
            if use[p][k] == LEFT_OUT:
                continue
            split, meta = use[p][k], (name[p], NOBODY, NOBODY, start, NOBODY)
            number = row.get((p, k), counts[split])
            if split == "test":
                source, other = pair[number]
                meta = (name[p], name[tested[source][0]], source, start, other)
            counts[split] += 1
            out[-1].append(Clip(film, start, split, number, meta))
    return out


def _work(work: Callable[..., Any], jobs: Sequence[tuple], workers: int, label: str) -> list[Any]:
    """Return what `work` makes of each job, in order, by so many processes."""
    from concurrent.futures.process import BrokenProcessPool

    from tqdm import tqdm

    done = []
    with tqdm(total=len(jobs), desc=label, unit="job") as bar:
        if min(workers, len(jobs)) < 2:
            for job in jobs:
                done.append(work(*job))
                bar.update()
            return done
        try:
            with pool(min(workers, len(jobs))) as processes:
                for future in [processes.submit(work, *job) for job in jobs]:
                    done.append(future.result())
                    bar.update()
        except BrokenProcessPool:
            raise BackendError(
                f"{label}: a process ended before its work was done, perhaps for want of memory; give the same command "
                "again with fewer --workers"
            ) from None
    return done
