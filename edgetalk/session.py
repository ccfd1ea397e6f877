"""A session: one engine and one avatar, and a frame for every step of sound, pose and blink.

What differs between families is read from the graph's inputs and from the metadata, so this file knows none of
them. Playing, writing video and finding faces are left out. One thread at a time may use a session; for several
faces or threads open several: sessions of one file that ask for the same share the engine and its memory.
"""

from __future__ import annotations

import math
import os
import re
import reprlib
import threading
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Picture
from .audio import as_pcm
from .avatar import AvatarLike
from .backends import Arrays
from .bundled import check_picture, find_engine
from .clock import frame_count, frame_rate
from .errors import BackendError, InputError, ModelError
from .fitting import MOVED, Fitter
from .metadata import AudioSpec
from .model import open_model
from .motion import Motion, motion_of
from .picture import PictureLike
from .preprocess import PI, check_array, check_pcm, check_range
from .progress import OnFrame
from .use import check_stated
from .windows import WindowStream, sound_windows

if TYPE_CHECKING:
    from .backdrop import Backdrop
    from .live import Live


class Session:
    """A talking face, ready to speak.

    `engine` is the path of an engine, or the bare name of a bundled model, of which edgetalk/models/NAME.xml is
    taken or else NAME.onnx. `avatar` is an .avatar file, the bare name of a bundled one or an Avatar; STEM.avatar
    beside the engine where none is given. `source` instead prepares a picture, a square crop of an aligned face.
    `device` is "auto" or a device by its engine's name; `use="commercial"` refuses models that may not be used
    commercially; `threads` is the number of CPU threads, None for the engine's choice. `streams` is how many steps of
    different sessions on this engine the CPU does side by side: 1 gives each step all threads, the least latency; 2
    give more frames per second to films and to many faces.

    Raises FileNotFoundError, ModelError, InputError or BackendError.

    >>> with Session("amnet.xml") as session:
    ...     frame = session.step(mel, pose, blink)
    """

    def __init__(
        self,
        engine: str | os.PathLike[str],
        *,
        avatar: AvatarLike | None = None,
        source: PictureLike | None = None,
        device: str = "auto",
        use: str = "any",
        threads: int | None = None,
        streams: int = 1,
    ) -> None:
        check_stated(use)
        if avatar is not None and source is not None:
            raise InputError("avatar and source were both given, expected one of them: which face shall speak?")
        check_picture(source)
        self._path = find_engine(engine)
        self.streams = streams
        """How many steps the engine does side by side."""
        self._closed = False
        self._alone = threading.RLock()  # held in a step; a handler that interrupts one gets it, too
        self._stepping = False
        self._ends = False  # with the step that is interrupted
        self._backend, metadata = open_model(self._path, use=use, device=device, threads=threads, streams=streams)
        self.metadata = metadata
        """What the engine says about itself."""
        try:
            self._open(avatar, source, use, device, threads)
        except BaseException:
            self._backend.close()
            raise

    def _open(
        self, avatar: AvatarLike | None, source: PictureLike | None, use: str, device: str, threads: int | None
    ) -> None:
        backend, name = self._backend, self._path.name
        if "mel" not in backend.inputs or "frame" not in backend.outputs:
            raise ModelError(
                f"{name} makes {', '.join(backend.outputs)} from {', '.join(backend.inputs)}, expected a step that "
                f"makes frame from mel; open {re.sub('-(source|identity)', '', name)} or another engine"
            )
        _, height, width, _ = backend.outputs["frame"].shape
        self.size: tuple[int, int] = (width, height)
        """Of a frame, in pixels: width, height; with an avatar that keeps a film's pictures, of these."""
        self.fps: Fraction = self.metadata.rate
        """Frames per second that the network was trained at; `talk` and `stream` may use another rate."""
        self.landmarks: NDArray[np.float32] | None = None
        """Of the last step, float32 (106, 2), fractions of width and height; an array of its own."""
        self.inputs: dict[str, tuple[int, ...]] = {
            key: backend.inputs[key].shape[1:] for key in MOVED if key in backend.inputs
        }
        """What `step` takes of mel, pose and blink, with the shape of each."""
        # Published checkpoints may want other units, which the metadata names: then only we know no range.
        units = self.metadata.units
        self._ranges = {
            key: limits
            for key, unit, limits in (("pose", "rad", (-PI, PI)), ("blink", "0 open", (0.0, 1.0)))
            if key in self.inputs and unit in units.get(key, unit)
        }
        fitter = Fitter(self._path, backend, self.metadata, device, threads)
        self.avatar = fitter.avatar(avatar, source, use)
        """The face, with its licence, the consent to its use and the person's name."""
        self._features = fitter.features(self.avatar)
        self._backdrop = self._film(width)
        if self._backdrop is not None:
            self.size = self._backdrop.size
        self._frames = max((len(values) for values in self._features.values()), default=1)
        self.shown = 0
        """Index of the avatar's frame in the last picture, as into avatar.film.matrices."""
        self._at = 0  # the next, counted on: an avatar of several frames is played forwards and backwards
        self._fed = False

    def _film(self, side: int) -> Backdrop | None:
        """Return what shows crops of `side` pixels in the avatar's film; None where it keeps no pictures."""
        film = self.avatar.film
        if film is None or film.pictures is None:
            return None
        from .backdrop import Backdrop

        return Backdrop(film, self.metadata.family, side)

    def step(self, mel: ArrayLike, pose: ArrayLike | None = None, blink: ArrayLike | None = None) -> Picture:
        """Return one frame, uint8 (H, W, 3) RGB, in an array of its own.

        `mel` is float32 (T, F), the window of sound that belongs to the frame. `pose` is float32 (3,): yaw, pitch,
        roll in radians. `blink` is float32 (2,): the subject's left and right eye, 0 open to 1 closed. Networks
        that take no pose and blink are called with mel alone. Raises InputError, or BackendError where inference
        fails, another thread is in a step, or the session is closed.
        """
        return self._step(None, mel, pose, blink)

    def _step(
        self, at: int | None, mel: ArrayLike, pose: ArrayLike | None = None, blink: ArrayLike | None = None
    ) -> Picture:
        """Return the frame of a step, which shows the avatar as in step number `at` of its own; None: the next."""
        self.check_open()
        feeds: Arrays = {}
        for name, value in (("mel", mel), ("pose", pose), ("blink", blink)):
            shape = self.inputs.get(name)
            if (value is None) != (shape is None):
                had, wanted = ("none", "one") if value is None else ("one", "none")
                raise InputError(f"{name}: got {had}, {self._path.name} takes {wanted}; see session.metadata")
            if shape is not None and value is not None:
                array = check_array(name, value, shape)
                feeds[name] = array[None]
                if name in self._ranges:
                    check_range(name, array, *self._ranges[name])
        free = self._alone.acquire(blocking=False)
        try:
            if not free or self._stepping:  # two would write into the same arrays
                raise BackendError(
                    f"the session of {self._path.name} was asked for a step while another thread is in one; "
                    "give each thread its own: session.twin()"
                )
            return self._step_alone(at, feeds)
        finally:
            if free:
                self._alone.release()

    def _step_alone(self, at: int | None, feeds: Arrays) -> Picture:
        """Return the frame of checked feeds, in which a signal's handler may close the session."""
        self._stepping = True
        try:
            self.check_open()  # it may have been closed meanwhile
            if at is not None:
                self._at = at
            return self._run(feeds)
        finally:
            self._stepping = False
            if self._ends:
                self._backend.close()

    def _run(self, feeds: Arrays) -> Picture:
        """Return the frame of checked feeds and of the avatar's turn."""
        if self._frames > 1 or not self._fed:
            self.shown = k = _ping_pong(self._at, self._frames)
            feeds |= {key: values[k : k + 1] if len(values) > 1 else values for key, values in self._features.items()}
        results = self._backend.run(feeds)
        self._fed = True
        self._at += 1
        if "landmarks" in results:
            self.landmarks = results["landmarks"][0].copy()
        frame: Picture = results["frame"][0]
        if self._backdrop is not None:
            return self._backdrop.show(self.shown, frame)
        # The backend's buffer is the next step's, too: a copy costs microseconds, and list(session.talk(…)) is right.
        return frame.copy()

    def talk(
        self,
        audio: str | os.PathLike[str] | NDArray[np.float32],
        motion: str | os.PathLike[str] | Motion = "idle",
        seed: int = 0,
        fps: int | float | str | Fraction | None = None,
        face_models: str | os.PathLike[str] | None = None,
    ) -> Iterator[Picture]:
        """Return an iterator over the frames of a whole sound.

        `audio` is a sound file or 16 kHz mono float32 PCM, (N,); `motion` is "idle", "still", a film whose head moves
        so (or its track file), or an object with `pose_blink(i)`; the same seed moves the same way; `fps` is the
        network's rate where None; `face_models` is a folder with the two networks that find the face of such a film
        (None: those in the user's cache). Sound and film are read and checked at once. Raises FileNotFoundError,
        ModelError where the engine does not say how it hears, InputError or BackendError.
        """
        self.check_open()
        spec, rate = self.audio, self._rate(fps)
        pcm = as_pcm(audio)
        if isinstance(audio, np.ndarray):  # whose owner may write into it meanwhile
            pcm = pcm.copy()
        frames = frame_count(len(pcm), rate)
        life = self.motion(motion, seed, rate, frames=frames, face_models=face_models)
        return self._animate(sound_windows(pcm, spec, rate), life, rate)

    def stream(
        self,
        pcm_chunks: Iterable[ArrayLike],
        motion: str | os.PathLike[str] | Motion = "idle",
        seed: int = 0,
        fps: int | float | str | Fraction | None = None,
        face_models: str | os.PathLike[str] | None = None,
    ) -> Iterator[Picture]:
        """Return an iterator over the frames of a sound that arrives in chunks; the same frames as of `talk`.

        Chunks are 16 kHz mono float32 PCM, (N,), of any length. A frame comes as soon as the sound that it looks
        ahead to is there; the end of `pcm_chunks` brings the rest. Raises as `talk`, and InputError where the network
        has to hear the whole sound first or, while this is iterated, where a chunk is no such sound.
        """
        self.check_open()
        if isinstance(pcm_chunks, str | bytes | np.ndarray) or not isinstance(pcm_chunks, Iterable):
            raise InputError(
                f"pcm_chunks: got {type(pcm_chunks).__name__}, expected an iterable of float32 arrays; "
                "pass a whole sound to talk, or as [pcm]"
            )
        spec, rate = self.audio, self._rate(fps)
        stream = WindowStream(spec, rate)

        def cut() -> Iterator[NDArray[np.float32]]:
            for chunk in pcm_chunks:
                yield from stream.push(check_pcm(chunk))
            yield from stream.flush()

        return self._animate(cut(), self.motion(motion, seed, rate, face_models=face_models), rate)

    def live(
        self,
        motion: str | os.PathLike[str] | Motion = "idle",
        seed: int = 0,
        fps: int | float | str | Fraction | None = None,
        face_models: str | os.PathLike[str] | None = None,
        lead: float = 0.0,
        most: float = math.inf,
    ) -> Live:
        """Return the face in real time, which speaks when something is said to it and idles meanwhile: see Live.

        `motion`, `seed`, `fps` and `face_models` are as of `talk`. `lead` is how many seconds of sound are to be there
        before it begins: as many as the pieces last in which it comes, and it has no hole. `most` bounds how many wait:
        of a sound that never ends, such as a microphone's, what comes in a stop would delay all that follows. Where
        more wait, all but the last piece, or the lead, is forgotten. Raises as `stream`, and at once where the network
        can hear no live sound.
        """
        from .live import Live

        self.check_open()
        rate = self._rate(fps)
        return Live(self, self.motion(motion, seed, rate, face_models=face_models), rate, lead, most)

    def motion(
        self,
        motion: str | os.PathLike[str] | Motion,
        seed: int,
        rate: int | float | str | Fraction,
        *,
        frames: int | None = None,
        face_models: str | os.PathLike[str] | None = None,
        progress: OnFrame | None = None,
    ) -> Motion:
        """Return the motion that `motion` means for this network, as motion_of does within its limits.

        Raises InputError too where it is any but "idle" and the network takes no pose, before a film is looked at.
        """
        if "pose" not in self.inputs and isinstance(motion, str | os.PathLike) and motion != "idle":
            raise InputError(
                f"motion: got {motion}, and {self._path.name} takes no pose, its head moves as in the avatar's film; "
                "leave it out"
            )
        limits, fps = self.metadata.limits, frame_rate(rate)
        return motion_of(motion, seed, fps, limits=limits, frames=frames, face_models=face_models, progress=progress)

    def _animate(self, cut: Iterable[NDArray[np.float32]], move: Motion, rate: Fraction) -> Iterator[Picture]:
        for i, window in enumerate(cut):
            yield self.frame(i, window, move, rate)

    def frame(self, i: int, mel: NDArray[np.float32], motion: Motion, rate: int | float | str | Fraction) -> Picture:
        """Return frame number `i` of a film at `rate`, as `step` does, for its window of sound, moved by `motion`.

        The avatar is shown as at the middle of that frame's time: its frames follow each other at the network's rate,
        whatever that of the film is.
        """
        at = int((i + Fraction(1, 2)) * self.fps / frame_rate(rate))
        if "pose" not in self.inputs:
            return self._step(at, mel)
        moved = motion.pose_blink(i)
        try:
            pose, blink = moved
        except (TypeError, ValueError):
            raise InputError(
                f"motion: pose_blink({i}) gave {reprlib.repr(moved)}, expected two arrays, pose (3,) and blink (2,)"
            ) from None
        return self._step(at, mel, pose, blink)

    @property
    def device(self) -> str:
        """Where the engine runs, at what precision, and why there; a GPU may know only after some steps."""
        return getattr(self._backend, "device", "not told by the backend")

    @property
    def audio(self) -> AudioSpec:
        """How the network hears; raises ModelError where its metadata does not say it."""
        return self.metadata.hears(self._path.name)

    def _rate(self, fps: int | float | str | Fraction | None) -> Fraction:
        return self.fps if fps is None else frame_rate(fps)

    def check_open(self) -> None:
        """Raise BackendError where it was closed."""
        if self._closed:
            raise BackendError(f"the session of {self._path.name} is closed; open a new one")

    def twin(self) -> Session:
        """Return another session with the same face on the same engine, to be used in another thread and closed."""
        self.check_open()
        other = object.__new__(type(self))
        other.__dict__ |= self.__dict__
        other._backend, other._alone, other._stepping = self._backend.twin(), threading.RLock(), False
        other.shown, other._at, other._fed, other.landmarks = 0, 0, False, None
        return other

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Session cannot be copied or pickled: open one in each process, and for each thread a twin()")

    def close(self) -> None:
        """Free the engine, after the step that another thread may be in; may be called twice. Frames stay readable."""
        self._closed = True  # first: no other step begins
        with self._alone:
            if self._stepping:  # a signal's handler is here, and the step that it interrupts has to end first
                self._ends = True
            else:
                self._backend.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _ping_pong(step: int, frames: int) -> int:
    """0, 1, … frames - 1, frames - 2, … 1, 0, 1, …"""
    if frames == 1:
        return 0
    at = step % (2 * frames - 2)
    return min(at, 2 * frames - 2 - at)
