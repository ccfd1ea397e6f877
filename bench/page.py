"""Puts what was measured into a page of docs/, between the two marks of its bench."""

from __future__ import annotations

from pathlib import Path

from edgetalk.files import replacing

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def put(text: str, bench: str, page: Path = PAGE) -> None:
    """Replace what stands between `<!-- BENCH begins -->` and `<!-- BENCH ends -->`, which the page has to have."""
    before, after = around(bench, page)
    with replacing(page) as part:
        part.write_text(f"{before}\n\n{text.strip()}\n\n{after}")


def around(bench: str, page: Path = PAGE) -> tuple[str, str]:
    """Return a page up to the first mark of a bench and from its second on; raises ValueError where one is missing."""
    begin, end = f"<!-- {bench} begins -->", f"<!-- {bench} ends -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no {begin} … {end} to write between")
    return before + found, closed + after
