"""Puts what was measured into a page of docs/, between the two marks of its bench."""

from __future__ import annotations

import os
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def put(text: str, bench: str, page: Path = PAGE) -> None:
    """Replace what stands between `<!-- BENCH begins -->` and `<!-- BENCH ends -->`, which the page has to have."""
    begin, end = f"<!-- {bench} begins -->", f"<!-- {bench} ends -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no {begin} … {end} to write between")
    part = page.with_name(page.name + ".part")
    part.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")
    os.replace(part, page)
