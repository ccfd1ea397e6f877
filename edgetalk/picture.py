"""Pictures out of files, whole ones only, and into files."""

from __future__ import annotations

import os
import re
import threading
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .arrays import Picture
from .errors import InputError
from .files import replacing

PictureLike = str | os.PathLike[str] | Picture
"""A file, or uint8 (H, W, 3) RGB."""

WRITTEN = (".jpg", ".jpeg", ".png")
QUALITY = 92  # of JPEG

_QUIET = threading.Lock()  # over OpenCV's log level, which is one for all threads

# Where a segment of a JPEG begins, or its end; the others stand among the bits of a picture.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")


def name_of(picture: PictureLike, otherwise: str) -> str:
    """Return what a message calls a picture: its file's name, `otherwise` where it is an array."""
    return otherwise if isinstance(picture, np.ndarray) else Path(picture).name


def read_picture(picture: PictureLike) -> Picture:
    """Return a picture as uint8 (H, W, 3) RGB, from a file that OpenCV reads or from such an array.

    Grey becomes RGB, transparency is dropped, 16 bits become 8, and the camera's rotation is applied. Raises
    FileNotFoundError, and InputError where the file is no picture or the array is none.
    """
    if not isinstance(picture, str | os.PathLike):
        if not isinstance(picture, np.ndarray):
            got = type(picture).__name__
            raise InputError(f"picture: got {got}, expected a file, or numpy's uint8 (H, W, 3) in RGB order")
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise InputError(f"picture: got {picture.dtype} {picture.shape}, expected uint8 (H, W, 3) in RGB order")
        if not picture.size:
            raise InputError(f"picture: got {picture.shape}, which is empty, expected rows and columns of pixels")
        return picture
    import cv2

    path = Path(picture)
    data = path.read_bytes()
    decoded = None
    if _is_whole(data):
        # of OpenCV 4, of OpenCV 5
        set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
        with _QUIET:  # else another thread's silence would be taken for the level to go back to
            level = set_level(0)  # silent
            try:
                decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            except cv2.error:  # a header that promises an absurd size
                decoded = None
            finally:
                set_level(level)
    if decoded is None:
        what = "is empty" if not data else "is no whole picture that OpenCV can read"
        raise InputError(f"{path.name} {what}; expected a PNG, JPEG or WebP file")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def as_jpeg(picture: Picture, quality: int = QUALITY) -> NDArray[np.uint8]:
    """Return uint8 (H, W, 3) RGB as the bytes of a JPEG, uint8 (B,)."""
    import cv2

    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return np.asarray(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], np.uint8).ravel()


def write_picture(path: Path, picture: Picture) -> None:
    """Write uint8 (H, W, 3) RGB as JPEG or PNG, by the suffix, one of WRITTEN; makes the folder."""
    import cv2

    png = path.suffix.lower() == ".png"
    coded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1] if png else as_jpeg(picture)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_bytes(coded.tobytes())


def _is_whole(data: bytes) -> bool:
    """False for what is cut short, of which libpng would tell stderr and libjpeg would show the upper half."""
    if data.startswith(b"\xff\xd8"):
        return _is_whole_jpeg(data)
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return bool(data)
    at = 8
    while at + 12 <= len(data):
        body = data[at + 4 : at + 8 + int.from_bytes(data[at : at + 4], "big")]
        end = at + 4 + len(body)
        if zlib.crc32(body) != int.from_bytes(data[end : end + 4], "big"):
            return False
        if body[:4] == b"IEND":
            return True
        at = end + 4
    return False


def _is_whole_jpeg(data: bytes) -> bool:
    """Whether a JPEG's end is there; behind it anything may lie, such as the film of a phone's moving picture."""
    at = 2
    while found := _MARKER.search(data, at):
        if found[0] == b"\xff\xd9":
            return True
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")  # past a thumbnail with its end
    return False
