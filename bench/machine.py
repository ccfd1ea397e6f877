"""What machine a figure is of, and who else was at work on it."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from edgetalk.overlap import cores

ZEN = {"23": "Zen 1 or 2", "25": "Zen 3 or 4", "26": "Zen 5"}  # AMD's families; server processors in clouds hide more
IDLE = 0.1  # share of the processor that other programs may take where a time shall mean something


def processor() -> str:
    """Return the processor's name and how many of its cores we may use."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    told = dict(re.findall(r"^(model name|cpu family)\s*: (.+)$", text, re.MULTILINE))
    name = told.get("model name", os.uname().machine)
    zen = f" ({ZEN[told['cpu family']]})" if name.startswith("AMD") and told.get("cpu family") in ZEN else ""
    return f"{name}{zen}, {cores()} cores"


class Others:
    """How much of the processor other programs take, from the making of this on."""

    def __init__(self) -> None:
        self._start, self._before = time.perf_counter(), busy_seconds()

    def share(self) -> float:
        """Return their part of the time of our cores, 0 to 1; children of ours that still run count as others."""
        worked, own = (after - before for after, before in zip(busy_seconds(), self._before, strict=True))
        there = (time.perf_counter() - self._start) * cores()
        return min(1.0, max(0.0, worked - own) / there)


def busy_seconds() -> tuple[float, float]:
    """Return the seconds that our cores have worked since the machine started, and those that they worked for us.

    Ours are the cores that this process may use, and the seconds of it and of its children that have ended.
    """
    ours, worked = {f"cpu{number}" for number in os.sched_getaffinity(0)}, 0
    for line in Path("/proc/stat").read_text().splitlines():
        core, *fields = line.split()
        if core in ours:
            worked += sum(map(int, fields[:8])) - int(fields[3]) - int(fields[4])  # but idle and waiting for disks
    own = os.times()
    return worked / os.sysconf("SC_CLK_TCK"), own.user + own.system + own.children_user + own.children_system
