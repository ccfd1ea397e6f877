"""Avatars of films: somebody who turns and blinks by himself, prepared for a network that repaints his face.

Each frame of the film is tracked, cropped and put through the source engine once, with the identity of the portrait
whose face it is given; what is left for every frame of sound is the network's step, and to put what it paints into the
picture (backdrop.py), where the avatar keeps the film's pictures. Dubbing a film without an avatar is in dubbing.py.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import Picture
from .avatar import FRAMES, Avatar, Film, check_words, halved, make_avatar, open_source
from .backdrop import code, pile
from .backends import Backend, shared_device
from .bundled import find_engine
from .errors import InputError, ModelError, counted
from .face.track import JAW
from .metadata import Metadata
from .picture import PictureLike
from .planes import crop
from .portrait import aligned, extract, extractor
from .preprocess import crop_matrix, square_crop
from .progress import OnFrame
from .reader import Reader
from .targets import Faces
from .use import terms, warn_of_drawn

SECONDS = 10.0
"""Of a film that an avatar keeps where nothing else is said; it goes back and forth."""


class Crop(NamedTuple):
    """The face in one frame of a film."""

    picture: Picture
    matrix: NDArray[np.float64]
    at: int
    """Index of the picture in the film."""
    box: NDArray[np.float32]
    scene: int
    """Number of the scene that the picture is of."""
    jaw: NDArray[np.float32] | None
    coded: NDArray[np.uint8] | None
    """The whole picture, where it is kept."""


def make_film_avatar(
    engine: str | os.PathLike[str],
    video: str | os.PathLike[str],
    portrait: PictureLike,
    *,
    track: str | os.PathLike[str] | None = None,
    face: int | str | os.PathLike[str] = "largest",
    seconds: float = SECONDS,
    pictures: bool = True,
    identity: str | os.PathLike[str] | None = None,
    face_models: str | os.PathLike[str] | None = None,
    licence: str = "",
    consent: str = "",
    name: str = "",
    use: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    tracking: OnFrame | None = None,
    progress: OnFrame | None = None,
) -> Avatar:
    """Prepare a film, with the face of a portrait, for the network whose step is `engine`.

    `engine` is a file, or the bare name of a bundled model. `video` is anything that FFmpeg reads, of which the first
    `seconds` are used: of these, the longest stretch in which the face is seen, without a cut. `portrait` is a picture
    of the person whose face is painted, `track` a track file (default: VIDEO-stem.track.npz beside the film, else
    the face is tracked), `face` which face: "largest", an index from the left, or a portrait of the person to follow.
    With `pictures` the avatar keeps the film's, and speaks in them; without, a session gives the network's crops.
    `identity` is the extractor's engine (default: what stands beside the step), `face_models` a folder with the two
    networks that find faces in film and portrait (default: those in the user's cache). `device` and `threads` are as
    of `open_engine`, the device that of the step; licence, consent, name and use are as of `Avatar`, use None is what
    source engine and extractor allow. `tracking(done, total)` is called after every frame that was read and tracked,
    then `progress(done, total)` after every frame that was prepared.

    Raises FileNotFoundError, ModelError where an engine is missing or is none that prepares films, InputError where
    film, track or portrait cannot be used or show no face, or `use` is none of a face or more than the engines allow,
    and BackendError.
    """
    check_words(licence, consent, name, use)
    if not 0 < seconds < math.inf:
        raise InputError(f"seconds: got {seconds}, expected a number above 0")
    path = find_engine(engine)
    source, metadata = open_source(path, FRAMES, device, threads)
    with closing(source):
        size = source.inputs["target"].shape[1]
        film = Reader(video)
        found = extractor(path, identity)
        at = shared_device(device, path, found)
        cut = aligned(portrait, face_models)
        seen = extract(found, cut, weights=metadata.identity, device=at, threads=threads)
        licence, use = terms(licence, use, (f"{path.stem}-source", metadata), (found.name, seen.metadata))
        total = max(1, round(seconds * metadata.rate))
        if film.length:
            total = min(total, max(1, int(film.length / film.fps * metadata.rate)))
        with closing(Faces(film, track, face, face_models)) as faces:
            crops = _longest(_crops(film, faces, metadata, size, total, pictures, tracking), film.path.name)
        made = Film(
            target=np.stack([c.picture for c in crops]),
            matrices=np.stack([c.matrix for c in crops]).astype(np.float32),
            at=np.array([c.at for c in crops], np.float32),
            identity=seen.identity,
            size=film.size,
            fps=film.fps,
            jaws=np.stack([np.full(JAW, np.nan) if c.jaw is None else c.jaw for c in crops]).astype(np.float32),
            pictures=pile([c.coded for c in crops if c.coded is not None]) if pictures else None,
        )
        features = _features(source, f"{path.stem}-source", made, progress)
    warn_of_drawn(metadata.faces, path.stem, video)
    return Avatar(
        source=seen.crop,
        features=features,
        boxes=np.stack([c.box for c in crops]),
        family=metadata.family,
        weights=metadata.onnx,
        licence=licence,
        consent=consent,
        name=name,
        use=use,
        film=made,
    )


def recompute(
    avatar: Avatar,
    engine: Path,
    *,
    identity: str | os.PathLike[str] | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Avatar:
    """Return an avatar, of a film or of a picture, with features of the weights beside `engine`, and their terms.

    They are made from the pictures that it carries; `identity` is as of make_film_avatar. Raises as that.
    """
    stated = None if avatar.use == "any" else avatar.use  # by what prepared it first, or by its person
    if avatar.film is None:
        made = make_avatar(engine, avatar.source, licence=avatar.licence, use=stated, device=device, threads=threads)
        changes = {key: getattr(made, key) for key in ("features", "family", "weights", "licence", "use")}
        return replace(avatar, **changes)
    source, metadata = open_source(engine, FRAMES, device, threads)
    with closing(source):
        size = source.inputs["target"].shape[1]
        if avatar.film.target.shape[1] != size:
            raise ModelError(
                f"the avatar has crops of {avatar.film.target.shape[1]} pixels and {engine.name} takes {size}; "
                "prepare it again from its film"
            )
        found = extractor(engine, identity)

        def cut(template: str, side: int) -> Picture:
            return square_crop(avatar.source, side)

        at = shared_device(device, engine, found)
        seen = extract(found, cut, weights=metadata.identity, device=at, threads=threads)
        licence, use = terms(avatar.licence, stated, (f"{engine.stem}-source", metadata), (found.name, seen.metadata))
        film = replace(avatar.film, identity=seen.identity)
        features = _features(source, f"{engine.stem}-source", film, None)
    return replace(
        avatar,
        features=features,
        family=metadata.family,
        weights=metadata.onnx,
        licence=licence,
        use=use,
        film=film,
    )


def _crops(
    film: Reader, faces: Faces, metadata: Metadata, size: int, total: int, pictures: bool, tracking: OnFrame | None
) -> Iterator[Crop | None]:
    """Yield the face, or None, for frames at the network's rate: each shows the picture at the middle of its time."""
    shown, read = 0, film.planes()
    for index, planes in enumerate(read):
        face = faces.of(index, planes)
        wanted = []
        while shown < total and int((shown + Fraction(1, 2)) * film.fps / metadata.rate) == index:
            wanted.append(shown)
            shown += 1
        found = None
        if wanted and face is not None:
            matrix = crop_matrix(metadata.family, face.points, size)
            picture = crop(planes, matrix, size)
            if picture is not None:  # else it lies outside
                coded = code(planes, film.size, film.pixel_aspect) if pictures else None
                found = Crop(picture, matrix, index, face.box, faces.scene(index), face.jaw, coded)
        yield from (found for _ in wanted)
        if wanted and tracking is not None:
            tracking(shown, total)
        if shown == total:
            break
    faces.check_end(read)


def _longest(crops: Iterator[Crop | None], name: str) -> list[Crop]:
    """Return the longest stretch of frames with a face and without a cut; going back and forth, it must not jump."""
    best: list[Crop] = []
    run: list[Crop] = []
    count = 0
    for found in crops:
        count += 1
        if found is None or (run and run[-1].scene != found.scene):
            run = []
        if found is not None:
            run.append(found)
            best = max(best, run, key=len)
    if not best:
        raise InputError(
            f"{name} shows no face in its first {counted(count, 'frame')}; there is nobody to make an avatar of"
        )
    return best


def _features(source: Backend, name: str, film: Film, progress: OnFrame | None) -> dict[str, NDArray[np.float16]]:
    """Return what the source engine makes of every frame, the frames along the first axis."""
    features: dict[str, NDArray[np.float16]] = {}
    count = len(film.target)
    reference = film.reference
    for i in range(count):
        feeds = {"target": film.target[i : i + 1], "reference": reference[i : i + 1]}
        try:
            made = halved(source.run(feeds if i else feeds | {"identity": film.identity}), name)
        except InputError as error:
            raise ModelError(f"{name} does not take what its extractor makes ({error}); build both again") from error
        for key, value in made.items():
            features.setdefault(key, np.empty((count, *value.shape[1:]), np.float16))[i] = value[0]
        if progress is not None:
            progress(i + 1, count)
    return features
