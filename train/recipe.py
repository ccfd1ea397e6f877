"""The protocol between the training loop and what it trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor


class Recipe(Protocol):
    """What a family of networks tells the loop."""

    config: Mapping[str, Any]
    """Plain values that name the run; a run resumes only under an equal configuration."""

    defaults: Mapping[str, Any]
    """Values that `config` has where nothing else is asked for: a run from before there was such a field had them."""

    terms: Mapping[str, str]
    """What filmed people agreed to, as in terms.py, for the checkpoint; resuming adds what the run has learnt from."""

    digest: str
    """Which data the run learns from, and what of them is kept for tests; empty where that is not known."""

    @property
    def steps(self) -> int:
        """Steps of the whole schedule, as far as those that were taken can tell where a clock ends it."""

    shown: str
    """What a sheet shows beside or above each other, for its caption."""

    def step(self, number: int) -> dict[str, Tensor]:
        """Take one optimiser step and return its losses, 0-d, still on the device."""

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that a resumed run needs, by name; the loop saves it and copies it back in place."""

    def checkpoint(self, run: Path, step: int) -> None:
        """Write what `step` steps have made of the network into the folder `run`, for all but the loop."""

    def sheet(self, path: Path) -> Mapping[str, float] | None:
        """Write a picture of what the network makes now; return what was measured of it on held-out ones, by name."""
