"""Files that appear whole or not at all, alone or as a set, and what tells files apart."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import InputError, word

PARTS = ".edgetalk-*.part"
"""Folders that `together` fills; a kill leaves them behind."""


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file's bytes, as hexadecimal digits."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def plain(path: str | os.PathLike[str]) -> str:
    """Return the path that FFmpeg takes for a file's: of a relative one with a colon it takes the start for a protocol.

    >>> plain("take-12:30.mp4")
    '/home/ada/take-12:30.mp4'
    """
    return os.path.abspath(path)


def check_folder(path: str | os.PathLike[str]) -> None:
    """Raise FileNotFoundError where there is no such folder, NotADirectoryError where it or one above is a file."""
    if not os.path.isdir(path):
        for above in (Path(path), *Path(path).parents):
            if above.is_file():
                message = "Is a file, a folder was expected to write into; name another"
                raise NotADirectoryError(errno.ENOTDIR, message, str(above))
        raise FileNotFoundError(errno.ENOENT, f"No such folder; make it: mkdir -p {word(path)}", os.fspath(path))


def check_kept(path: str | os.PathLike[str], *inputs: object) -> None:
    """Raise InputError where writing `path` would replace one of `inputs`; those that are no paths are passed over."""
    target = Path(path)
    for given in inputs if target.exists() else ():
        if isinstance(given, str | os.PathLike) and os.path.exists(given) and target.samefile(given):
            raise InputError(f"{path} is read and would be written over; give the result another name")


def check_place(path: str | os.PathLike[str], *inputs: object) -> None:
    """Say at once, and not after the work, that no file can be written to `path`, or that it would replace an input.

    Inputs that are no paths are passed over. Raises FileNotFoundError, NotADirectoryError, IsADirectoryError,
    InputError, and as `claim`.
    """
    target = Path(path)
    check_folder(target.parent)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "Is a folder, a file was to take its name", str(target))
    check_kept(path, *inputs)
    part, held = claim(path)
    with contextlib.closing(held):
        part.unlink()  # before it is let go: then it may be another's


@contextlib.contextmanager
def named(part: Path, path: str | os.PathLike[str]) -> Iterator[None]:
    """Re-raise an OSError about NAME.part, or about no file (a full disk), as one about NAME.

    That is the only name the caller knows.
    """
    try:
        yield
    except OSError as error:
        is_folder = isinstance(error, IsADirectoryError) and error.filename2 is None  # to be taken away, so found
        if is_folder or error.filename not in (None, str(part), plain(part)):
            raise
        # FFmpeg's own would take no other name.
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from error


def claim(path: str | os.PathLike[str]) -> tuple[Path, IO[bytes]]:
    """Return NAME.part, empty, and what keeps other processes from writing it until it is closed.

    What a killed process has left is taken over. Raises BlockingIOError where another writes the file now, and OSError
    where it cannot be written.
    """
    target = Path(path)
    part = target.with_name(target.name + ".part")
    while True:
        with named(part, target):
            held = part.open("ab")
        try:
            locked = _lock(held)
            if os.path.samestat(os.fstat(held.fileno()), os.stat(part)):
                held.truncate(0)
                if not locked:
                    held.close()  # Windows renames no file that is open
                return part, held
        except BlockingIOError:
            held.close()
            message = "Another process is writing it; wait, or name another file"
            raise BlockingIOError(errno.EAGAIN, message, str(target)) from None
        except FileNotFoundError:
            pass
        held.close()  # meanwhile its writer has given it its name, or removed it


def _lock(file: IO[bytes]) -> bool:
    """Lock a file until it is closed; False where the system cannot. Raises BlockingIOError where somebody has."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        pass
    return True


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield NAME.part, to be written; it gets the name NAME when the block ends, and vanishes when it raises.

    Raises as `claim`.

    >>> with replacing("report.json") as part:
    ...     part.write_text("{}")
    """
    part, held = claim(path)
    with contextlib.closing(held), named(part, path):
        try:
            yield part
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def together(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder; its files move into `folder` when the block ends, and vanish when it raises.

    Existing files of the same names are replaced. Raises FileNotFoundError where `folder` does not exist and
    IsADirectoryError where one of the names is a folder there; nothing has been replaced then.
    """
    target = Path(folder)
    check_folder(target)
    try:
        prefix, suffix = PARTS.split("*")
        parts = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=target))
    except OSError as error:
        error.filename = str(target)
        raise
    try:
        yield parts
        files = sorted(parts.iterdir())
        for file in files:
            name = target / file.name
            if name.is_dir():
                raise IsADirectoryError(errno.EISDIR, "Is a folder, a file was to take its name", str(name))
        for file in files:
            os.replace(file, target / file.name)
    finally:
        shutil.rmtree(parts, ignore_errors=True)
