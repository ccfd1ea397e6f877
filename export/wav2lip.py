"""Wav2Lip for export: the face's half of the published generator is prepared once, a step is sound and decoder.

The published weights see and make pictures in BGR; the graphs take and give RGB, since the order is folded into the
first and the last convolution. Left out: the discriminator.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from edgetalk.errors import InputError
from edgetalk.files import sha256
from edgetalk.metadata import AudioSpec, Metadata
from edgetalk.train.networks.wav2lip import Wav2Lip

from . import published
from .graph import Export, Graph
from .onnx_file import from_pixels, to_pixels

SIZE = 96
AUDIO = AudioSpec(window=16, offset=0.0)
BGR = [2, 1, 0]


class Source(nn.Module):
    """target uint8 (B, 96, 96, 3) RGB -> face0 … face6, (B, H, W, C) from 96×96 to 1×1; the lower half is masked."""

    def __init__(self, network: Wav2Lip):
        super().__init__()
        self.network = network

    def forward(self, target: Tensor) -> tuple[Tensor, ...]:
        picture = from_pixels(target, 255.0, 0.0)
        return tuple(x.permute(0, 2, 3, 1) for x in self.network.prepare(picture, picture))


class Step(nn.Module):
    """face0 … face6 as Source makes them and mel (B, 16, 80) -> frame uint8 (B, 96, 96, 3) RGB."""

    def __init__(self, network: Wav2Lip):
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        *face, mel = inputs
        frame = self.network.step(tuple(x.permute(0, 3, 1, 2) for x in face), mel)
        return to_pixels(frame, 255.0, 0.0)


class Whole(nn.Module):
    """Source and Step in one graph."""

    def __init__(self, network: Wav2Lip):
        super().__init__()
        self.source, self.step = Source(network), Step(network)

    def forward(self, target: Tensor, mel: Tensor) -> Tensor:
        return self.step(*self.source(target), mel)


def load(checkpoint: str | Path) -> Wav2Lip:
    """Read {"state_dict": …} or a bare state dict, with or without DataParallel's prefix; pictures in RGB then.

    Raises FileNotFoundError, and ModelError where the file is damaged or no Wav2Lip.
    """
    tensors = published.state_dict(checkpoint, "wav2lip")
    width = published.width(tensors, "face_encoder_blocks.6.1.conv_block.0.weight", 512)
    with torch.device("meta"):
        network = Wav2Lip(width)
    published.fill(network, tensors, checkpoint)
    first, last = network.face_encoder_blocks[0][0].conv_block[0], network.output_block[1]
    first.weight = nn.Parameter(first.weight[:, [2, 1, 0, 5, 4, 3]], requires_grad=False)
    last.weight = nn.Parameter(last.weight[BGR], requires_grad=False)
    last.bias = nn.Parameter(last.bias[BGR], requires_grad=False)
    return network


def prepare(checkpoint: Path, *, whole: bool, size: int | None, batch: int) -> Export:
    """Return the graphs of a published checkpoint, the source graph first. There is one size, 96."""
    if size not in (None, SIZE):
        raise InputError(f"size: got {size}, Wav2Lip has {SIZE} alone")
    network = load(checkpoint)
    metadata = Metadata(family="wav2lip", audio=AUDIO, checkpoint=sha256(checkpoint))
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 256, (batch, SIZE, SIZE, 3), generator=generator, dtype=torch.uint8)
    mel = torch.rand(batch, AUDIO.window, AUDIO.features, generator=generator) * 8 - 4
    if whole:
        graphs = [Graph("whole", Whole(network), {"target": target, "mel": mel}, ["frame"])]
    else:
        with torch.no_grad():
            features = {f"face{i}": value for i, value in enumerate(Source(network)(target))}
        graphs = [
            Graph("source", Source(network), {"target": target}, list(features)),
            Graph("step", Step(network), {**features, "mel": mel}, ["frame"]),
        ]
    return Export(metadata, graphs, {}, published.LICENCES["wav2lip"])
