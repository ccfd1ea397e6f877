"""AMNet's data set of filmed people: films in, the files of amnet/dataset.py out, and a sheet to look at.

Every film is tracked once; that takes longest, and what was seen stays in DIR/filmed.parts until the set is whole, so
that the same command, or one with other films, goes on. Then the takes (takes.py) are cut out of the films.
labels.npz says that the set is whole, as in every set; speech.npz has, beyond what every set has, what was asked for
in its plan. A voice is its person's.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgetalk.errors import InputError
from edgetalk.files import replacing
from edgetalk.npz import read_npz
from edgetalk.picture import write_picture
from edgetalk.preprocess import align
from edgetalk.reader import Reader
from edgetalk.targets import Faces
from edgetalk.train.amnet.dataset import (
    AROUND,
    CODECS,
    FORMAT,
    FPS,
    SAMPLES,
    Script,
    check_begun_nowhere,
    encode,
    load,
    new_frames,
    packed,
    read_plan,
)
from edgetalk.train.options import check_bounds
from edgetalk.train.terms import Terms, check_consent

from . import films, mesh
from .films import Person
from .takes import SHORTEST, Take, Track, divided, takes

NAME = "filmed"
PARTS = "filmed.parts"
"""Folder of what was asked for and of what was seen in the films, until the set is whole."""
BEYOND = 0.02
"""Share of a crop beyond the edge of the film that is worth a word."""
SHOWN, ROWS, SIDE = 8, 12, 192
"""Frames of a person, persons, and pixels of a frame on the sheet."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What decides, beside the films, what a set holds."""

    size: int = 256
    codec: str = "h264"
    face: str | int = "largest"
    """Which face of a film, as edgetalk.face.Tracker takes it."""


class _Job(NamedTuple):
    """One film, what was seen in it, and its sound."""

    path: Path
    size: tuple[int, int]
    track: Track
    pcm: np.ndarray


def write(
    paths: Sequence[Path],
    folder: Path,
    terms: Terms,
    settings: Settings = Settings(),  # noqa: B008 - immutable
    face_models: Path | None = None,
    say: Say = print,
) -> None:
    """Write the set of some films and folders of films (films.people) into `folder`, or go on with it.

    `face_models` is a folder with the two networks that find faces; `say` is told, film by film, what was left out.
    Where the folder holds that very set nothing is done. Raises FileNotFoundError, BackendError where the networks were
    not fetched, and InputError where the films cannot be used or the folder holds something else.
    """
    check_consent(terms)
    check_bounds(settings, {"size": (16, inf)})
    if settings.codec not in CODECS:
        raise InputError(f"codec: got {settings.codec!r}, expected one of {', '.join(CODECS)}; change --codec")
    persons = films.people(paths)
    if len(persons) > 255:
        raise InputError(f"films: got {len(persons)} persons, expected 255 at most; make several sets")
    asked = {
        "films": {p.name: [[film.name, film.stat().st_size] for film in p.films] for p in persons},
        "settings": asdict(settings) | {"face": str(settings.face)},
        "terms": asdict(terms),
    }
    if not _there(folder, asked):
        _make(persons, folder, asked, settings, face_models, say)
    shutil.rmtree(folder / PARTS, ignore_errors=True)  # also what a kill behind labels.npz has left
    if not (folder / "sheet.jpg").exists():
        write_picture(folder / "sheet.jpg", sheet(folder))


def _make(
    persons: list[Person], folder: Path, asked: dict[str, Any], settings: Settings, face_models: Path | None, say: Say
) -> None:
    parts = folder / PARTS
    _begin(folder, parts / "asked.json", asked)
    heard = [_heard(p.films) for p in persons]
    if bad := [str(error) for own in heard for error in own if isinstance(error, InputError)]:  # before hours of work
        raise InputError(films.refusal(bad))
    jobs = [
        [_looked(p.name, film, pcm, parts, settings.face, face_models) for film, pcm in zip(p.films, own, strict=True)]
        for p, own in zip(persons, heard, strict=True)
    ]
    wanted = [_divided(person, own, settings.size, say) for person, own in zip(persons, jobs, strict=True)]
    _cut(folder, jobs, wanted, settings)
    _describe(folder, jobs, wanted, persons, asked)


def _there(folder: Path, asked: dict[str, Any]) -> bool:
    """Say whether the folder has this very set; InputError where it has another, or an unfinished one of announcers."""
    whole, speech = (folder / "labels.npz").exists(), folder / "speech.npz"
    if speech.exists():
        plan = read_plan(speech)
        # What was begun for other films is dropped later; a set of announcers and a whole set of others are not.
        same = plan.get("asked") == asked if whole else plan["name"] == NAME
        if not same:
            raise InputError(
                f"{folder}: holds a set of other films, options or terms, or of announcers; choose another folder"
            )
    return whole


