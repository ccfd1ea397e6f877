"""Reads untrusted .npz files; numpy reports damage in a dozen ways."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

HELD_OUT = 5
"""Every fifth sample for calibration, the first one first, judges the engine and is kept away from calibration."""

_alone = threading.Lock()  # numpy has Python parse the headers of arrays, which 3.11 cannot do safely in two threads


def read_npz(
    path: str | os.PathLike[str], message: str, names: Collection[str] | None = None
) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz file by name, all of them or those of `names` that it has.

    Raises FileNotFoundError, and InputError, which says `message`, where the file is none or damaged.
    """
    with open(path, "rb") as file:  # the system's own words where it cannot be opened
        try:
            with _alone, np.load(file, allow_pickle=False) as members:
                return {name: members[name] for name in members.files if names is None or name in names}
        except MemoryError:
            raise
        except Exception as error:  # one array alone, a damaged member, one with a password: each fails in its own way
            raise InputError(message) from error
