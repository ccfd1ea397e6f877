"""Data sets of announcers, written in two resumable stages; amnet/dataset.py reads them and says what every set has.

`write` first makes DIR/speech.npz (needs flite and espeak-ng; small enough to carry to a faster machine) and then draws
it (needs numpy, numba, scipy, OpenCV). The same plan gives the same bytes.

speech.npz has, beyond what every set has:
    seed and names of visemes in its plan
    phones_bounds, phone_times float32 (P, 2) seconds in the clip, phone_viseme uint8 (P,)
    sentence int32 (number of its last sentence in sentences.txt, −1 where it is none), motion_seed int64, (C,) each
labels.npz: viseme float32 (N, 7) (visemes.AXES)

Sets: "announcers-6" (six persons), "calm" (the same, heads turning little), "any" (many persons with about 40
frames each; an eleventh of them in the test split alone, every tenth of the others in both), "wild" (40 faces, each
as three persons with different clothes, hair, background and light; every fourth in the test split as well), "heard"
(the six, each clip in a voice drawn for it, to train what hears; without pictures unless a codec is given). The test
split says held-out sentences only, every fourth clip with the held-out voice.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection
from dataclasses import replace
from math import inf
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from edgetalk.errors import InputError
from edgetalk.files import replacing
from edgetalk.overlap import cores
from edgetalk.train.amnet.dataset import (
    CODECS,
    FPS,
    UNDRAWN,
    Script,
    check_begun_nowhere,
    encode,
    mapped_frames,
    packed,
    read_arrays,
    read_plan,
)
from edgetalk.train.options import check_bounds

from . import motion
from .announcer import Announcer, Light
from .features import Controls
from .identity import Identity
from .parallel import spread
from .plan import SETS, VISEMES, Plan, as_plan, write_speech
from .speech import Phone, Speech

BEGUN = "frames.npy.part"
"""Pictures of a raw set of which some are drawn; the others of their clips are missing in the landmarks, too."""


def _controls(script: Script, plan: Plan, i: int) -> list[Controls]:
    """How the announcer of clip `i` moves."""
    clip, tables, seed = script.clip(i), script.tables, int(script.tables["motion_seed"][i])
    span = slice(*(int(n) for n in tables["phones_bounds"][i : i + 2]))
    phones = tuple(
        Phone(float(start), float(end), VISEMES[viseme])
        for (start, end), viseme in zip(tables["phone_times"][span], tables["phone_viseme"][span], strict=True)
    )
    turn = plan.turn(seed)
    return [replace(c, pose=turn * c.pose) for c in motion.controls(Speech(clip.pcm, phones), FPS, seed)]


@functools.lru_cache(maxsize=8)
def _announcer(identity: Identity, light: Light, size: int) -> Announcer:
    return Announcer(identity, size, light=light)


def write(
    folder: Path,
    name: str | None = None,
    frames: int | None = None,
    seed: int | None = None,
    size: int = 256,
    codec: str | None = None,
    workers: int | None = None,
    speech_only: bool = False,
) -> None:
    """Write a set to `folder`, or go on with one; name, frames and seed default to those of its speech.npz.

    With `speech_only` the second stage is left to another call, perhaps on another machine; with the codec "none" it
    makes the labels alone, about ten times as fast. The codec's default is the set's.
    """
    script = folder / "speech.npz"
    if not script.exists():  # which comes first of all, so that what is there is somebody else's
        check_begun_nowhere(folder)
    plan = as_plan(read_plan(script)) if script.exists() else Plan("announcers-6", 0, 0)
    name = plan.name if name is None else name
    if name not in SETS:
        raise InputError(f"set: got {name!r}, expected one of {', '.join(SETS)}")
    if not script.exists():
        plan = Plan(name, SETS[name].frames, 0)
    plan = Plan(name, plan.frames if frames is None else frames, plan.seed if seed is None else seed)
    if codec is None:
        codec = SETS[name].codec
    if codec not in (*CODECS, UNDRAWN):
        raise InputError(f"codec: got {codec!r}, expected one of {', '.join((*CODECS, UNDRAWN))}; change --codec")
    workers = cores() if workers is None else workers
    given = SimpleNamespace(frames=plan.frames, size=size, seed=plan.seed, workers=workers)
    check_bounds(given, {"frames": (1, inf), "size": (16, inf), "seed": (0, inf), "workers": (1, inf)})
    folder.mkdir(parents=True, exist_ok=True)
    write_speech(folder, plan, workers)
    if not speech_only:
        _draw(folder, size, codec, workers)


def _check_begun(folder: Path, size: int, codec: str) -> None:
    """Raise InputError where clips of another size or codec were begun: what is done of both would be mixed up."""
    for parts in folder.glob("draw-*.parts"):
        told = parts.name.removeprefix("draw-").removesuffix(".parts")
        if told != f"{size}-{codec}" and any(parts.glob("*.npy")):
            begun = "--size {} --codec {}".format(*told.split("-", 1))
            raise InputError(
                f"{folder}: got --size {size} --codec {codec}, but its pictures were begun with {begun}; go on with "
                "these or choose another folder"
            )


def _draw(folder: Path, size: int, codec: str, workers: int) -> None:
    """Second stage: pictures and labels, clip by clip."""
    labels = folder / "labels.npz"
    if labels.exists():
        told = read_arrays(labels)
        found = int(told["size"]), str(told["codec"])
        if found != (size, codec):
            raise InputError(f"{labels}: got size and codec {found}, expected {(size, codec)}; choose another folder")
        return
    _check_begun(folder, size, codec)
    script = Script.read(folder / "speech.npz")
    plan = as_plan(script.plan)
    start, persons = script.start, plan.persons()
    parts = _begin(folder, size, codec, int(start[-1]))
    paths = [parts / f"{i:05d}.npy" for i in range(len(start) - 1)]

    def draw(clip: int) -> int:
        announcer = _announcer(*persons[script.tables["person"][clip]], size)
        controls = _controls(script, plan, clip)
        pictures = (announcer.draw(c) for c in controls)
        if codec == "raw":
            frames = np.lib.format.open_memmap(folder / BEGUN, "r+")
            frames[start[clip] : start[clip + 1]] = list(pictures)
            frames.flush()
        elif codec == "h264":
            encode(folder / "clips" / f"{clip:05d}.mp4", pictures, size)
        with replacing(paths[clip]) as part, part.open("wb") as file:
            np.save(file, np.stack([announcer.landmarks(c) for c in controls]))
        return len(controls)

    missing = [i for i, path in enumerate(paths) if not path.exists()]
    if missing:
        announcer = _announcer(*persons[0], size)  # compiles once, before the workers start
        announcer.draw(Controls())
        announcer.landmarks(Controls())
    spread(draw, missing, workers, "frames", "frame", int(sum(start[i + 1] - start[i] for i in missing)))
    if codec == "raw" and (folder / BEGUN).exists():  # before labels.npz, which says that all is there
        os.replace(folder / BEGUN, folder / "frames.npy")
    controls = [c for clip in range(len(paths)) for c in _controls(script, plan, clip)]
    with replacing(labels) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            landmarks=packed(np.concatenate([np.load(path) for path in paths])),
            pose=np.array([c.pose for c in controls], np.float32),
            blink=np.array([c.blink for c in controls], np.float32),
            viseme=np.array([c.mouth for c in controls], np.float32),
            **script.of_frames(),
            size=size,
            codec=codec,
        )
    for path in paths:
        path.unlink()
    parts.rmdir()


def _begin(folder: Path, size: int, codec: str, frames: int) -> Path:
    """Return the folder of the clips' landmarks, which say what is drawn, with room for pictures of this codec."""
    parts = folder / f"draw-{size}-{codec}.parts"
    parts.mkdir(exist_ok=True)
    raw = [path for path in (folder / BEGUN, folder / "frames.npy") if path.exists()]
    if codec != "raw":
        for path in raw:  # of a set that was begun raw
            path.unlink()
    elif not (raw and any(parts.iterdir())):
        for path in parts.iterdir():  # whose pictures are gone
            path.unlink()
        mapped_frames(folder / BEGUN, frames, size)
    if codec == "h264":
        (folder / "clips").mkdir(exist_ok=True)
    return parts


def portraits(folder: Path, size: int, names: Collection[str]) -> dict[str, np.ndarray]:
    """Those of a set who are called so, facing the camera: uint8 (size, size, 3) RGB by name.

    It is the picture that an avatar would be made of, and in no clip.
    """
    persons = as_plan(read_plan(folder / "speech.npz")).persons()
    return {
        person.identity.name: _announcer(*person, size).draw(Controls())
        for person in persons
        if person.identity.name in names
    }