def _begin(folder: Path, note: Path, asked: dict[str, Any]) -> None:
    """Note what is asked for; clips of something else that was begun here vanish, what was seen in the films stays.

    InputError where the folder has a set's files and no note, for nobody knows whose they are.
    """
    if not note.exists():
        check_begun_nowhere(folder, ("clips", "frames.npy", "speech.npz"))
    if not note.exists() or json.loads(note.read_text()) != asked:
        clips = (folder / "clips").glob("[0-9]" * 5 + ".mp4")
        for path in (*clips, folder / "frames.npy", folder / "speech.npz"):  # or they would be taken for the new ones
            path.unlink(missing_ok=True)
        note.parent.mkdir(parents=True, exist_ok=True)
        with replacing(note) as part:
            part.write_text(json.dumps(asked))


# Looking.


def _heard(paths: Sequence[Path]) -> list[Any]:
    """Return of each film its sound, or the InputError that tells why it cannot be used."""
    found: list[Any] = []
    for path in paths:
        try:
            found.append(films.sound(Reader(path)))
        except InputError as error:  # others of the films may be bad, too
            found.append(error)
    return found


def _looked(person: str, path: Path, pcm: np.ndarray, parts: Path, face: str | int, face_models: Path | None) -> _Job:
    """Return what is in a film; its track is among `parts`, or will be."""
    film = Reader(path)
    known = hashlib.sha256(json.dumps([person, path.name, path.stat().st_size, str(face)]).encode())
    kept = parts / f"{known.hexdigest()[:16]}.npz"
    if not kept.exists():
        track = look(film, face, face_models)
        with replacing(kept) as part, part.open("wb") as file:
            np.savez(file, **{field.name: getattr(track, field.name) for field in fields(Track)})
    told = f"{kept} is damaged; delete it to have {path.name} tracked again"
    arrays = read_npz(kept, told)
    if arrays.keys() != {field.name for field in fields(Track)}:
        raise InputError(told)
    return _Job(path, film.size, Track(**arrays), pcm)


def look(film: Reader, face: str | int = "largest", face_models: Path | None = None) -> Track:
    """Return where the face is in every frame of a film, and its labels.

    Raises InputError where there is no face, or a track file beside the film, which has no landmarks; and as Faces.
    """
    from tqdm import tqdm

    columns: dict[str, list[Any]] = {field.name: [] for field in fields(Track)}
    shapes = {"landmarks": (106, 2), "points": (5, 2), "pose": (3,), "blink": (2,)}
    nobody = {name: np.full(shape, np.nan) for name, shape in shapes.items()}
    total = round(film.length / film.fps * FPS) or None
    with closing(Faces(film, face=face, face_models=face_models)) as faces:
        for _, seen, scene in tqdm(films.frames(film, faces), film.path.name, total, unit="frame", mininterval=0.5):
            if seen is not None and seen.mesh is None:
                raise InputError(
                    f"{film.path.name} has a track file beside it, which tells no landmarks to learn from; move the "
                    "track away to have the film tracked"
                )
            there = nobody
            if seen is not None:
                points = mesh.landmarks(seen.mesh)
                there = {"landmarks": points, "points": seen.points, "pose": seen.pose, "blink": seen.blink}
            for name, value in {**there, "scene": scene}.items():
                columns[name].append(value)
        if not faces.found:
            raise InputError(f"{film.path.name} shows no {faces.whom} in {len(columns['scene'])} frames")
    labels = {name: np.array(columns[name], np.float32) for name in nobody}
    return Track(**labels, scene=np.array(columns["scene"], np.int32))


