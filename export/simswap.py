"""SimSwap for export: target picture and identity in, swapped picture out, one graph.

Nothing of it depends on one input alone for long, so there is no source graph. The identity is that of the ArcFace
that the generator was trained with (export/arcface.py reads it); another's means nothing to it. Left out: finding and
aligning faces, and the generator of the authors' later training code, which has the same names but no tanh.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from edgetalk.errors import InputError
from edgetalk.files import sha256
from edgetalk.metadata import Metadata
from edgetalk.train.networks.simswap import SimSwap

from . import published
from .graph import Export, Graph
from .onnx_file import from_pixels, to_pixels

UNITS = {"identity": "unit vector"}


class Swap(nn.Module):
    """target uint8 (B, S, S, 3) RGB and identity (B, 512) -> frame uint8 (B, S, S, 3) RGB."""

    def __init__(self, network: SimSwap):
        super().__init__()
        self.network = network

    def forward(self, target: Tensor, identity: Tensor) -> Tensor:
        return to_pixels(self.network(from_pixels(target, 255.0, 0.0), identity), 255.0, 0.0)


def load(checkpoint: str | Path) -> SimSwap:
    """Read a generator's state dict; its names tell how deep it is.

    Raises FileNotFoundError, and ModelError where the file is damaged or no SimSwap.
    """
    tensors = published.state_dict(checkpoint, "simswap")
    blocks = {name.split(".")[1] for name in tensors if name.startswith("BottleNeck.")}
    style = tensors.get("BottleNeck.0.style1.linear.weight")
    identity = style.shape[1] if style is not None and style.ndim == 2 else 512
    width = published.width(tensors, "BottleNeck.0.conv1.1.weight", 512)
    deep, high = "down4.0.weight" in tensors, "down0.0.weight" in tensors
    with torch.device("meta"):
        network = SimSwap(width, max(1, len(blocks)), deep, identity, high)
    published.fill(network, tensors, checkpoint)
    return network


def prepare(checkpoint: Path, *, whole: bool, size: int | None, batch: int) -> Export:
    """Return the one graph of a published generator, for pictures of 224, or 512 where it has down4 or down0."""
    network = load(checkpoint)
    size = (512 if network.deep or network.high else 224) if size is None else size
    step = 8 << (network.deep + network.high)
    if size < 64 or size % step:
        raise InputError(f"size: got {size}, expected a multiple of {step} of at least 64")
    metadata = Metadata(family="simswap", units=UNITS, checkpoint=sha256(checkpoint))
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 256, (batch, size, size, 3), generator=generator, dtype=torch.uint8)
    width = network.BottleNeck[0].style1.linear.in_features
    identity = nn.functional.normalize(torch.randn(batch, width, generator=generator))
    graph = Graph("whole" if whole else "step", Swap(network), {"target": target, "identity": identity}, ["frame"])
    return Export(metadata, [graph], {}, published.LICENCES["simswap"])
