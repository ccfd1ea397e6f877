"""Wav2Lip (Prajwal et al., 2020): mel window and face in, lip-synced face out; the published arrangement.

At width 1 it has the published 36.3 M parameters and their names. The graph is split as WavSyncSwap's: `prepare`
sees the face alone and runs once per avatar, `step` is the audio encoder and the decoder. Leaves out the visual
quality discriminator.
"""

from __future__ import annotations

import torch
from torch import nn

from .blocks import Conv, Transposed, audio_encoder, scaled


class Wav2Lip(nn.Module):
    """96×96 lip-sync generator. Pictures are (B, 3, 96, 96) in [0, 1], in the channel order it was trained with."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        c = {n: scaled(n, width) for n in (16, 32, 64, 128, 256, 384, 512)}

        def same(n: int, count: int) -> list[Conv]:
            return [Conv(n, n, 3, 1, 1, residual=True) for _ in range(count)]

        def down(cin: int, cout: int, count: int) -> nn.Sequential:
            return nn.Sequential(Conv(cin, cout, 3, 2, 1), *same(cout, count))

        def up(cin: int, cout: int) -> nn.Sequential:
            return nn.Sequential(Transposed(cin, cout, 3, 2, 1, 1), *same(cout, 2))

        self.face_encoder_blocks = nn.ModuleList([
            nn.Sequential(Conv(6, c[16], 7, 1, 3)),
            down(c[16], c[32], 2), down(c[32], c[64], 3), down(c[64], c[128], 2), down(c[128], c[256], 2),
            down(c[256], c[512], 1),
            nn.Sequential(Conv(c[512], c[512], 3), Conv(c[512], c[512], 1)),
        ])  # fmt: skip
        self.audio_encoder = audio_encoder(width, blocks=13)
        self.face_decoder_blocks = nn.ModuleList([
            nn.Sequential(Conv(c[512], c[512], 1)),
            nn.Sequential(Transposed(2 * c[512], c[512], 3), *same(c[512], 1)),
            up(2 * c[512], c[512]), up(c[512] + c[256], c[384]), up(c[384] + c[128], c[256]),
            up(c[256] + c[64], c[128]), up(c[128] + c[32], c[64]),
        ])  # fmt: skip
        self.output_block = nn.Sequential(Conv(c[64] + c[16], c[32], 3, 1, 1), nn.Conv2d(c[32], 3, 1), nn.Sigmoid())

    def prepare(self, target: torch.Tensor, reference: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Encode `target` (its lower half is masked here) with `reference`: seven feature maps, 96×96 … 1×1."""
        upper = torch.arange(target.shape[2], device=target.device) < target.shape[2] // 2
        x, features = torch.cat([target * upper[:, None].to(target.dtype), reference], 1), []
        for block in self.face_encoder_blocks:
            x = block(x)
            features.append(x)
        return tuple(features)

    def step(self, face: tuple[torch.Tensor, ...], mel: torch.Tensor) -> torch.Tensor:
        """Return the frame (B, 3, 96, 96) in [0, 1] for `face` as prepared and `mel` (B, 16, 80), time first."""
        x = self.audio_encoder(mel.transpose(1, 2)[:, None])
        for block, skip in zip(self.face_decoder_blocks, reversed(face), strict=True):
            x = torch.cat([block(x), skip], 1)
        return self.output_block(x)

    def forward(self, target: torch.Tensor, reference: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
        return self.step(self.prepare(target, reference), mel)
