"""Wav2Pix (Duarte et al., 2019): one second of raw sound in, a face of 128×128 out.

Weights and biases make 24.737 M; the two vectors that spectral normalisation keeps for each transposed convolution
add 33,904, which gives the 24.771 M of Table II. The normalised weights are constants once training is over, so the
vectors are counted but not computed with. The classifier that helps training (28,230 parameters) is in neither.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = 128
SAMPLES = 16000


class Wav2Pix(nn.Module):
    """sound (B, 16000) to a picture (B, 3, 128, 128) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        heard = (1, 16, 32, 128, 256, 512, 1024)
        self.hear = nn.ModuleList(
            nn.Sequential(nn.Conv1d(cin, cout, 15, 4), nn.BatchNorm1d(cout), nn.LeakyReLU(0.3))
            for cin, cout in zip(heard, heard[1:], strict=False)
        )
        self.code = nn.Sequential(nn.Linear(4096, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 128))
        widths = (1024, 512, 256, 128, 64)
        layers: list[nn.Module] = [nn.ConvTranspose2d(128, widths[0], 4, bias=False), nn.ReLU()]
        for cin, cout in zip(widths, widths[1:], strict=False):
            layers += [nn.ConvTranspose2d(cin, cout, 4, 2, 1, bias=False), nn.ReLU()]
        self.paint = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1, bias=False), nn.Tanh())

    def forward(self, sound: Tensor) -> Tensor:
        x = sound[:, None]
        for layer in self.hear:
            x = layer(F.pad(x, (6, 7)))
        return self.paint(self.code(x.flatten(1))[:, :, None, None])


def network() -> nn.Module:
    return Wav2Pix().eval()


def inputs(generator: torch.Generator) -> dict[str, Tensor]:
    return {"sound": torch.rand(1, SAMPLES, generator=generator) * 2 - 1}


def counted(network: nn.Module) -> int:
    """The parameters and, for each transposed convolution, a vector as long as its rows and one as its columns."""
    vectors = sum(
        layer.in_channels + layer.weight[0].numel()
        for layer in network.modules()
        if isinstance(layer, nn.ConvTranspose2d)
    )
    return sum(p.numel() for p in network.parameters()) + vectors
