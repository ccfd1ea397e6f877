"""Convolution blocks that Wav2Lip's family shares: convolution, batch norm, ReLU, with or without a residual.

Attribute names follow the published checkpoints (`conv_block.0`, `conv_block.1`), so that these load by name.
Leaves out whole networks: each family has its own file.
"""

from __future__ import annotations

import torch
from torch import nn


class Conv(nn.Module):
    """Convolution, batch norm, the input added where `residual`, ReLU."""

    def __init__(self, cin: int, cout: int, kernel, stride=1, padding=0, residual: bool = False) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(nn.Conv2d(cin, cout, kernel, stride, padding), nn.BatchNorm2d(cout))
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv_block(x)
        return torch.relu(y + x if self.residual else y)


class Transposed(nn.Module):
    """Transposed convolution, batch norm, ReLU."""

    def __init__(self, cin: int, cout: int, kernel, stride=1, padding=0, output_padding=0) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ConvTranspose2d(cin, cout, kernel, stride, padding, output_padding), nn.BatchNorm2d(cout)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv_block(x))


def scaled(channels: int, width: float) -> int:
    """Return `channels` times `width`, rounded to a multiple of 8 (at least 8), as matrix units like it."""
    return max(8, 8 * round(channels * width / 8))


def audio_encoder(
    width: float = 1.0, blocks: int = 14, channels: tuple[int, ...] = (32, 64, 128, 256)
) -> nn.Sequential:
    """Return Wav2Lip's audio encoder: (B, 1, 80, 16) mel -> (B, scaled(512), 1, 1).

    `channels`, times `width`, are those of its four levels before the feature; the default is as published. Wav2Lip's
    generator has 13 blocks, its expert and WavSyncSwap's Enc_a have 14: one residual more at 256. Eight of the 14 have
    a shortcut; the six that change channels or size have none.
    """
    c32, c64, c128, c256, c512 = (scaled(c, width) for c in (*channels, 512))

    def same(c: int) -> Conv:
        return Conv(c, c, 3, 1, 1, residual=True)

    return nn.Sequential(
        Conv(1, c32, 3, 1, 1), same(c32), same(c32),
        Conv(c32, c64, 3, (3, 1), 1), same(c64), same(c64),
        Conv(c64, c128, 3, 3, 1), same(c128), same(c128),
        Conv(c128, c256, 3, (3, 2), 1), *(same(c256) for _ in range(blocks - 12)),
        Conv(c256, c512, 3), Conv(c512, c512, 1),
    )  # fmt: skip
