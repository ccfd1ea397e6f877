"""Films of real people for training: pictures at 25 per second with the tracked face, and the sound beside them.

`people` tells who is in which film, `frames` walks a film once, `sound` reads its speech at 16 kHz, as loud as the
announcers'. Crops and labels are made of them elsewhere (dataset.py is AMNet's data set).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgetalk import audio
from edgetalk.arrays import Picture
from edgetalk.errors import InputError
from edgetalk.face import Face
from edgetalk.planes import to_rgb
from edgetalk.reader import Reader
from edgetalk.targets import Faces
from edgetalk.train.announcers.speech import levelled

FPS = Fraction(25)
SUFFIXES = tuple(".3gp .avi .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split())
"""Of what is taken for a film in a folder; a file that is named may have any."""


class Person(NamedTuple):
    """Somebody and the films that show this person."""

    name: str
    films: tuple[Path, ...]


def people(paths: Sequence[Path]) -> list[Person]:
    """Return who is filmed, by name: each film is somebody, each sub-folder with films in it is one person.

    Warns of what lies among them and is no film by its name. Raises FileNotFoundError, and InputError where a folder
    has no film or two persons would have one name.
    """
    found, other = [], []
    for path in paths:
        if not path.is_dir():
            path.stat()  # the system's own words where it is not there
            found.append(Person(path.stem, (path,)))
            continue
        inside = [Person(film.stem, (film,)) for film in _films(path)]
        inside += [Person(one.name, there) for one in _seen(path) if one.is_dir() and (there := _films(one))]
        if not inside:
            raise InputError(
                f"{path}: got a folder without a film, expected {', '.join(SUFFIXES)}, or a folder of them for each "
                "person"
            )
        found += inside
        other += _others(path)
    if other:
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        warnings.warn(
            f"{', '.join(map(str, other[:3]))}{more}: passed over, no film by its name; those end in "
            f"{', '.join(SUFFIXES)}",
            stacklevel=2,
        )
    names = [person.name for person in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"films: got two persons called {twice[0]!r}, expected another name for each; put all films of one person "
            "into a folder of their own"
        )
    return sorted(found)


def _films(folder: Path) -> tuple[Path, ...]:
    return tuple(path for path in _seen(folder) if path.is_file() and path.suffix.lower() in SUFFIXES)


def _others(folder: Path) -> list[Path]:
    """Return what is in a folder and its sub-folders besides films and their tracks: a film may be among it."""
    found = []
    for path in _seen(folder):
        if path.is_dir():
            found += [one for one in _seen(path) if not _is_known(one)] if _films(path) else [path]
        elif not _is_known(path):
            found.append(path)
    return found


def _is_known(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES or path.name.endswith(".track.npz")


def _seen(folder: Path) -> list[Path]:
    """Return what is in a folder, without what is hidden: beside FILM some systems leave a ._FILM that is none."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def refusal(bad: Sequence[str]) -> str:
    """Return in one sentence why films cannot be used, of which each has its reason in `bad`."""
    others = f", and {len(bad) - 1} other film{'s' if len(bad) > 2 else ''} cannot be used either"
    return f"{bad[0]}{others if len(bad) > 1 else ''}; put that right or take it away, and give the same command again"


class Frame(NamedTuple):
    """One frame at 25 per second."""

    picture: Picture
    """uint8 (H, W, 3) RGB: what the film shows at the middle of the frame's time."""
    face: Face | None
    scene: int
    """How many cuts come before it."""


def frames(film: Reader, faces: Faces | None, fps: Fraction = FPS) -> Iterator[Frame]:
    """Yield the frames of a film at `fps`; `faces` sees every picture, also where fewer are yielded.

    Without `faces` nobody looks: no face, and everything is one scene.

    >>> film = Reader("ada.mp4")
    >>> with closing(Faces(film)) as faces:  # a track file beside the film, else the tracker
    ...     for picture, face, scene in frames(film, faces): ...
    """
    width, height = film.size
    shown = 0
    for index, planes in enumerate(film.planes()):
        face, scene = (faces.of(index, planes), faces.scene(index)) if faces is not None else (None, 0)
        picture = None
        while int((shown + Fraction(1, 2)) * film.fps / fps) == index:
            picture = to_rgb(planes)[:height, :width] if picture is None else picture
            yield Frame(picture, face, scene)
            shown += 1


def sound(film: Reader) -> np.ndarray:
    """Return the sound of a film from its first picture on, float32 (N,) at 16 kHz, levelled as the announcers' is.

    Raises InputError where it has none, or nothing but silence.
    """
    pcm = audio.read(film.path)
    if not pcm.any():
        raise InputError(f"{film.path} is silent throughout; expected somebody who speaks")
    return levelled(pcm)
