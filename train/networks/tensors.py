"""Tensors into a safetensors file, for every checkpoint and state; what they are called is up to who writes them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from edgetalk.errors import ModelError
from edgetalk.files import replacing


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors, contiguous and on the CPU, and a header of texts; the file appears whole or not at all.

    Raises OSError where it cannot be written, as on a full disk.
    """
    from safetensors.torch import save

    with replacing(path) as part:  # save_file would put a file of its own there, which nobody else may read
        part.write_bytes(save(dict(tensors), dict(header)))


def digest(network: nn.Module) -> str:
    """Return a short sha256 of a network's weights."""
    whole = hashlib.sha256()
    for tensor in network.state_dict().values():
        whole.update(tensor.detach().cpu().numpy().tobytes())
    return whole.hexdigest()[:16]


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise ModelError, naming the first of them, where weights of the file are NaN or infinite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ModelError(
                f"{path}: {name} has NaN or infinite numbers, as of a training that diverged; take an earlier "
                "checkpoint, or train again with a lower learning rate"
            )
