"""The lip-sync expert (SyncNet as in Wav2Lip, 2020): does this mouth belong to this sound?

WavSyncSwap §2.2 trains it first, then freezes it as its lip-sync discriminator. The published arrangement and
parameter names at width 1. Leaves out training (train/experts/sync.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import Conv, audio_encoder, scaled

FRAMES = 5  # consecutive frames that are judged together
LUMA = (0.299, 0.587, 0.114)


class SyncNet(nn.Module):
    """Embeds the lower half of five 96×96 frames, and the mel window (16, 80) that starts with the first frame.

    With `grey` it sees their luma alone: an expert that sees colour rewards a generator for colouring teeth and lips.
    """

    def __init__(self, width: float = 1.0, grey: bool = False) -> None:
        super().__init__()
        self.grey = grey
        c32, c64, c128, c256, c512 = (scaled(n, width) for n in (32, 64, 128, 256, 512))

        def same(n: int, count: int) -> list[Conv]:
            return [Conv(n, n, 3, 1, 1, residual=True) for _ in range(count)]

        self.face_encoder = nn.Sequential(
            Conv(3 * FRAMES, c32, 7, 1, 3),
            Conv(c32, c64, 5, (1, 2), 1), *same(c64, 2),
            Conv(c64, c128, 3, 2, 1), *same(c128, 3),
            Conv(c128, c256, 3, 2, 1), *same(c256, 2),
            Conv(c256, c512, 3, 2, 1), *same(c512, 2),
            Conv(c512, c512, 3, 2, 1), Conv(c512, c512, 3), Conv(c512, c512, 1),
        )  # fmt: skip
        self.audio_encoder = audio_encoder(width)

    def face(self, frames: torch.Tensor) -> torch.Tensor:
        """Return unit vectors (B, scaled(512)) of `frames` (B, 5, 3, 96, 96) in [0, 1]; their lower half is seen."""
        lower = frames[..., frames.shape[-2] // 2 :, :]
        if self.grey:
            lower = (lower * lower.new_tensor(LUMA)[:, None, None]).sum(-3, keepdim=True).expand_as(lower)
        return F.normalize(self.face_encoder(lower.flatten(1, 2)).flatten(1).float(), dim=1)

    def audio(self, mel: torch.Tensor) -> torch.Tensor:
        """Return unit vectors (B, scaled(512)) of `mel` (B, 16, 80), time first."""
        return F.normalize(self.audio_encoder(mel.transpose(1, 2)[:, None]).flatten(1).float(), dim=1)

    def forward(self, frames: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
        """Return the probability of sync, (B,): the cosine, in [0, 1] since both sides end in a ReLU."""
        return (self.face(frames) * self.audio(mel)).sum(1)
