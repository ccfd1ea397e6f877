"""Checkpoints of the swap family and its experts: one safetensors file, half precision, what it is in the header.

Leaves out AMNet's checkpoints (checkpoint.py) and everything published by others (the export part reads those).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgetalk.errors import InputError, ModelError

from . import arcface, simswap, syncnet, wav2lip, wavsyncswap
from .tensors import check_finite, write_tensors

FORMAT = "1"
BESIDE = ("identity.safetensors", "experts/identity-a.safetensors")
"""Where a generator's identity extractor lies: beside it as it is handed on, and in the folder of a training."""


def _build(family: str, config: dict[str, Any]) -> nn.Module:
    config = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    if family == "wavsyncswap":
        return wavsyncswap.WavSyncSwap(wavsyncswap.Config(**config))
    if family == "arcface":
        return arcface.ArcFace(arcface.Config(**config))
    plain = {"syncnet": syncnet.SyncNet, "wav2lip": wav2lip.Wav2Lip, "simswap": simswap.SimSwap}
    return plain[family](**config)


def save(path: Path, family: str, network: nn.Module, config: Any, **record: Any) -> None:
    """Write `network` in half precision (batch norm's statistics stay whole); `record` goes into the header as JSON."""
    if dataclasses.is_dataclass(config):
        config = dataclasses.asdict(config)
    tensors = {}
    for name, tensor in network.state_dict().items():
        half = tensor.is_floating_point() and "running_" not in name
        tensors[name] = tensor.detach().to("cpu", torch.float16 if half else tensor.dtype).contiguous()
    header = {"format": FORMAT, "family": family, "config": json.dumps(config),
              **{key: json.dumps(value) for key, value in record.items()}}  # fmt: skip
    write_tensors(path, tensors, header)


def load(path: Path, family: str) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network in evaluation mode and the header's record; ModelError where the file is another family's."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelError(f"{path} is no whole safetensors file ({error}); train it again") from error
    if header.get("format") != FORMAT or header.get("family") != family:
        raise ModelError(
            f"{path} holds {header.get('family', 'no family')!r} of format {header.get('format')}, "
            f"expected {family!r} of format {FORMAT}; give another file"
        )
    try:
        record = {key: json.loads(value) for key, value in header.items() if key not in ("format", "family")}
        network = _build(family, record["config"])
        network.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
    except (TypeError, RuntimeError, KeyError, ValueError, AttributeError, ArithmeticError) as error:
        raise ModelError(
            f"{path} holds a {family} arranged as no longer built ({str(error).partition(chr(10))[0]}); train it again"
        ) from error
    check_finite(path, tensors)
    return network.eval(), record


def take_over(network: nn.Module, path: Path, family: str) -> dict[str, Any]:
    """Copy the weights of the checkpoint at `path` into `network`; return that file's record.

    Raises ModelError where the two are not arranged alike.
    """
    given, record = load(existing(path), family)
    try:
        network.load_state_dict(given.state_dict())
    except RuntimeError as error:
        raise ModelError(f"{path} has another width or arrangement, expected that of the new run") from error
    return record


def existing(path: Path, what: str = "checkpoint") -> Path:
    """Return `path`; raises FileNotFoundError, in words, where there is no such file."""
    if not path.is_file():
        raise FileNotFoundError(f"no {what} at {path}")
    return path


def extractor(generator: Path, given: Path | None = None) -> Path:
    """Return the identity extractor of a generator's checkpoint: the `given` one, or what lies beside it.

    Raises FileNotFoundError where the given one is missing, InputError where there is none.
    """
    if given is not None:
        return existing(given, "identity extractor")
    for name in BESIDE:
        if (path := generator.parent / name).is_file():
            return path
    raise InputError(
        f"identity: {generator.name} has no {BESIDE[0]} beside it; "
        "give the extractor that it was trained with: --identity FILE"
    )


def family(path: Path) -> str:
    """Return the family that a checkpoint of this kind says it is of, "" for every other file."""
    return header(path).get("family", "")


def header(path: Path) -> dict[str, str]:
    """Return what stands in the header of a safetensors file, nothing for every other file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(existing(path), "np") as file:
            return file.metadata() or {}
    except SafetensorError:
        return {}
