"""The seam between a session and what runs its network; the suffix of an engine's file chooses the module.

A backend is one module with two functions, `open(path, *, device, precision, threads, streams) -> Backend` and
`preflight(path) -> list[tuple[str, str]]`, imported when a file of its kind is opened. Checks of what the caller passes
stand in session.py, once; a backend may take its feeds as they are.
"""

from __future__ import annotations

import errno
import importlib
import os
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgetalk.errors import InputError, ModelError
from edgetalk.metadata import Metadata
from edgetalk.preprocess import whole

STEPS = {".xml": "openvino", ".onnx": "openvino", ".plan": "tensorrt"}
SUFFIXES = {**STEPS, ".tflite": "openvino"}  # of the two networks that find faces, which are nobody's to name

FALLBACKS = (".xml", ".onnx")
"""What engines run nearly everywhere: looked for where there is none of the wanted kind."""

Arrays = dict[str, NDArray[Any]]


class TensorSpec(NamedTuple):
    """What one input or output of a graph looks like."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    """-1 where a dimension is dynamic."""


class Backend(Protocol):
    """An opened engine. One thread at a time may use it.

    A backend may also have a string `device`, that says where it runs, at what precision and why; the session
    shows it.
    """

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    metadata: str
    """The JSON string under the key `edgetalk`, "" where there is none."""

    def run(self, feeds: Arrays) -> Arrays:
        """Run the network once and return its outputs by name.

        An input that is not in `feeds` keeps what it was last fed, so an avatar's features travel to the device
        once. The arrays returned are the same ones every time: the next run overwrites them. Raises BackendError
        where inference fails.
        """

    def twin(self) -> Backend:
        """Return another backend on the same engine, even where its file has gone or is another one by now."""

    def close(self) -> None:
        """Free the device; may be called twice. Arrays that run returned stay readable."""


def open_engine(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    streams: int = 1,
) -> Backend:
    """Open the engine in the file `path`.

    Backends of one file that were opened with the same arguments share the engine and its memory; each has its own
    inputs and outputs, and may run in a thread of its own while the others run.

    `device` is "auto" or a device by its engine's name ("CPU", "GPU.1", "cuda:0"); one that is missing is an error.
    `precision` overrides what the metadata says ("f32", "bf16"); `threads` is the number of CPU threads, None for
    the engine's choice. `streams` is how many runs the CPU does side by side: 1 gives each run all threads, the
    least latency; 2 and more share the threads out, for the most runs per second. On a GPU every backend has a
    stream of its own. Raises FileNotFoundError, ModelError, InputError or BackendError.
    """
    if not isinstance(device, str):
        raise InputError(f'device: got {device!r}, expected "auto" or the name of one')
    if threads is not None:
        threads = check_count("threads", threads)
    streams = check_count("streams", streams)
    backend: Backend = _module(path).open(
        Path(path), device=device, precision=precision, threads=threads, streams=streams
    )
    return backend


def check_count(name: str, count: object) -> int:
    """Return `count`, the argument called `name`; raises InputError where it is no whole number from 1 on."""
    number = whole(count)
    if number is None or number < 1:
        raise InputError(f"{name}: got {count!r}, expected a whole number, at least 1")
    return number


def check_batch(backend: Backend, name: str) -> None:
    """Raise ModelError where the engine `name` was built for several frames at once, and one alone comes to it."""
    for kind, spec in {**backend.inputs, **backend.outputs}.items():
        if spec.shape[0] not in (1, -1):
            raise ModelError(f"{name} has {kind} of batch {spec.shape[0]}, expected 1; build it again")


def beside(engine: Path, *stems: str) -> Path | None:
    """Return the engine beside `engine` of the first stem that has one: of the same kind, else .xml, else .onnx."""
    for stem in stems:
        for suffix in dict.fromkeys((engine.suffix, *FALLBACKS)):
            candidate = engine.with_name(stem + suffix)
            if candidate.is_file():
                return candidate
    return None


def shared_device(device: str, engine: Path, other: Path) -> str:
    """Return the device of `other`, which works for `engine` on `device`: that one where one backend runs both."""
    return device if SUFFIXES.get(engine.suffix.lower()) == SUFFIXES.get(other.suffix.lower()) else "auto"


def preflight(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """Return what can be said of an engine before it is opened, each with its label, and why it will run here.

    Raises FileNotFoundError, ModelError or BackendError where it cannot run on this machine.
    """
    lines: list[tuple[str, str]] = _module(path).preflight(Path(path))
    return lines


def describe(metadata: Metadata) -> tuple[str, str]:
    """What an engine says about itself, for `preflight`."""
    variant = "" if metadata.variant == metadata.family else metadata.variant
    parts = [f"{metadata.family} {variant}".strip(), metadata.role, metadata.precision]
    parts += [f"{metadata.fps} per second", f"{metadata.use} use", metadata.licence or "licence not stated"]
    known = ", ".join(metadata.persons) or (f"{metadata.faces} faces" if metadata.faces else "")
    parts += [f"knows {known} alone"] if known else []
    return "metadata", ", ".join(parts)


def measured(metadata: Metadata) -> list[tuple[str, str]]:
    """What the build measured of an engine against f32, for `preflight`; empty where it says nothing."""
    told = metadata.gate
    parts = [
        form.format(told[figure])
        for figure, form in (
            ("ssim", "SSIM {:.4f}"),
            ("psnr", "{:.1f} dB"),
            ("mouth_psnr", "at the mouth {:.1f} dB"),
            ("cosine", "cosine {:.4f}"),
            ("relative_error", "{:.1%} off"),
        )
        if isinstance(told.get(figure), int | float)
    ]
    if not parts:
        return []
    samples, frames = str(told.get("samples", "")), {"held out": "held-out frames", "made up": "made-up samples"}
    on = f" on {frames.get(samples, f'samples {samples}')}" if samples else ""
    floors = "; not held to the floors" if "floors" in told else ""
    return [("gate", f"{', '.join(parts)}, against f32{on}{floors}")]


def _module(path: str | os.PathLike[str]) -> Any:
    """The backend module for the suffix of an existing file."""
    file = Path(path)
    name = SUFFIXES.get(file.suffix.lower())
    if file.is_dir():
        raise ModelError(f"{file} is a folder; name the engine in it")
    if name is None:
        known = ", ".join(STEPS)
        raise ModelError(f"{file.name} is no engine that edgetalk knows by its suffix; expected one of {known}")
    if not file.is_file():
        raise FileNotFoundError(errno.ENOENT, "No such engine", str(file))
    return importlib.import_module(f".{name}", __package__)
