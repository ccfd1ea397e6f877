"""Files that get their names when they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open `path`.part for writing; it becomes `path` if the block ends without an error."""
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        yield file
    os.replace(part, path)
