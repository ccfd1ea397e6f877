"""Data sets of speaking faces as training reads them, whoever is in them: drawn (announcers/) or filmed (filmed/).

A set is a folder. speech.npz, C clips, all whole frames of 640 samples:
    plan            JSON: format, name, frames, fps, names of persons and voices, terms, and what its maker adds
    pcm             int16 (samples,), 16 kHz, all clips one after another; levelled to an RMS of 0.08
    samples_bounds  int64 (C + 1,) where clips begin in pcm; frames begin at bounds / 640
    person uint16, split uint8 (0 training, 1 test), voice uint8, (C,) each
    around          int16 (C, 2, AROUND * 640) what is heard before and after a clip; of films alone
labels.npz, N frames:
    landmarks uint16 (N, 106, 2): fraction = value / 32768 − 0.5 (order: announcers/landmarks.py), pose float32 (N, 3)
    radians, blink float32 (N, 2) subject's left and right, person uint16 (N,), clip int32 (N,), frame int32 (N,) number
    in its clip, split uint8 (N,), voice uint8 (N,), size, codec
frames.npy (codec raw): uint8 (N, size, size, 3) RGB, to be memory-mapped; clips/NNNNN.mp4 (codec h264): 25 frames/s,
yuv444p; neither of them (codec none): a set without pictures. Those of announcers hold more, see announcers/dataset.py.
A set is complete where it has labels.npz.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgetalk.clock import SAMPLE_RATE
from edgetalk.errors import InputError, counted, word
from edgetalk.files import plain, replacing
from edgetalk.npz import read_npz

FORMAT = 1
FPS = 25
SAMPLES = SAMPLE_RATE // FPS
"""Of sound for each frame."""
AROUND = 10
"""Frames of sound that are kept on each side of a film's clip: no window reaches farther."""
TRAIN, TEST = 0, 1
CODECS = ("h264", "raw")
UNDRAWN = "none"
"""In place of a codec: a set without pictures, whose sound and labels train the Fuser alone."""
CRF = 16
"""Quality of the H.264 clips."""


class Clip(NamedTuple):
    """One stretch of speech; frames start … start + frames of the set show it."""

    start: int
    frames: int
    pcm: np.ndarray
    """float32 (frames × 640,) at 16 kHz."""
    person: int
    split: int
    voice: int
    before: np.ndarray
    """float32 (M,): what is heard before it; empty where it begins in silence."""
    after: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """A set in memory (frames are mapped from disk). Arrays (N, …) as in labels.npz."""

    frames: np.ndarray
    """uint8 (N, size, size, 3) RGB; size 0 where no pictures were asked for."""
    landmarks: np.ndarray
    """float32 (N, 106, 2), fractions of width and height."""
    pose: np.ndarray
    blink: np.ndarray
    person: np.ndarray
    clip: np.ndarray
    frame: np.ndarray
    split: np.ndarray
    voice: np.ndarray
    """uint8 (N,): number in `voices`."""
    clips: tuple[Clip, ...]
    name: str
    """Which set it is."""
    persons: tuple[str, ...]
    voices: tuple[str, ...]
    terms: Mapping[str, str]
    """Of films, as in terms.py; empty for drawn persons."""
    viseme: np.ndarray | None = None
    """float32 (N, 7), visemes.AXES; None where nobody knows what is spoken."""
    digest: str = ""
    """Script.digest."""

    @property
    def size(self) -> int:
        return self.frames.shape[1]

    @property
    def train(self) -> np.ndarray:
        """bool (N,): frames for training; the others are for tests."""
        return self.split == TRAIN


