"""The identity extractor that SimSwap's generators were trained with: residual blocks with squeeze and excitation.

Another arrangement than ArcFace's own (arcface.py): a narrow stem with max pooling, one PReLU slope per block, used
inside and behind it, and pictures normalised as for ImageNet. Names are the published ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Excitation(nn.Module):
    """Scales each channel by what two layers make of all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // 16), nn.PReLU(), nn.Linear(channels // 16, channels), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class Block(nn.Module):
    """Batch norm, 3×3, batch norm, PReLU, 3×3 with stride, batch norm, excitation, the input added, PReLU."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.bn0, self.conv1 = nn.BatchNorm2d(cin), nn.Conv2d(cin, cin, 3, 1, 1, bias=False)
        self.bn1, self.prelu = nn.BatchNorm2d(cin), nn.PReLU()
        self.conv2, self.bn2 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout)
        self.se = Excitation(cout)
        self.downsample: nn.Module = nn.Identity()
        if cin != cout or stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.prelu(self.bn1(self.conv1(self.bn0(x))))
        return self.prelu(self.se(self.bn2(self.conv2(y))) + self.downsample(x))


class SimSwapArcFace(nn.Module):
    """Identity extractor: (B, 3, 112, 112) RGB in [0, 1], aligned -> unit vectors (B, 512)."""

    def __init__(self, blocks: tuple[int, ...] = (3, 4, 23, 3), width: float = 1.0) -> None:
        super().__init__()
        widths = [round(n * width) for n in (64, 64, 128, 256, 512)]
        self.conv1, self.bn1 = nn.Conv2d(3, widths[0], 3, bias=False), nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU()
        for stage, (cin, cout, count) in enumerate(zip(widths, widths[1:], blocks, strict=False), 1):
            stride = 1 if stage == 1 else 2
            layers = [Block(cin if i == 0 else cout, cout, stride if i == 0 else 1) for i in range(count)]
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        self.bn2, self.fc = nn.BatchNorm2d(widths[4]), nn.Linear(widths[4] * 7 * 7, 512)
        self.bn3 = nn.BatchNorm1d(512)

    def forward(self, face: torch.Tensor) -> torch.Tensor:
        mean, deviation = (torch.tensor(values)[:, None, None].to(face) for values in (MEAN, DEVIATION))
        x = F.max_pool2d(self.prelu(self.bn1(self.conv1((face - mean) / deviation))), 2)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return F.normalize(self.bn3(self.fc(self.bn2(x).flatten(1))), dim=1)