def _divided(person: Person, jobs: Sequence[_Job], size: int, say: Say) -> list[Take]:
    """Return the takes of a person, and say of each film what becomes of it."""
    found = [takes(job.track, len(job.pcm) // SAMPLES, size, number) for number, job in enumerate(jobs)]
    for job, own in zip(jobs, found, strict=True):
        long = [take for take in own if len(take) >= SHORTEST]
        kept, frames, faces = sum(map(len, long)), len(job.track.scene), int(job.track.seen.sum())
        unfit = faces - sum(map(len, own))
        told = f"{person.name}, {job.path.name}: {kept / FPS:.1f} of {frames / FPS:.1f} s, takes: {len(long)}"
        for count, why in (
            (frames - faces, "without a face"),
            (unfit, f"with a face too small for {size} pixels, or without sound"),
            (sum(map(len, own)) - kept, f"in takes under {SHORTEST / FPS:.0f} s"),
        ):
            told += f"; {count / FPS:.1f} s {why}" if count > 2 else ""
        over = max((take.crop.beyond(job.size) for take in long), default=0.0)
        told += f"; {over:.0%} of the crop lies beyond the film's edge, which is smeared" if over > BEYOND else ""
        say(told)
    return divided([take for own in found for take in own], person.name)


# Cutting.


def _cut(folder: Path, jobs: list[list[_Job]], wanted: list[list[Take]], settings: Settings) -> None:
    """Write the pictures of all takes; clips that are there already stay."""
    size, start = settings.size, 0
    if settings.codec == "raw":
        with new_frames(folder, sum(len(take) for own in wanted for take in own), size) as frames:
            for take, crops in _cropped(jobs, wanted, size):
                for i, picture in enumerate(crops, start):
                    frames[i] = picture
                start += len(take)
        return
    (folder / "clips").mkdir(exist_ok=True)
    for number, (_, crops) in enumerate(_cropped(jobs, wanted, size)):
        clip = folder / "clips" / f"{number:05d}.mp4"
        if not clip.exists():
            encode(clip, crops, size)


def _cropped(
    jobs: list[list[_Job]], wanted: list[list[Take]], size: int
) -> Iterator[tuple[Take, Iterator[np.ndarray]]]:
    """Yield all takes in order, each with its pictures, which may be left unread."""
    from tqdm import tqdm

    total = sum(len(take) for own in wanted for take in own)
    with tqdm(total=total, desc="crops", unit="frame", mininterval=0.5) as bar:
        for own_jobs, own in zip(jobs, wanted, strict=True):
            for film, job in enumerate(own_jobs):
                walk = enumerate(films.frames(Reader(job.path), None))
                for take in (take for take in own if take.film == film):
                    yield take, _crops(walk, take, size)
                    bar.update(len(take))


def _crops(walk: Iterator[tuple[int, films.Frame]], take: Take, size: int) -> Iterator[np.ndarray]:
    """Yield the pictures of a take out of a walk that has not come to it yet, and leave the walk behind it."""
    matrix = take.crop.matrix(size)
    for i, (picture, _, _) in walk:
        if i >= take.first:
            yield align(picture, matrix, size)
        if i == take.last - 1:
            return


def _describe(
    folder: Path, jobs: list[list[_Job]], wanted: list[list[Take]], persons: list[Person], asked: dict[str, Any]
) -> None:
    """Write speech.npz and then labels.npz."""
    rows = [(i, jobs[i][take.film], take) for i, own in enumerate(wanted) for take in own]
    names = [person.name for person in persons]
    pcm = [_pcm16(job.pcm[take.first * SAMPLES : take.last * SAMPLES]) for _, job, take in rows]
    around = [_around(job.pcm, take) for _, job, take in rows]
    number = np.array([i for i, _, _ in rows])
    plan = {
        "format": FORMAT,
        "name": NAME,
        "frames": sum(len(take) for *_, take in rows),
        "fps": FPS,
        "persons": names,
        "voices": names,
        "terms": asked["terms"],
        "asked": asked,
    }
    with replacing(folder / "speech.npz") as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            plan=json.dumps(plan),
            pcm=np.concatenate(pcm),
            around=np.stack(around),
            samples_bounds=np.cumsum([0, *map(len, pcm)]),
            person=number.astype(np.uint16),
            split=np.array([take.split for *_, take in rows], np.uint8),
            voice=number.astype(np.uint8),
        )
    cut = [slice(take.first, take.last) for *_, take in rows]
    tracks = [job.track for _, job, _ in rows]
    fractions = [take.crop.fractions(job.track.landmarks[take.first : take.last]) for _, job, take in rows]
    with replacing(folder / "labels.npz") as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            landmarks=packed(np.concatenate(fractions)),
            pose=np.concatenate([track.pose[one] for track, one in zip(tracks, cut, strict=True)]),
            blink=np.concatenate([track.blink[one] for track, one in zip(tracks, cut, strict=True)]),
            **Script.read(folder / "speech.npz").of_frames(),
            size=asked["settings"]["size"],
            codec=asked["settings"]["codec"],
        )


def _pcm16(pcm: np.ndarray) -> np.ndarray:
    return (pcm * 32767).round().astype(np.int16)


def _around(pcm: np.ndarray, take: Take) -> np.ndarray:
    """Return what the film lets hear before and after a take, int16 (2, AROUND * SAMPLES)."""
    side, first, last = (frames * SAMPLES for frames in (AROUND, take.first, take.last))
    before, after = pcm[max(0, first - side) : first], pcm[last : last + side]
    return _pcm16(np.stack([np.pad(before, (side - len(before), 0)), np.pad(after, (0, side - len(after)))]))


def sheet(folder: Path) -> np.ndarray:
    """Return a picture of some frames of a set with their landmarks, a row for each person, uint8 (H, W, 3) RGB."""
    import cv2

    from edgetalk.train.amnet.sheets import tiled

    data = load(folder)
    rows = []
    for person in range(min(ROWS, len(data.persons))):
        own = np.flatnonzero(data.person == person)
        row = []
        for i in own[np.linspace(0, len(own) - 1, SHOWN).round().astype(int)]:
            picture = cv2.resize(data.frames[i], (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_CUBIC)
            for x, y in (data.landmarks[i] * 2 * SIDE).round().astype(int).tolist():
                cv2.circle(picture, (x, y), 2, (60, 255, 60), -1, cv2.LINE_AA)
            row.append(picture)
        rows.append(row)
    return tiled(rows, SIDE, [name[:12] for name in data.persons[:ROWS]])
