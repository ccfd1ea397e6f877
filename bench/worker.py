"""Contestants in processes of their own, so that each has its own libraries, threads and memory, and its own build.

A contestant is a function in contestants.py, named together with its arguments, that returns a work: a function
without arguments that makes one frame. Its process sleeps until it is told to make a block of frames, so that
several can take turns. `tree` is another checkout whose `edgetalk/` shall be measured; the benches themselves are
always those of this one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


class Worker:
    """A process that makes frames when told; a context manager."""

    def __init__(self, contestant: str, tree: Path = ROOT, **arguments: Any) -> None:
        command = [sys.executable, "-m", "bench.worker", str(tree), contestant, json.dumps(arguments, default=str)]
        start = time.perf_counter()
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.told: dict[str, Any] = self._hear()
        """What the contestant says about itself."""
        self.first = time.perf_counter() - start
        """Seconds from the start of the process to its first frame."""

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._process.args[3:])} ended with {self._process.wait()}")  # type: ignore
        return json.loads(line)

    def _ask(self, frames: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{frames}\n")
        self._process.stdin.flush()
        return self._hear()

    def block(self, frames: int) -> list[float]:
        """Return how many seconds each of as many frames took, after one that does not count."""
        return self._ask(frames)["seconds"]

    def peak(self) -> int:
        """Return the most bytes of memory that the process has held."""
        return self._ask(0)["peak"]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def main() -> None:
    tree, contestant, arguments = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    if tree != ROOT:  # an editable install finds edgetalk for this checkout, before sys.path is asked
        sys.meta_path[:] = [finder for finder in sys.meta_path if isinstance(finder, type)]
        sys.path.insert(0, str(tree))

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    from bench import contestants

    work, told = getattr(contestants, contestant)(**arguments)
    work()
    answer(**told)
    for line in sys.stdin:
        if not int(line):
            status = Path("/proc/self/status").read_text()
            answer(peak=1024 * next(int(row.split()[1]) for row in status.splitlines() if row.startswith("VmHWM")))
            continue
        work()
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        answer(seconds=seconds)


if __name__ == "__main__":
    main()
