"""Wav2Lip's lip-sync expert for export: five frames and the mel window that starts with them, a unit vector each.

Their product tells how well mouth and sound agree. The published weights see BGR; the graph takes RGB, since the
order is folded into the first convolution. Left out: the offsets and confidences that scores make of the vectors.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from edgetalk.errors import InputError
from edgetalk.files import sha256
from edgetalk.metadata import Metadata
from edgetalk.train.networks.syncnet import FRAMES, SyncNet

from . import published
from .graph import Export, Graph
from .wav2lip import AUDIO, BGR, SIZE


class Sync(nn.Module):
    """frames uint8 (B, 5, 96, 96, 3) RGB and mel (B, 16, 80) -> mouth (B, 512), sound (B, 512)."""

    def __init__(self, network: SyncNet):
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor, mel: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.face(frames.float().permute(0, 1, 4, 2, 3) / 255.0), self.network.audio(mel)


def load(checkpoint: str | Path) -> SyncNet:
    """Read {"state_dict": …} or a bare state dict, with or without DataParallel's prefix; frames in RGB then.

    Raises FileNotFoundError, and ModelError where the file is damaged or no expert.
    """
    tensors = published.state_dict(checkpoint, "syncnet")
    width = published.width(tensors, "face_encoder.16.conv_block.0.weight", 512)
    with torch.device("meta"):
        network = SyncNet(width)
    published.fill(network, tensors, checkpoint)
    first = network.face_encoder[0].conv_block[0]
    frames = first.weight.unflatten(1, (FRAMES, 3))
    first.weight = nn.Parameter(frames[:, :, BGR].flatten(1, 2), requires_grad=False)
    return network


def prepare(checkpoint: Path, *, whole: bool, size: int | None, batch: int) -> Export:
    """Return the one graph of a published expert. There is one size, 96."""
    if size not in (None, SIZE):
        raise InputError(f"size: got {size}, SyncNet has {SIZE} alone")
    network = load(checkpoint)
    metadata = Metadata(family="syncnet", audio=AUDIO, checkpoint=sha256(checkpoint))
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (batch, FRAMES, SIZE, SIZE, 3), generator=generator, dtype=torch.uint8)
    mel = torch.rand(batch, AUDIO.window, AUDIO.features, generator=generator) * 8 - 4
    graph = Graph("whole" if whole else "sync", Sync(network), {"frames": frames, "mel": mel}, ["mouth", "sound"])
    return Export(metadata, [graph], {}, published.LICENCES["syncnet"])
