"""AMNet's checkpoints: one safetensors file of weights, the persons' pictures, and a header that tells the rest.

Header values are JSON: format, variant, size, audio (edgetalk.metadata.AudioSpec), persons, training, and
architecture (networks.amnet.Architecture) where it is not the variant's own. Checkpoints of the other families are
in store.py; published ones of others are read by the export.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, uint8

from edgetalk.errors import ModelError
from edgetalk.files import sha256
from edgetalk.metadata import AudioSpec

from .amnet import VARIANTS, AMNet, Architecture
from .tensors import check_finite, write_tensors

LARGEST = 2048
"""Side of the largest picture that a checkpoint may be for, in pixels."""


def save_checkpoint(path: Path, tensors: dict[str, Tensor], **header: Any) -> None:
    """Write a checkpoint: tensors by name, and a header of JSON values (`format` 1 first)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"format": "1", **{name: json.dumps(value) for name, value in header.items()}}
    write_tensors(path, {name: t.detach().cpu().contiguous() for name, t in tensors.items()}, told)


@dataclass(frozen=True)
class Checkpoint:
    """A trained AMNet and what its file says about it."""

    network: AMNet
    variant: str
    size: int
    audio: AudioSpec
    persons: tuple[str, ...]
    """Names of all whom it was trained on; empty where these are too many to be named, and it takes any face."""
    sources: dict[str, Tensor]
    """Neutral pictures of them, or of some of many, uint8 (S, S, 3) RGB."""
    training: dict[str, Any]
    """Configuration and data of the training."""
    sha256: str


def read_architecture(path: str | Path) -> Architecture:
    """Read an architecture from a JSON file; raises ModelError where it holds none, FileNotFoundError."""
    try:
        return Architecture.of(json.loads(Path(path).read_text()))
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"{path} holds no architecture of AMNet ({error}); write one with: python -m edgetalk.train.lite search"
        ) from error


def _check_sources(path: Path, sources: dict[str, Tensor]) -> None:
    """Raise ModelError where a person's name could not be a file's, which it becomes, or the picture is none."""
    for name, picture in sources.items():
        if not name or name == ".." or Path(name).name != name or set(name) & {"\\", "\0"}:
            raise ModelError(f"{path} calls a person {name!r}, which cannot be a file's name; do not trust this file")
        if picture.dtype != uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise ModelError(
                f"{path} has {picture.dtype} {tuple(picture.shape)} as the picture of {name}, "
                "expected uint8 (H, W, 3); it is damaged, copy it again"
            )


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint on the CPU; half-precision weights come back as float32.

    Raises ModelError where the file is no checkpoint of AMNet, FileNotFoundError where there is none.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safe_open(path, "pt") as file:
            header = {k: json.loads(v) for k, v in (file.metadata() or {}).items()}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if header.get("format") != 1 or header.get("variant") not in VARIANTS:
            raise KeyError("format")
        spec = AudioSpec(**header["audio"])
        architecture = Architecture.of(header["architecture"]) if "architecture" in header else None
        size, persons, training = int(header["size"]), tuple(header["persons"]), dict(header["training"])
        if training.get("people", 0) > len(persons):
            persons = ()
        if not 0 < size <= LARGEST or not isinstance(training.get("terms", {}), dict):
            raise ValueError("size or terms")
        network = AMNet(header["variant"], (spec.window, spec.features), architecture)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise ModelError(f"{path} is not a checkpoint of AMNet; train one with: edgetalk train amnet") from error
    sources = {name.removeprefix("source."): t for name, t in tensors.items() if name.startswith("source.")}
    weights = {name: t.float() for name, t in tensors.items() if not name.startswith("source.")}
    _check_sources(path, sources)
    check_finite(path, weights)
    expected = network.state_dict()
    wrong = [n for n in expected if n not in weights or weights[n].shape != expected[n].shape]
    wrong += [n for n in weights if n not in expected]
    if wrong:
        raise ModelError(f"{path}: {len(wrong)} tensors do not fit AMNet ({', '.join(wrong[:3])}); train it anew")
    network.load_state_dict(weights)
    digest = sha256(path)
    return Checkpoint(network.eval(), header["variant"], size, spec, persons, sources, training, digest)
