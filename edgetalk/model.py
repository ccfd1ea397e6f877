"""A model's engine together with what it says about itself, and whether two engines are of one export."""

from __future__ import annotations

from pathlib import Path

from .backends import Backend, check_batch, open_engine
from .errors import ModelError
from .files import sha256
from .metadata import Metadata
from .use import check_use


def open_model(
    path: Path, *, use: str = "any", device: str = "auto", threads: int | None = None, streams: int = 1
) -> tuple[Backend, Metadata]:
    """Open an engine that makes one frame at a time; return it, which is to be closed, and its metadata.

    `device`, `threads` and `streams` are as of `open_engine`; `use="commercial"` refuses what may not be used
    commercially. Raises as `open_engine`, and ModelError where the engine has no metadata or was built for several
    frames at once.
    """
    backend = open_engine(path, device=device, threads=threads, streams=streams)
    try:
        metadata = Metadata.from_json(backend.metadata, path.name)
        check_use(metadata, path.name, use)
        check_batch(backend, path.name)
        return backend, metadata
    except BaseException:
        backend.close()
        raise


def weights_of(metadata: Metadata, engine: Path) -> str:
    """Return the sha256 of the ONNX that an engine was built from: what was built from it carries the same."""
    return metadata.onnx or sha256(engine)


def not_of_one_export(step: str, source: str) -> ModelError:
    """Return the error for a step and what is to prepare faces for it, by their names, where the weights differ."""
    return ModelError(f"{step} and {source} are not of one export; copy or build both again")
