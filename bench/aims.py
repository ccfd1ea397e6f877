"""What speed is wanted of edgetalk, in one place: told beside what was measured, as reached or NOT."""

from __future__ import annotations

from typing import NamedTuple


class Aim(NamedTuple):
    """One figure that is wanted."""

    what: str
    wanted: float
    unit: str
    upper: bool = False
    """Whether `wanted` is the most that it may be, instead of the least."""

    def reached(self, got: float) -> bool:
        return got <= self.wanted if self.upper else got >= self.wanted

    def told(self, got: float | None) -> str:
        """Return a line of a report; None has not been measured."""
        line = f"{self.what:<66} {'<=' if self.upper else '>='} {self.wanted:>6g} {self.unit:<8} "
        return line + ("not measured" if got is None else f"{got:8.2f} {'reached' if self.reached(got) else 'NOT'}")


AIMS = {
    "eager": Aim("AMNet: int8 step against PyTorch eager of the whole network", 8, "times"),
    "openvino": Aim("AMNet: int8 step against OpenVINO f32 of the whole network", 4, "times"),
    "folded": Aim("AMNet: folded int8 step against PyTorch eager of the whole network", 9, "times"),
    "floor": Aim("AMNet: int8 step against the floor of its arithmetic", 1.5, "times", upper=True),
    "residual": Aim("AMNet: residual convolutions against their floor", 1.2, "times", upper=True),
    "lite": Aim("AMNet-lite: int8 step against PyTorch eager of the whole AMNet", 17, "times"),
    "film": Aim("a film by talk against the bare step", 0.9, "times"),
    "open": Aim("a Session opens in a new process", 500, "ms", upper=True),
    "memory": Aim("peak memory of talk, ten seconds", 250, "MB", upper=True),
    "mel": Aim("sound front end, a frame", 0.25, "ms", upper=True),
    "swap": Aim("WavSyncSwap, width 1: real-time factor of the int8 step", 0.10, "", upper=True),
    "swap-cascade": Aim("WavSyncSwap, width 1: int8 step against the eager cascade at 96", 25, "times"),
    "swap-unprepared": Aim("WavSyncSwap, width 1: int8 unprepared", 50, "frames/s"),
    "pipeline-eager": Aim("WavSyncSwap's pipeline against the cascade's, PyTorch eager", 1.96, "times"),
    "pipeline": Aim("WavSyncSwap's pipeline against the cascade's, our engines", 1.96, "times"),
}


def report(got: dict[str, float]) -> str:
    """Return all aims as lines, with what was measured of them."""
    return "\n".join(aim.told(got.get(name)) for name, aim in AIMS.items())
