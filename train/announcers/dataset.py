"""Data sets of announcers: written in two resumable stages, read back as arrays.

`write` first makes DIR/speech.npz (needs flite and espeak-ng; small enough to carry to a faster machine) and then draws
it (needs numpy, numba, scipy, OpenCV). The same plan gives the same bytes.

speech.npz, C clips, all whole frames of 640 samples:
    plan            JSON: format, name, frames, seed, fps, names of visemes and voices
    pcm             int16 (samples,), 16 kHz, all clips one after another; clean, levelled to an RMS of 0.08
    samples_bounds  int64 (C + 1,) where clips begin in pcm; frames begin at bounds / 640
    phones_bounds, phone_times float32 (P, 2) seconds in the clip, phone_viseme uint8 (P,)
    person uint16, split uint8 (0 training, 1 test), sentence int32 (−1 silence), voice uint8, motion_seed int64, (C,)
    each
labels.npz, N frames:
    landmarks uint16 (N, 106, 2): fraction = value / 32768 − 0.5 (order: landmarks.py), pose float32 (N, 3) radians,
    blink float32 (N, 2) subject's left and right, viseme float32 (N, 7) (visemes.AXES), person uint16 (N,),
    clip int32 (N,), frame int32 (N,) number in its clip, split uint8 (N,), voice uint8 (N,), size, codec
frames.npy (codec raw): uint8 (N, size, size, 3) RGB, to be memory-mapped; clips/NNNNN.mp4 (codec h264): 25 frames/s,
yuv444p. Sets: "announcers-6" (six persons), "calm" (the same, heads turning little), "any" (many persons with about 40
frames each, an eleventh of them only in the test split), "wild" (40 faces, each as three persons with different
clothes, hair, background and light; every fourth in the test split as well). The test split says held-out sentences
only, every fourth clip with the held-out voice.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgetalk.backends import cores
from edgetalk.errors import InputError
from edgetalk.files import replacing

from . import motion, speech
from .announcer import Announcer, Light
from .features import Controls
from .identity import Identity
from .parallel import spread
from .plan import FPS, SAMPLES, SETS, TEST, TRAIN, VISEMES, VOICE_NAMES, Plan, read_plan, write_speech
from .speech import HELD_OUT_VOICES, Phone, Speech

CODECS = ("h264", "raw")
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
    sentence: int
    """Number of its last sentence in sentences.txt, −1 for silence."""
    voice: int
    motion_seed: int


@dataclass(frozen=True)
class Dataset:
    """A set in memory (frames are mapped from disk). Arrays (N, …) as in labels.npz."""

    frames: np.ndarray
    """uint8 (N, size, size, 3) RGB."""
    landmarks: np.ndarray
    """float32 (N, 106, 2), fractions of width and height."""
    pose: np.ndarray
    blink: np.ndarray
    viseme: np.ndarray
    person: np.ndarray
    clip: np.ndarray
    frame: np.ndarray
    split: np.ndarray
    voice: np.ndarray
    """uint8 (N,): number in `voices`."""
    clips: tuple[Clip, ...]
    persons: tuple[str, ...]
    voices: tuple[str, ...]
    """Names; the last is "silence"."""
    plan: Plan

    @property
    def name(self) -> str:
        """Which set it is."""
        return self.plan.name

    @property
    def size(self) -> int:
        return self.frames.shape[1]

    @property
    def train(self) -> np.ndarray:
        """bool (N,): frames for training; the others are for tests."""
        return self.split == TRAIN

    @property
    def held_out_voice(self) -> np.ndarray:
        """bool (N,): frames with a voice that no training clip has."""
        return np.isin(self.voice, [self.voices.index(name) for name in HELD_OUT_VOICES])


@dataclass(frozen=True)
class _Script:
    """speech.npz in memory."""

    plan: Plan
    start: np.ndarray
    """int64 (C + 1,) first frame of each clip."""
    tables: dict[str, np.ndarray]

    @classmethod
    def read(cls, path: Path) -> _Script:
        with np.load(path) as file:
            tables = {name: file[name] for name in file.files if name != "plan"}
        return cls(read_plan(path), tables["samples_bounds"] // SAMPLES, tables)

    def clip(self, i: int) -> Clip:
        first, last = (int(n) for n in self.start[i : i + 2])
        pcm = self.tables["pcm"][first * SAMPLES : last * SAMPLES].astype(np.float32) / np.float32(32767)
        return Clip(
            first,
            last - first,
            pcm,
            *(int(self.tables[name][i]) for name in ("person", "split", "sentence", "voice", "motion_seed")),
        )

    def controls(self, i: int) -> list[Controls]:
        clip, tables = self.clip(i), self.tables
        span = slice(*(int(n) for n in tables["phones_bounds"][i : i + 2]))
        phones = tuple(
            Phone(float(start), float(end), VISEMES[viseme])
            for (start, end), viseme in zip(tables["phone_times"][span], tables["phone_viseme"][span], strict=True)
        )
        turn = self.plan.turn(clip.motion_seed)
        controls = motion.controls(Speech(clip.pcm, phones), FPS, clip.motion_seed)
        return [replace(c, pose=turn * c.pose) for c in controls]


@functools.lru_cache(maxsize=8)
def _announcer(identity: Identity, light: Light, size: int) -> Announcer:
    return Announcer(identity, size, light=light)


def write(
    folder: Path,
    name: str | None = None,
    frames: int | None = None,
    seed: int | None = None,
    size: int = 256,
    codec: str = "h264",
    workers: int | None = None,
    speech_only: bool = False,
) -> None:
    """Write a set to `folder`, or go on with one; name, frames and seed default to those of its speech.npz.

    With `speech_only` the second stage is left to another call, perhaps on another machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "speech.npz"
    plan = read_plan(script) if script.exists() else Plan("announcers-6", 0, 0)
    name = plan.name if name is None else name
    if name not in SETS:
        raise InputError(f"set: got {name!r}, expected one of {', '.join(SETS)}")
    if not script.exists():
        plan = Plan(name, SETS[name], 0)
    plan = Plan(name, plan.frames if frames is None else frames, plan.seed if seed is None else seed)
    if codec not in CODECS or plan.frames < 1 or size < 16:
        raise InputError(
            f"data set: got codec {codec!r}, {plan.frames} frames, size {size}; expected codec raw or "
            "h264, at least one frame, size 16 or more"
        )
    workers = workers or cores()
    write_speech(folder, plan, workers)
    if not speech_only:
        _draw(folder, size, codec, workers)


