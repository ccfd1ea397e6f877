"""Films of real people for training: pictures at 25 per second with the tracked face, and the sound beside them.

`frames` walks a film once, `sound` reads its speech at 16 kHz, cut to begin with the first picture and as loud as the
announcers'. Crops and labels are made of them elsewhere (filmed.py is AMNet's data set).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from edgetalk import audio
from edgetalk.clock import SAMPLE_RATE
from edgetalk.errors import InputError
from edgetalk.face import Face
from edgetalk.files import plain
from edgetalk.planes import to_rgb
from edgetalk.preprocess import Picture
from edgetalk.reader import Reader
from edgetalk.targets import Faces

from .announcers.speech import levelled

FPS = Fraction(25)


class Frame(NamedTuple):
    """One frame at 25 per second."""

    picture: Picture
    """uint8 (H, W, 3) RGB: what the film shows at the middle of the frame's time."""
    face: Face | None
    scene: int
    """How many cuts come before it."""


def frames(film: Reader, faces: Faces, fps: Fraction = FPS) -> Iterator[Frame]:
    """Yield the frames of a film at `fps`; `faces` sees every picture, also where fewer are yielded.

    >>> film = Reader("ada.mp4")
    >>> with closing(Faces(film)) as faces:  # a track file beside the film, else the tracker
    ...     for picture, face, scene in frames(film, faces): ...
    """
    width, height = film.size
    shown = 0
    for index, planes in enumerate(film.planes()):
        face = faces.of(index, planes)
        picture = None
        while int((shown + Fraction(1, 2)) * film.fps / fps) == index:
            picture = to_rgb(planes)[:height, :width] if picture is None else picture
            yield Frame(picture, face, faces.scene(index))
            shown += 1


def sound(film: Reader) -> np.ndarray:
    """Return the sound of a film from its first picture on, float32 (N,) at 16 kHz, levelled as the announcers' is.

    Raises InputError where it has none, or nothing but silence.
    """
    pcm = audio.read(film.path)
    if not pcm.any():
        raise InputError(f"{film.path} is silent throughout; expected somebody who speaks")
    late = round(_lead(film) * SAMPLE_RATE)
    return levelled(pcm[late:] if late >= 0 else np.pad(pcm, (-late, 0)))


def _lead(film: Reader) -> Fraction:
    """Seconds by which the sound of a file begins before its pictures."""
    import av

    with av.open(plain(film.path)) as container:
        covers = int(av.stream.Disposition.attached_pic)
        pictures = next(s for s in container.streams.video if not int(s.disposition) & covers)
        begins = [(stream.start_time or 0) * stream.time_base for stream in (pictures, container.streams.audio[0])]
    return begins[0] - begins[1]
