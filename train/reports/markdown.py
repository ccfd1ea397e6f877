"""Pieces of a Markdown page of results: figures, tables, commands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def number(value: float | None, digits: int = 3) -> str:
    """A figure for a table cell; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; columns of figures are right-aligned, but for the first."""
    cells = [list(row) for row in rows]
    figures = [k > 0 and all(len(row[k].split()) <= 3 for row in cells) for k in range(len(head))]
    lines = ["| " + " | ".join(head) + " |", "|" + "".join("---:|" if right else "---|" for right in figures)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in cells])


def made_by(*commands: str) -> str:
    """The commands that made the figures above."""
    return "Made by:\n\n```\n" + "\n".join(dict.fromkeys(commands)) + "\n```"


def missing(what: str, command: str) -> str:
    return f"*{what}: not made yet.* `{command}`"
