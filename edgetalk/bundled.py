"""The models and faces that come with edgetalk, and the bare names by which they are called."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from .backends import FALLBACKS
from .errors import InputError, word

MODELS = Path(__file__).with_name("models")
SENTENCE = MODELS / "demo.flac"  # what the bundled announcer says


def find_engine(engine: str | os.PathLike[str]) -> Path:
    """Return the path of an engine; a bare name, without folder and suffix, means a bundled model.

    What is called as a bundled model in the current folder does not hide it: ./NAME does.
    """
    _check_name("engine", engine, "the path of an engine, or a bundled model's name, as amnet")
    path = Path(engine)
    if path.suffix or os.path.dirname(engine):
        bundled = path.suffix.lower() in FALLBACKS and any(
            (MODELS / f"{path.stem}{kind}").is_file() for kind in FALLBACKS
        )
        if bundled and not path.exists():
            message = f"No such engine; the bundled model is called by its bare name, {path.stem}"
            raise FileNotFoundError(errno.ENOENT, message, str(path))
        return path
    for suffix in FALLBACKS:  # int8 for the CPU, then f32
        found = MODELS / f"{path.name}{suffix}"
        if found.is_file():
            return found
    if path.exists():
        return path
    there = sorted({file.stem for file in MODELS.glob("*") if file.suffix in FALLBACKS})
    names = ", ".join(stem for stem in there if not stem.endswith(("-source", "-identity"))) or "none"
    raise FileNotFoundError(
        f"no bundled model is called {path.name}; bundled here: {names}; or pass the path of an engine"
    )


def find_avatar(avatar: str | os.PathLike[str]) -> Path:
    """Return the path of an avatar; a bare name, without folder and suffix, means a bundled face."""
    _check_name("avatar", avatar, "the path of an .avatar file, or a bundled face's name, as ada")
    path = Path(avatar)
    if path.suffix or os.path.dirname(avatar):
        if path.suffix.lower() == ".avatar" and _is_face(path.stem) and not path.exists():
            message = f"No such avatar; the bundled face is called by its bare name, {path.stem}"
            raise FileNotFoundError(errno.ENOENT, message, str(path))
        return path
    for found in (MODELS / f"{path.name}.avatar", path):
        if found.exists():
            return found
    names = ", ".join(sorted(file.stem for file in MODELS.glob("*.avatar"))) or "none"
    raise FileNotFoundError(f"no bundled avatar is called {path.name}; bundled here: {names}; or pass the path of one")


def _check_name(what: str, given: object, expected: str) -> None:
    """Raise InputError where what names an engine or an avatar is no name, or an empty one."""
    if not isinstance(given, str | os.PathLike):
        raise InputError(f"{what}: got {type(given).__name__}, expected {expected}")
    if not os.fspath(given):
        raise InputError(f"{what}: got an empty name, expected {expected}")


def is_face(name: str) -> bool:
    """Whether a bare name means a bundled face, and no bundled model of that name as well."""
    return _is_face(name) and not any((MODELS / f"{name}{suffix}").is_file() for suffix in FALLBACKS)


def _is_face(name: str) -> bool:
    return bool(name) and Path(name).name == name and (MODELS / f"{name}.avatar").is_file()


def check_picture(picture: object) -> None:
    """Raise FileNotFoundError if `picture` is the name of a bundled face and not a file."""
    if not isinstance(picture, str | os.PathLike) or os.path.exists(picture):
        return
    name = os.fspath(picture)
    if _is_face(name.removesuffix(".avatar")):
        message = f"No such picture; {name.removesuffix('.avatar')} is a bundled face: pass it as avatar= or --avatar"
        raise FileNotFoundError(errno.ENOENT, message, name)


def is_bundled(path: Path) -> bool:
    """Whether a file is one of the bundled models and faces, or of the film to dub."""
    return MODELS in path.parents


def called(engine: Path) -> str:
    """Return how a suggested command names an engine: a bundled one by its bare name."""
    return engine.stem if is_bundled(engine) else word(engine.name)
