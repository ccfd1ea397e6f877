"""What an engine is asked to be: the options of `build`, and which of them go together, told before minutes of work."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetalk.errors import InputError
from edgetalk.files import check_folder, check_kept
from edgetalk.metadata import BESIDE, check_stem

from .keep import MARGIN, check_margin

PRECISIONS = ("f32", "bf16", "fp16", "int8")
SUFFIXES = (".xml", ".plan")

AUTO = "auto"
"""In place of layers to keep in float: as many as the gate asks for (keep.py)."""


@dataclass(frozen=True)
class PlanOptions:
    """What a plan is to run on, and how it is built."""

    compute_capability: Sequence[str] | None = None
    """Devices such as ("8.6", "8.9"); None is the GPU of this machine. Others than that one need TensorRT-RTX."""
    batch: int | tuple[int, int, int] = 1
    """Largest batch of a graph with a dynamic one, or smallest, usual and largest."""
    workspace: int | None = None
    """MiB that a layer may use while it runs and while its kernels are tried out; a small number keeps the build on a
    Jetson within its memory. None leaves it to TensorRT: all that there is."""
    timing_cache: str | os.PathLike[str] | None = None
    """File that keeps what was measured of kernels, read if it exists, written afterwards. TensorRT alone."""
    hardware: str | None = None
    """"ampere+" or "same": let the plan run on other devices too, somewhat slower. TensorRT alone."""
    version_compatible: bool = False
    """Let newer versions of TensorRT run the plan too, somewhat slower. TensorRT alone."""


@dataclass(frozen=True)
class Options:
    """What `build` was asked for; its docstring says what each of them means."""

    out: Path
    precision: str
    calibration: Path | None
    keep: tuple[str, ...]
    margin: float | None
    report: Path | None
    fold_statistics: Path | None
    hold: bool
    plan: Mapping[str, Any]
    """What PlanOptions takes."""

    @property
    def chooses(self) -> bool:
        """Whether the layers that stay in float are chosen, and not named."""
        return AUTO in self.keep

    @property
    def allowed(self) -> float:
        """The margin that these are chosen by."""
        return MARGIN if self.margin is None else self.margin

    def beside(self, role: str) -> Path:
        """Return what the engine of a graph beside the step is called."""
        return self.out.with_name(f"{self.out.stem}-{role}{self.out.suffix}")

    def check_report(self, *inputs: Path | None) -> None:
        """Raise InputError where the report would replace one of `inputs`, or be replaced by what is built."""
        if self.report is None:
            return
        check_kept(self.report, *inputs)
        engines = [self.out, *map(self.beside, BESIDE)]
        built = [*engines, *(engine.with_suffix(".bin") for engine in engines), self.out.with_suffix(".avatar")]
        if self.report.resolve() in [file.resolve() for file in built]:
            raise InputError(f"report: {self.report.name} is what a file that is built is called; name another")

    def check(self) -> None:
        """Raise InputError where an option means nothing or not beside another; FileNotFoundError without a folder."""
        if self.out.suffix not in SUFFIXES:
            raise InputError(f"out: got {self.out.name!r}, expected a name that ends in {' or '.join(SUFFIXES)}")
        check_stem(self.out, "engine")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision: got {self.precision!r}, expected one of {', '.join(PRECISIONS)}")
        if self.precision == "bf16" and self.out.suffix == ".plan":
            raise InputError("precision: bf16 is for OpenVINO; use fp16 for a .plan")
        if self.precision == "int8" and self.calibration is None:
            raise InputError("calibration: int8 needs a calibration file; write one with: edgetalk data calibration")
        if self.keep and self.precision != "int8":
            raise InputError(f"keep: layers are kept in float in int8 alone, got precision {self.precision}")
        if self.chooses and len(self.keep) > 1:
            raise InputError(f"keep: got {', '.join(self.keep)}; {AUTO} chooses all of them, leave the others out")
        for name, given in (("margin", self.margin), ("report", self.report)):
            if given is not None and not self.chooses:
                raise InputError(f"{name}: is of layers that are chosen; add --keep {AUTO}")
        if self.margin is not None:
            check_margin(self.margin)
        for file in (self.out, self.report):
            if file is not None:
                check_folder(file.parent)
        if self.fold_statistics is not None and self.calibration is None:
            raise InputError(
                "calibration: statistics to fold come from a calibration file; write one with: "
                "edgetalk data calibration"
            )
        if self.plan and self.out.suffix == ".xml":
            raise InputError(f"{min(self.plan)}: is an option of TensorRT; {self.out.name} is built for OpenVINO")
