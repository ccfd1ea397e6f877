"""ArcFace (Deng et al., 2019): an improved residual network that turns an aligned face into an identity vector.

Blocks are IR blocks: batch norm, 3×3, batch norm, PReLU, 3×3 with stride, batch norm, and the shortcut added.
Leaves out training; `Margin` is the additive angular margin that training puts on top.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import scaled

CROP = (76 / 96, 3 / 96)
"""Side of what an extractor sees of an aligned picture, and how far its centre lies below the picture's, as fractions;
where a checkpoint tells none."""


@dataclass(frozen=True)
class Config:
    """Size of an extractor; the defaults are ours, IR-50 is width 1 with blocks (3, 4, 14, 3)."""

    width: float = 0.5
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    size: int = 112
    """Side of the aligned picture in pixels, a multiple of 16."""
    identity: int = 512
    mask: bool = True
    """See an ellipse around the face only, so that hair, clothes and background cannot stand for the person."""
    dropout: float = 0.2
    parameters: int = 0
    """Outputs of an auxiliary head that regresses known parameters of drawn faces; 0 leaves the head out."""


class Prelu(nn.PReLU):
    """PReLU whose gradient is made of operations that are fast on a processor: torch's own takes ten times as long."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return super().forward(x)
        return F.relu(x) - self.weight.to(x.dtype)[:, None, None] * F.relu(-x)


class IrBlock(nn.Module):
    """One improved residual block; the shortcut is a strided 1×1 convolution where the shape changes."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.stride, self.shortcut = stride, nn.Identity()
        if cin != cout or stride > 1:
            self.shortcut = nn.Sequential(nn.Conv2d(cin, cout, 1, bias=False), nn.BatchNorm2d(cout))
        self.body = nn.Sequential(
            nn.BatchNorm2d(cin), nn.Conv2d(cin, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout),
            Prelu(cout), nn.Conv2d(cout, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Subsampling before the 1×1 equals its stride; the strided form's backward pass crashes torch on some CPUs.
        return self.body(x) + self.shortcut(x[:, :, :: self.stride, :: self.stride])


class ArcFace(nn.Module):
    """Identity extractor: (B, 3, size, size) in [0, 1], aligned -> unit vectors (B, identity)."""

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()
        widths = [scaled(n, config.width) for n in (64, 64, 128, 256, 512)]
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]),
                                  Prelu(widths[0]))  # fmt: skip
        self.stages = nn.Sequential(*(
            IrBlock(cin if i == 0 else cout, cout, 2 if i == 0 else 1)
            for cin, cout, count in zip(widths, widths[1:], config.blocks, strict=False) for i in range(count)
        ))  # fmt: skip
        self.norm, self.dropout = nn.BatchNorm2d(widths[4]), nn.Dropout(config.dropout)
        self.project = nn.Linear(widths[4] * (config.size // 16) ** 2, config.identity, bias=False)
        self.project_norm = nn.BatchNorm1d(config.identity)
        self.parameters_head = nn.Linear(config.identity, config.parameters) if config.parameters else None
        axis = torch.linspace(-1, 1, config.size)
        # An ellipse that just holds the face of an aligned picture, with a soft edge.
        radius = torch.hypot(axis[None] / 0.86, axis[:, None] / 0.98)
        self.register_buffer("ellipse", torch.clamp((1 - radius) * 12 + 0.5, 0, 1), persistent=False)

    def features(self, face: torch.Tensor) -> torch.Tensor:
        """Return the vectors (B, identity) before they are normalised."""
        x = face * 2 - 1
        x = x * self.ellipse if self.config.mask else x
        x = self.dropout(self.norm(self.stages(self.stem(x))))
        return self.project_norm(self.project(x.flatten(1)).float())

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.features(face), dim=1)


class Margin(nn.Module):
    """Additive angular margin: the logits of ArcFace Eq. 3, s·cos(θ_y + m) for the true class, s·cos θ elsewhere."""

    def __init__(self, identity: int, classes: int, scale: float = 24.0, margin: float = 0.4) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, identity) * 0.01)
        self.scale, self.margin = scale, margin

    def forward(self, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return logits (B, classes) for unit `vectors` (B, identity) and `labels` (B,) int64."""
        cosine = (F.normalize(vectors.float(), dim=1) @ F.normalize(self.weight, dim=1).T).clamp(-1 + 1e-6, 1 - 1e-6)
        true = cosine.gather(1, labels[:, None])
        moved = torch.cos(torch.acos(true) + self.margin)
        # Beyond π - m the cosine would rise again; ArcFace's usual substitute keeps the penalty growing.
        moved = torch.where(true > -math.cos(self.margin), moved, true - self.margin * math.sin(self.margin))
        return self.scale * cosine.scatter(1, labels[:, None], moved)
