"""Motion from a driving film: the head turns and blinks as the one in the film does.

Pose and blinks come from the film's track file where there is one, else from the tracker. The film keeps its own time:
its frames are interpolated to the rate that is wanted, and where the sound is longer it runs back and forth. While the
face is away its pose goes evenly from where it left to where it comes back, eyes open. Expression and mouth are not
taken over.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from .arrays import Array
from .errors import InputError, counted
from .face import Face, Tracker, read_track, track_beside
from .progress import OnFrame

CUT = 0.3  # radians from frame to frame, which no head turns: two scenes, between which nothing is interpolated


class Driven:
    """The motion of a face in a film of `film_fps`, at `fps`; implements edgetalk.motion.Motion.

    `limits` is how far the network was trained to turn, by "pose": yaw, pitch, roll in radians; it clips what goes
    beyond. Raises InputError where no frame has a face.

    >>> pose, blink = Driven(read_track("film.track.npz").faces, Fraction(30000, 1001), Fraction(25)).pose_blink(100)
    """

    def __init__(
        self,
        faces: Sequence[Face | None],
        film_fps: Fraction,
        fps: Fraction,
        limits: Mapping[str, Sequence[float]] | None = None,
        name: str = "the film",
    ) -> None:
        seen = {i: face for i, face in enumerate(faces) if face is not None}
        if not seen:
            raise InputError(
                f"{name} shows no face in {counted(len(faces), 'frame')}; expected somebody who looks at the camera"
            )
        self._pace = film_fps / fps
        every = np.arange(len(faces))
        there = np.array(list(seen))
        known = np.array([face.pose for face in seen.values()], np.float64)
        self._pose = np.stack([np.interp(every, there, known[:, axis]) for axis in range(3)], 1)
        self._blink = np.zeros((len(faces), 2))
        self._blink[there] = np.clip([face.blink for face in seen.values()], 0, 1)
        if limits and "pose" in limits:
            self._pose = np.clip(self._pose, -np.asarray(limits["pose"]), limits["pose"])

    def pose_blink(self, i: int) -> tuple[Array, Array]:
        """Return pose, float32 (3,): yaw, pitch, roll in radians; and blink, float32 (2,), of frame i >= 0."""
        last = len(self._pose) - 1
        at = i * self._pace % (2 * last) if last else Fraction(0)  # 0 … last … 0, as often as it takes
        at = min(at, 2 * last - at)
        before = math.floor(at)
        after = min(before + 1, last)
        share = float(at - before)
        if np.abs(self._pose[after] - self._pose[before]).max() > CUT:
            share = round(share)
        pose, blink = (
            (values[before] + share * (values[after] - values[before])).astype(np.float32)
            for values in (self._pose, self._blink)
        )
        return pose, blink


def drive(
    film: str | os.PathLike[str],
    fps: Fraction,
    *,
    limits: Mapping[str, Sequence[float]] | None = None,
    frames: int | None = None,
    face_models: str | os.PathLike[str] | None = None,
    progress: OnFrame | None = None,
) -> Driven:
    """Return the motion of the largest face of a film, or of a track file (.npz), for frames at `fps`.

    FILM-stem.track.npz beside the film is taken where it is there, else the film is tracked, with the networks in
    the folder `face_models` (None: those in the user's cache). `frames` is how many frames the motion is for: the
    film is tracked no longer. `progress(done, total)` is called after every frame that is tracked. Raises
    FileNotFoundError, InputError where it is no film or shows no face, BackendError where nothing was fetched.
    """
    path = Path(film)
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "No such film to drive the head", str(path))
    track = path if path.suffix.lower() == ".npz" else track_beside(path)
    if track is not None:
        tracked = read_track(track)
        return Driven(tracked.faces, tracked.fps, fps, limits, track.name)
    from .reader import Reader

    pictures = Reader(path)
    needed = None if frames is None else math.ceil((frames - 1) * pictures.fps / fps) + 2
    promised = min((n for n in (needed, pictures.length) if n), default=0)
    faces: list[Face | None] = []
    with Tracker(pictures.fps, face_models=face_models) as tracker:
        for picture in islice(pictures, needed):
            seen = tracker.update(picture)
            faces.append(seen and seen.without_mesh())
            if progress is not None:
                progress(len(faces), max(promised, len(faces)))
    return Driven(faces, pictures.fps, fps, limits, path.name)