def _draw(folder: Path, size: int, codec: str, workers: int) -> None:
    """Second stage: pictures and labels, clip by clip."""
    target = folder / "labels.npz"
    if target.exists():
        with np.load(target) as labels:
            found = int(labels["size"]), str(labels["codec"])
        if found != (size, codec):
            raise InputError(f"{target}: got size and codec {found}, expected {(size, codec)}; choose another folder")
        return
    script = _Script.read(folder / "speech.npz")
    start, persons = script.start, script.plan.persons()
    parts = folder / f"draw-{size}-{codec}.parts"
    parts.mkdir(exist_ok=True)
    paths = [parts / f"{i:05d}.npy" for i in range(len(start) - 1)]
    picture_path = folder / "frames.npy.part"
    if codec == "raw":
        shape = (int(start[-1]), size, size, 3)
        if not picture_path.exists() or not any(parts.iterdir()):
            np.lib.format.open_memmap(picture_path, "w+", np.uint8, shape)
    else:
        (folder / "clips").mkdir(exist_ok=True)

    def draw(clip: int) -> int:
        announcer = _announcer(*persons[script.tables["person"][clip]], size)
        controls = script.controls(clip)
        pictures = np.stack([announcer.draw(c) for c in controls])
        if codec == "raw":
            frames = np.lib.format.open_memmap(picture_path, "r+")
            frames[start[clip] : start[clip + 1]] = pictures
            frames.flush()
        else:
            _encode(folder / "clips" / f"{clip:05d}.mp4", pictures)
        with replacing(paths[clip]) as part, part.open("wb") as file:
            np.save(file, np.stack([announcer.landmarks(c) for c in controls]))
        return len(controls)

    missing = [i for i, path in enumerate(paths) if not path.exists()]
    if missing:
        announcer = _announcer(*persons[0], size)  # compiles once, before the workers start
        announcer.draw(Controls())
        announcer.landmarks(Controls())
    spread(draw, missing, workers, "frames", "frame", int(sum(start[i + 1] - start[i] for i in missing)))
    controls = [c for clip in range(len(paths)) for c in script.controls(clip)]
    lengths = np.diff(start)
    with replacing(target) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            landmarks=_packed(np.concatenate([np.load(path) for path in paths])),
            pose=np.array([c.pose for c in controls], np.float32),
            blink=np.array([c.blink for c in controls], np.float32),
            viseme=np.array([c.mouth for c in controls], np.float32),
            **{name: np.repeat(script.tables[name], lengths) for name in ("person", "split", "voice")},
            clip=np.repeat(np.arange(len(paths), dtype=np.int32), lengths),
            frame=np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
            size=size,
            codec=codec,
        )
    if codec == "raw":
        os.replace(picture_path, folder / "frames.npy")
    for path in paths:
        path.unlink()
    parts.rmdir()