@dataclass(frozen=True)
class Script:
    """speech.npz in memory."""

    plan: dict[str, Any]
    start: np.ndarray
    """int64 (C + 1,) first frame of each clip."""
    tables: dict[str, np.ndarray]

    @classmethod
    def read(cls, path: Path) -> Script:
        """Raises FileNotFoundError, and InputError where the file is of another format."""
        plan, tables = read_plan(path), read_arrays(path)
        del tables["plan"]
        return cls(plan, tables["samples_bounds"] // SAMPLES, tables)

    @property
    def persons(self) -> tuple[str, ...]:
        if "persons" not in self.plan:  # an older set of announcers
            from edgetalk.train.announcers.plan import Plan

            plan = Plan(*(self.plan[key] for key in ("name", "frames", "seed")))
            return tuple(person.identity.name for person in plan.persons())
        return tuple(self.plan["persons"])

    @property
    def digest(self) -> str:
        """A short sha256 of what says whose each frame is and whether it is for tests; terms are not in it."""
        told = [self.plan["name"], self.plan.get("seed"), self.plan.get("asked", {}).get("films")]
        whole = hashlib.sha256(json.dumps(told).encode())
        for name in ("samples_bounds", "person", "split"):
            whole.update(self.tables[name].astype("<i8").tobytes())
        return whole.hexdigest()[:16]

    def clip(self, i: int) -> Clip:
        first, last = (int(n) for n in self.start[i : i + 2])
        around = self.tables["around"][i] if "around" in self.tables else np.zeros((2, 0), np.int16)
        heard = (self.tables["pcm"][first * SAMPLES : last * SAMPLES], *around)
        pcm, before, after = (sound.astype(np.float32) / np.float32(32767) for sound in heard)
        numbers = (int(self.tables[name][i]) for name in ("person", "split", "voice"))
        return Clip(first, last - first, pcm, *numbers, before, after)

    def of_frames(self) -> dict[str, np.ndarray]:
        """Return what labels.npz says of every frame by its clip: person, split, voice, clip, frame, (N,) each."""
        lengths = np.diff(self.start)
        return {name: np.repeat(self.tables[name], lengths) for name in ("person", "split", "voice")} | {
            "clip": np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
            "frame": np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
        }


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of a set's .npz, or those of `names`, by name; InputError where it is damaged."""
    return read_npz(path, _damaged(path), names)


def _damaged(path: Path) -> str:
    return f"{path} is damaged; copy the set again or make it anew"


def read_plan(path: Path) -> dict[str, Any]:
    """Return the plan in a speech.npz; InputError where it is of another format."""
    try:
        plan: dict[str, Any] = json.loads(str(read_arrays(path, ["plan"])["plan"]))
    except (KeyError, json.JSONDecodeError):
        raise InputError(_damaged(path)) from None
    if plan.get("format") != FORMAT:
        raise InputError(f"{path}: got format {plan.get('format')}, expected 1; make the set anew with this version")
    return plan


def packed(landmarks: np.ndarray) -> np.ndarray:
    """Return landmarks, fractions of the picture, as labels.npz holds them, uint16."""
    return np.clip((landmarks + 0.5) * 32768, 0, 65535).round().astype(np.uint16)


def _unpacked(landmarks: np.ndarray) -> np.ndarray:
    return landmarks.astype(np.float32) / np.float32(32768) - np.float32(0.5)


def check_begun_nowhere(folder: Path, names: Collection[str] = ("clips", "frames.npy")) -> None:
    """Raise InputError where a folder in which no set was begun has what one would write over or delete."""
    for name in names:
        if (folder / name).exists():
            raise InputError(f"{folder}: has {name}, which was not begun here; choose another folder")


def encode(path: Path, pictures: Iterable[np.ndarray], size: int) -> None:
    """Write the pictures of a clip, uint8 (size, size, 3) RGB each, as H.264; the file appears whole."""
    import av

    with replacing(path) as part, part.open("wb") as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": str(CRF), "preset": "slow", "threads": "1"})
        stream.height = stream.width = size
        stream.pix_fmt = "yuv444p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@contextlib.contextmanager
def new_frames(folder: Path, count: int, size: int) -> Iterator[np.ndarray]:
    """Give frames.npy, uint8 (count, size, size, 3), to be written; the file appears whole, at the block's end.

    Raises OSError where the disk has no place for it.
    """
    with replacing(folder / "frames.npy") as part:
        frames = mapped_frames(part, count, size)
        yield frames
        frames.flush()


def mapped_frames(path: Path, count: int, size: int) -> np.ndarray:
    """Make frames.npy.part, uint8 (count, size, size, 3), and return it, mapped.

    Its place on the disk is taken first: OSError where there is none, of which a mapped file would tell by a signal.
    """
    frames = np.lib.format.open_memmap(path, "w+", np.uint8, (count, size, size, 3))
    if hasattr(os, "posix_fallocate"):  # not on Windows
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    path.unlink()
                    raise OSError(error.errno, error.strerror, str(path.with_suffix(""))) from None
    return frames


def _decode(folder: Path, start: np.ndarray, size: int) -> None:
    """clips/*.mp4 -> frames.npy, once. Raises InputError where a clip is damaged or of another length."""
    import av

    with new_frames(folder, int(start[-1]), size) as frames:
        for clip, (first, last) in enumerate(zip(start[:-1], start[1:], strict=True)):
            path, count = folder / "clips" / f"{clip:05d}.mp4", 0
            try:
                with av.open(plain(path)) as container:
                    for count, frame in enumerate(container.decode(video=0), 1):
                        if count <= last - first:
                            frames[first + count - 1] = frame.to_ndarray(format="rgb24")
            except av.InvalidDataError:
                count = 0
            if count != last - first:
                raise InputError(
                    f"{path} is damaged: got {count} frames, expected {last - first}; copy the set again or make it"
                )


def load(folder: Path | str, pictures: bool = True) -> Dataset:
    """Read a complete set, without its `pictures` where they are not asked for.

    H.264 clips are decoded into frames.npy at the first call. Raises FileNotFoundError where there is no set,
    InputError where it is of another format or has none of the pictures that are asked for.
    """
    folder = Path(folder)
    if not (folder / "labels.npz").exists():
        raise FileNotFoundError(
            f"{folder}/labels.npz: no complete data set here; make it with "
            f"`edgetalk data announcers -o {word(folder)}`, or of films with `edgetalk data filmed`"
        )
    script = Script.read(folder / "speech.npz")
    labels = read_arrays(folder / "labels.npz")
    size, codec = int(labels.pop("size")), str(labels.pop("codec"))
    if not pictures:
        frames = np.empty((int(script.start[-1]), 0, 0, 3), np.uint8)
    elif codec == UNDRAWN:
        raise InputError(f"{folder}: got a set without pictures, which --heard takes; give --data one with pictures")
    else:
        if codec == "h264" and not (folder / "frames.npy").exists():
            _decode(folder, script.start, size)
        try:
            frames = np.load(folder / "frames.npy", mmap_mode="c")
            whole = frames.shape == (int(script.start[-1]), size, size, 3)
        except (ValueError, EOFError):
            whole = False
        if not whole:  # or of another set than the labels
            raise InputError(_damaged(folder / "frames.npy"))
    labels["landmarks"] = _unpacked(labels["landmarks"])
    return Dataset(
        frames=frames,
        **labels,
        clips=tuple(script.clip(i) for i in range(len(script.start) - 1)),
        name=script.plan["name"],
        persons=script.persons,
        voices=tuple(script.plan["voices"]),
        terms=script.plan.get("terms", {}),
        digest=script.digest,
    )


def describe(folder: Path) -> str:
    """One line about a complete set."""
    script = Script.read(folder / "speech.npz")
    lengths, test, voice = np.diff(script.start), script.tables["split"] == TEST, script.tables["voice"]
    names = np.array(script.plan["voices"])[voice]
    heard = np.isin(voice, voice[~test]) if "held_out" not in script.plan else ~np.isin(names, script.plan["held_out"])
    unheard = lengths[test & ~heard].sum()
    return (
        f"{script.plan['name']}: {lengths[~test].sum()} training frames, {lengths[test].sum()} test frames"
        + (f" ({unheard} with a held-out voice)" if unheard else "")
        + f", {counted(len(lengths), 'clip')}, {counted(len(np.unique(script.tables['person'])), 'person')}"
    )
