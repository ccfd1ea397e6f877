"""Where the files of the two networks lie: the user's cache, which `edgetalk fetch face` fills, or a named folder."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import NamedTuple

from edgetalk.errors import BackendError, word

DETECTOR, MESH = "face_detection_short_range.tflite", "face_landmark.tflite"
CACHE = "mediapipe-0.10.21"  # folder of the two in the user's cache: what they came with


class FaceModels(NamedTuple):
    """The files of the two networks."""

    detector: Path
    mesh: Path


def cache_folder() -> Path:
    """Return where edgetalk keeps what it downloaded: EDGETALK_CACHE, or the user's cache on this platform.

    Raises BackendError where the user has no home, as in some containers.
    """
    if named := os.environ.get("EDGETALK_CACHE"):
        return Path(named)
    try:
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "edgetalk" / "cache"
        if sys.platform == "darwin":
            return Path.home() / "Library/Caches/edgetalk"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgetalk"
    except RuntimeError:
        raise BackendError("this user has no home folder to keep a cache in; name a folder in EDGETALK_CACHE") from None


def find_face_models(face_models: str | os.PathLike[str] | None = None) -> FaceModels:
    """Return the files of the two networks, from the folder `face_models` or, where it is None, from the user's cache.

    EDGETALK_CACHE may also name the folder itself that `edgetalk fetch face -o FOLDER` filled. Raises
    FileNotFoundError where the folder `face_models` lacks one of them, and BackendError where nothing was fetched.
    """
    for folder in (cache_folder(), cache_folder() / CACHE) if face_models is None else (Path(face_models),):
        files = FaceModels(folder / DETECTOR, folder / MESH)
        missing = [file for file in files if not file.is_file()]
        if not missing:
            return files
    if face_models is not None:
        fetch = f"run: edgetalk fetch face -o {word(face_models)}"
        raise FileNotFoundError(errno.ENOENT, f"No such face model; {fetch}", str(missing[0]))
    raise BackendError(f"face tracking needs {missing[0].name}, which is not in {folder}; run: edgetalk fetch face")
