"""Run what needs an NVIDIA GPU, and write what it printed to docs/performance.md.

    python -m bench.gpu          the suite `pytest -m gpu`, then the page; what is missing is skipped and counted

The speed of other networks on the GPU, in PyTorch, is measured by `python -m bench.tables`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgetalk.train import program

from .page import PAGE, ROOT, around, put

SUITE = "tests/edgetalk/test_tensorrt_gpu.py"
PACKAGES = ("tensorrt", "tensorrt_rtx", "pycuda", "cuda-bindings")


def written(lines: Iterable[str], date: str) -> str:
    """Return the section: what the suite showed, its lines indented by four spaces, and how it ended."""
    shown = [line.strip() for line in lines if re.match(r" {4}\S", line)]
    ends = [line for line in lines if re.search(r"\d+ (passed|failed|skipped|error)", line)]
    if not ends or not shown:
        raise SystemExit("gpu: the suite measured nothing; see what it printed above")
    here = ", ".join(f"{name} {version(name)}" for name in PACKAGES if installed(name)) or "no package of NVIDIA"
    end = re.sub(r" in [0-9.]+s.*", "", ends[-1].strip("= \n"))
    return "\n".join([f"{date}, Python {sys.version.split()[0]}, {here}: {end}.", "", *(f"- {line}" for line in shown)])


def installed(name: str) -> bool:
    """Return whether a package is there."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def main() -> None:
    parser = program.parser("bench.gpu", __doc__)
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write to")
    args = parser.parse_args()
    around("bench.gpu", args.page)  # a page without the marks is told now, and not when all is measured
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rs", "-p", "no:cacheprovider", SUITE]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as suite:
        lines = []
        for line in suite.stdout or ():
            print(line, end="", flush=True)
            lines.append(line.rstrip("\n"))
    put(written(lines, time.strftime("%Y-%m-%d")), "bench.gpu", args.page)
    raise SystemExit(suite.returncode)


if __name__ == "__main__":
    program.run(main)
