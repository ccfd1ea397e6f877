"""What a step of an AMNet costs on a CPU in int8, predicted from its architecture without building it.

The layers are counted as the engine runs them after the build's rewrites (engines/phases.py): a transposed
convolution to few channels as one of 2×2 taps that makes four phases, and the last convolution behind such a one on
the grid of phases where it narrows.
A step's time is a sum of such counts, each times the milliseconds of its kind; these were measured by
`python -m bench.lite costs` and lie in costs.json. Other machines have others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edgetalk.errors import InputError
from edgetalk.train.networks.amnet import Architecture, Cell

COSTS = Path(__file__).parent / "costs.json"
LANES = 16
"""Output channels that a vector register holds: a convolution makes a multiple of it, whatever it is asked for."""
WIDE = 64
"""Output channels above which a transposed convolution stays one."""
KINDS = {
    "fixed": "one step: fuser, landmarks, uint8",
    "convolution": "10⁹ multiply-adds of int8 convolutions, depthwise ones left out",
    "values": "10⁶ values normalised, scaled and quantised again",
}
"""What is counted, and what a cost is the milliseconds of."""


@dataclass(frozen=True)
class Costs:
    """Milliseconds of each of KINDS, measured on one machine."""

    milliseconds: dict[str, float]
    machine: str
    measured: dict[str, list[float]]
    """Name of a network that was measured to its milliseconds, measured and predicted by a fit without it."""

    @classmethod
    def load(cls, path: Path = COSTS) -> Costs:
        """Read what `python -m bench.lite costs` has written; InputError where it is something else."""
        try:
            costs = cls(**json.loads(path.read_text()))
            sum(costs.milliseconds[kind] for kind in KINDS)
        except (ValueError, TypeError, KeyError):
            raise InputError(
                f"{path} holds no costs of a machine; write them with: python -m bench.lite costs"
            ) from None
        return costs

    def predict(self, architecture: Architecture, size: int = 256) -> float:
        """Return the milliseconds of one step at `size` × `size`."""
        return sum(self.milliseconds[kind] * count for kind, count in counts(architecture, size).items())


def counts(architecture: Architecture, size: int = 256) -> dict[str, float]:
    """Return how much of each of KINDS a step has."""
    found = dict.fromkeys(KINDS, 0.0) | {"fixed": 1.0}

    def convolve(inputs: int, outputs: int, taps: int, side: int) -> None:
        padded = -(-outputs // LANES) * LANES
        found["convolution"] += inputs * padded * taps * side**2 / 1e9

    side = size // architecture.reduction
    channels = architecture.cells[0].channels
    found["values"] += channels * side**2 / 1e6
    for cell in architecture.cells[1:]:
        _count_cell(cell, channels, side, found, convolve)
        channels = cell.channels
    *upsamplings, final = [*architecture.header, 3 * architecture.shuffle**2]
    for outputs in upsamplings:
        if outputs > WIDE:
            convolve(channels, outputs, 9, side)
        else:
            convolve(channels, 4 * outputs, 4, side)
        side, channels = 2 * side, outputs
        found["values"] += channels * side**2 / 1e6
    if upsamplings and final < channels <= WIDE:
        half = architecture.last // 2
        shift = half % 2  # the cells that phase_grid lets begin one pixel early, of which there is one more
        convolve(4 * channels, 4 * final, (half + 1) ** 2, side // 2 + shift)
    else:
        convolve(channels, final, architecture.last**2, side)
    return found


def _count_cell(cell: Cell, channels: int, side: int, found: dict[str, float], convolve) -> None:
    plane = side**2 / 1e6
    if cell.kind == "basic":
        convolve(channels, cell.inner, 9, side)
        convolve(cell.inner, cell.channels, 9, side)
        made = cell.inner + cell.channels
    elif cell.kind == "separable":
        convolve(channels, cell.inner, 1, side)
        convolve(cell.inner, cell.channels, 1, side)
        made = 2 * cell.inner + cell.channels
    else:
        convolve(channels, cell.channels, 1, side)
        made = cell.channels
    if cell.kind != "pointwise" and channels != cell.channels:  # the skip
        convolve(channels, cell.channels, 1, side)
        made += cell.channels
    found["values"] += made * plane
