"""All benches whose figures stand in docs/performance.md, one after the other, and what they reached of the aims.

    python -m bench --data DIR                    hours on two cores; DIR is of `edgetalk data announcers`
    python -m bench --skip tables dubs curve      leave some out

Each writes into the page as if it had been called alone. The aims (aims.py) are printed at the end, whatever failed
before it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from edgetalk.overlap import cores
from edgetalk.train import program

from .aims import report
from .page import PAGE, ROOT

TESTS = ("test_ratio.py", "test_end_to_end.py", "test_budget.py", "test_wavsyncswap.py::test_ratios")
Got = dict[str, float]


def by_hand(args: argparse.Namespace, folder: Path) -> Got:
    from . import by_hand

    threads = sorted({1, args.threads})
    by_hand.main(["--threads", *map(str, threads), "--prepared", str(folder), "--write", str(args.write)])
    [run] = (
        r for r in json.loads(by_hand.RESULTS.read_text())["runs"] if (r["size"], r["threads"]) == (256, threads[-1])
    )
    ours = run["rows"]["ours-int8"]
    return {"eager": ours["times_eager"][1], "openvino": ours["times_openvino"][1]}


def roofline(args: argparse.Namespace, folder: Path) -> Got:
    from . import roofline

    return roofline.floors(**roofline.main(["--threads", str(args.threads), "--write", str(args.write)]))


def gains(args: argparse.Namespace, folder: Path) -> Got:
    from . import gains

    gains.main(["--threads", str(args.threads), "--prepared", str(folder), "--write", str(args.write)])
    return {}


def throughput(args: argparse.Namespace, folder: Path) -> Got:
    from . import throughput

    throughput.main(["--threads", str(args.threads), "--prepared", str(folder), "--write", str(args.write)])
    return {}


def curve(args: argparse.Namespace, folder: Path) -> Got:
    from . import curve

    curve.main(["--data", str(args.data), "--write", str(args.write)])
    return {}


def tables(args: argparse.Namespace, folder: Path) -> Got:
    from . import tables

    tables.main(["--threads", str(args.threads), "--prepared", str(folder), "--write", str(args.write)])
    return {}


def dubs(args: argparse.Namespace, folder: Path) -> Got:
    from . import dubs

    dubs.main(["--threads", str(args.threads), "--prepared", str(folder), "--write", str(args.write)])
    cascade, ours = (json.loads(dubs.RESULTS.read_text())["rows"][name] for name in dubs.PIPELINES)
    columns = {"pipeline-eager": "eager", "pipeline": "int8"}
    return {name: cascade[column][0] / ours[column][0] for name, column in columns.items()}


def tests(args: argparse.Namespace, folder: Path) -> Got:
    """Run the pytest benches that have aims, of which some may fail."""
    told = folder / "told.json"
    told.unlink(missing_ok=True)  # of a run before, in a folder that is kept
    command = [sys.executable, "-m", "pytest", *(f"bench/{name}" for name in TESTS), "--threads", str(args.threads)]
    subprocess.run([*command, "--told", str(told)], cwd=ROOT, check=False)
    return json.loads(told.read_text()) if told.exists() else {}


PARTS: dict[str, Callable[[argparse.Namespace, Path], Got]] = {
    part.__name__: part for part in (by_hand, roofline, gains, throughput, curve, tables, dubs, tests)
}


def main(arguments: list[str] | None = None) -> None:
    parser = program.parser("bench", __doc__)
    parser.add_argument("--data", type=Path, metavar="DIR", help="for curve: of edgetalk data announcers")
    parser.add_argument("--skip", nargs="+", choices=list(PARTS), default=[], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--threads", type=int, default=cores(), help="default: every core")
    parser.add_argument("--prepared", type=Path, metavar="FOLDER", help="keep engines there, and take those that are")
    parser.add_argument("--write", type=Path, default=PAGE, metavar="PAGE", help="page with the benches' marks")
    args = parser.parse_args(arguments)
    if args.data is None and "curve" not in args.skip:
        parser.error("--data: got none, which curve needs; add --data DIR or --skip curve")
    got: Got = {}
    try:
        with tempfile.TemporaryDirectory(prefix="edgetalk-") as temporary:
            for name in [name for name in PARTS if name not in args.skip]:
                folder = (args.prepared or Path(temporary)).absolute() / name
                folder.mkdir(parents=True, exist_ok=True)
                print(f"\n{name}", file=sys.stderr, flush=True)
                got |= PARTS[name](args, folder)
    finally:
        print(report(got))


if __name__ == "__main__":
    program.run(main)
