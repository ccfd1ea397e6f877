"""SimSwap (Chen et al., 2020): target picture and identity in, identity-swapped picture out; the published arrangement.

At width 1 the generator has the published parameter names and shapes (55 M at 96 and 224). Pictures of 512 take one
halving more: at the bottom (`deep`, down4 and up4) or at full resolution, with half the channels (`high`, down0 and
up0). Leaves out its discriminator and the ArcFace that gives the identity.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import scaled


class InstanceNorm(nn.Module):
    """Zero mean, unit deviation over each sample's channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + 1e-8)


class Style(nn.Module):
    """Scale 1 + a and shift b per channel, a and b linear in the identity (published form of Eq. 2's σ and μ)."""

    def __init__(self, identity: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(identity, 2 * channels)

    def forward(self, x: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        scale, shift = self.linear(identity)[:, :, None, None].chunk(2, 1)
        return x * (scale + 1) + shift


class IdBlock(nn.Module):
    """Two reflected 3×3 convolutions with AdaIN, ReLU between, and the input added."""

    def __init__(self, channels: int, identity: int) -> None:
        super().__init__()

        def conv() -> nn.Sequential:
            return nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), InstanceNorm())

        self.conv1, self.style1 = conv(), Style(identity, channels)
        self.conv2, self.style2 = conv(), Style(identity, channels)

    def forward(self, x: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.style1(self.conv1(x), identity))
        return x + self.style2(self.conv2(y), identity)


class SimSwap(nn.Module):
    """Face swapping generator for any size that is a multiple of 8 (of 16 with `deep` or `high`, of 32 with both)."""

    def __init__(
        self, width: float = 1.0, blocks: int = 9, deep: bool = False, identity: int = 512, high: bool = False
    ) -> None:
        super().__init__()
        c = [scaled(n, width) for n in (64, 128, 256, 512)]
        entry = scaled(32, width) if high else c[0]

        def down(cin: int, cout: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(cin, cout, 3, 2, 1), nn.BatchNorm2d(cout), nn.ReLU())

        def up(cin: int, cout: int) -> nn.Sequential:
            return nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                                 nn.Conv2d(cin, cout, 3, 1, 1), nn.BatchNorm2d(cout), nn.ReLU())  # fmt: skip

        self.deep, self.high = deep, high
        self.first_layer = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(3, entry, 7), nn.BatchNorm2d(entry), nn.ReLU()
        )
        if high:
            self.down0, self.up0 = down(entry, c[0]), up(c[0], entry)
        self.down1, self.down2, self.down3 = down(c[0], c[1]), down(c[1], c[2]), down(c[2], c[3])
        if deep:
            self.down4, self.up4 = down(c[3], c[3]), up(c[3], c[3])
        self.BottleNeck = nn.ModuleList(IdBlock(c[3], identity) for _ in range(blocks))
        self.up3, self.up2, self.up1 = up(c[3], c[2]), up(c[2], c[1]), up(c[1], c[0])
        self.last_layer = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(entry, 3, 7), nn.Tanh())

    def forward(self, target: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        """Return (B, 3, S, S) in [0, 1] from `target` of that shape and `identity` (B, 512), L2-normalised."""
        x = self.first_layer(target)
        x = self.down0(x) if self.high else x
        x = self.down3(self.down2(self.down1(x)))
        x = self.down4(x) if self.deep else x
        for block in self.BottleNeck:
            x = block(x, identity)
        x = self.up4(x) if self.deep else x
        x = self.up1(self.up2(self.up3(x)))
        x = self.up0(x) if self.high else x
        return (self.last_layer(x) + 1) / 2
