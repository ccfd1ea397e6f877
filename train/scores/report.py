"""Reports of scores, which the commands print and write and the pages are made of: JSON, and the command beside it.

Leaves out tables: each command has its own for a screen, and reports/ those of the pages.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from edgetalk.files import replacing
from edgetalk.train.program import module

JUDGE = Path(__file__).parents[1] / "checkpoints" / "landmarks.safetensors"
"""The bundled landmark judge."""


def command() -> str:
    """The command line that is running, to stand beside its figures; of absolute paths only the last part."""
    name = "edgetalk" if module() in ("", "edgetalk.cli") else f"python -m {module()}"
    words = [re.sub(r"(^|=)/(?:.*/)?([^/]+)/*$", r"\1\2", word) for word in sys.argv[1:]]
    return shlex.join([*name.split(), *words])


def plain(value: Any) -> Any:
    """Numbers that JSON has no word for become null; floats are rounded to six significant digits."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Write a report; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(json.dumps(plain(report), indent=1) + "\n")