def _packed(landmarks: np.ndarray) -> np.ndarray:
    return np.clip((landmarks + 0.5) * 32768, 0, 65535).round().astype(np.uint16)


def _unpacked(landmarks: np.ndarray) -> np.ndarray:
    return landmarks.astype(np.float32) / np.float32(32768) - np.float32(0.5)


def _encode(path: Path, pictures: np.ndarray) -> None:
    import av

    with replacing(path) as part, part.open("wb") as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": str(CRF), "preset": "slow", "threads": "1"})
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv444p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _decode(folder: Path, start: np.ndarray, size: int) -> None:
    """clips/*.mp4 -> frames.npy, once."""
    import av

    part = folder / "frames.npy.part"
    frames = np.lib.format.open_memmap(part, "w+", np.uint8, (int(start[-1]), size, size, 3))
    for clip, first in enumerate(start[:-1]):
        with av.open(str(folder / "clips" / f"{clip:05d}.mp4")) as container:
            for i, frame in enumerate(container.decode(video=0)):
                frames[first + i] = frame.to_ndarray(format="rgb24")
    frames.flush()
    os.replace(part, folder / "frames.npy")


def load(folder: Path | str) -> Dataset:
    """Read a set that `write` has completed; H.264 clips are decoded into frames.npy at the first call."""
    folder = Path(folder)
    if not (folder / "labels.npz").exists():
        raise FileNotFoundError(
            f"{folder}/labels.npz: no complete data set here; make it with `edgetalk data announcers -o {folder}`"
        )
    script = _Script.read(folder / "speech.npz")
    with np.load(folder / "labels.npz") as file:
        labels = dict(file)
    size, codec = int(labels.pop("size")), str(labels.pop("codec"))
    if codec == "h264" and not (folder / "frames.npy").exists():
        _decode(folder, script.start, size)
    frames = np.load(folder / "frames.npy", mmap_mode="c")
    labels["landmarks"] = _unpacked(labels["landmarks"])
    return Dataset(
        frames=frames,
        **labels,
        clips=tuple(script.clip(i) for i in range(len(script.start) - 1)),
        persons=tuple(person.identity.name for person in script.plan.persons()),
        voices=VOICE_NAMES,
        plan=script.plan,
    )


def sample_clip(
    identity: Identity, text: str, voice: str = "slt", fps: float = FPS, seed: int = 0, size: int = 256
) -> tuple[np.ndarray, Speech, list[Controls]]:
    """Someone says something: frames uint8 (n, size, size, 3) RGB, the speech, and the controls of each frame."""
    said = speech.synthesize(text, voice)
    controls = motion.controls(said, fps, seed)
    announcer = Announcer(identity, size)
    return np.stack([announcer.draw(c) for c in controls]), said, controls


def describe(folder: Path) -> str:
    """One line about a complete set."""
    script = _Script.read(folder / "speech.npz")
    lengths, test = np.diff(script.start), script.tables["split"] == TEST
    unheard = np.isin(script.tables["voice"], [VOICE_NAMES.index(name) for name in HELD_OUT_VOICES])
    return (
        f"{script.plan.name}: {lengths[~test].sum()} training frames, {lengths[test].sum()} test frames "
        f"({lengths[unheard].sum()} with the held-out voice), {len(lengths)} clips, "
        f"{len(np.unique(script.tables['person']))} persons"
    )
