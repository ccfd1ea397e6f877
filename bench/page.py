"""Keeps what was measured as JSON, and puts it into a page of docs/, between the two marks of its bench; and the
options that benches share.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgetalk.bundled import MODELS
from edgetalk.errors import InputError
from edgetalk.files import replacing

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
CALIBRATION = ROOT / "train" / "checkpoints" / "calibration.npz"


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write a JSON file; it is whole at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the options that tell which AMNet is built, and on what samples int8 is."""
    parser.add_argument("--models", type=Path, default=MODELS, help="folder with amnet.onnx")
    parser.add_argument(
        "--calibration",
        type=Path,
        default=CALIBRATION,
        metavar="FILE.npz",
        help="samples for int8 (default: the bundled)",
    )


def add_options(parser: argparse.ArgumentParser, out: Path) -> None:
    """Add the options that `publish` reads; `out` is where the bench keeps its figures."""
    parser.add_argument("--prepared", type=Path, metavar="FOLDER", help="keep what is built there, and use it")
    parser.add_argument(
        "-o", "--output", dest="out", type=Path, default=out, metavar="FILE", help=f"default: docs/results/{out.name}"
    )
    parser.add_argument("--write", type=Path, default=PAGE, metavar="PAGE", help="page with the bench's two marks")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page alone")


def publish(
    args: argparse.Namespace,
    bench: str,
    measure: Callable[[Path], dict[str, Any]],
    markdown: Callable[[dict[str, Any]], str],
) -> None:
    """Measure, with engines in --prepared or a passing folder, into --output, print that and put it into --write.

    With --page nothing is measured: the page is of what --output holds.
    """
    if not args.page:
        with tempfile.TemporaryDirectory(prefix="edgetalk-") as temporary:
            result = measure(args.prepared or Path(temporary))
        write_json(args.out, result)
    text = markdown(json.loads(args.out.read_text()))
    print(text)
    put(text, bench, args.write)


def put(text: str, bench: str, page: Path = PAGE) -> None:
    """Replace what stands between `<!-- BENCH begins -->` and `<!-- BENCH ends -->`, which the page has to have."""
    before, after = around(bench, page)
    with replacing(page) as part:
        part.write_text(f"{before}\n\n{text.strip()}\n\n{after}")


def around(bench: str, page: Path = PAGE) -> tuple[str, str]:
    """Return a page up to the first mark of a bench and from its second on; raises InputError where one is missing."""
    begin, end = f"<!-- {bench} begins -->", f"<!-- {bench} ends -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise InputError(f"{page} has no {begin} … {end} to write between; add both, or name another page")
    return before + found, closed + after
