"""What the fixtures of conftest.py are, for the benches' signatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from edgetalk import Session
from edgetalk.arrays import Array, Picture

Control = tuple[Array, ...]
"""mel, pose and blink of a frame."""
Feeds = dict[str, NDArray[Any]]

Benchmark = Any
"""pytest-benchmark's fixture, which has no types."""
Rounds = Callable[[int], int]
Open = Callable[[Path], Session]
Run = Callable[[str, Sequence[Feeds]], list[Feeds]]
Judge = Callable[[str, Sequence[Picture], str], None]
Ratios = Callable[[dict[str, float], str], None]
Report = Callable[[str, float], None]
Hold = Callable[[str, float, str, float], None]


class Aim(Protocol):
    def __call__(self, name: str, value: float, held: bool = False) -> None: ...
