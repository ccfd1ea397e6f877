"""APB2Face (Zhang et al., 2020): a drawing of the landmarks in, the face out; a residual generator for 256×256.

Its audio network, which predicts the landmarks (1.723 M), is not among the 16.696 M of Table II and not here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIZE = 256


def normed(convolution: nn.Module, channels: int, relu: bool = True) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(channels), *([nn.ReLU(inplace=True)] if relu else [])]


class Block(nn.Module):
    """Two reflected 3×3 convolutions beside a third one, which takes the place of the identity; no ReLU behind."""

    def __init__(self, channels: int):
        super().__init__()

        def conv(padding: int) -> nn.Conv2d:
            return nn.Conv2d(channels, channels, 3, padding=padding, bias=False)

        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            *normed(conv(0), channels),
            nn.ReflectionPad2d(1),
            *normed(conv(0), channels, relu=False),
        )
        self.beside = nn.Sequential(*normed(conv(1), channels, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.beside(x) + self.body(x)


class Generator(nn.Sequential):
    """(B, 3, 256, 256) to the same in [-1, 1]."""

    def __init__(self) -> None:
        def down(cin: int, cout: int) -> list[nn.Module]:
            return normed(nn.Conv2d(cin, cout, 3, 2, 1, bias=False), cout)

        def up(cin: int, cout: int) -> list[nn.Module]:
            return normed(nn.ConvTranspose2d(cin, cout, 3, 2, 1, 1, bias=False), cout)

        super().__init__(
            nn.ReflectionPad2d(3),
            *normed(nn.Conv2d(3, 64, 7, bias=False), 64),
            *down(64, 128),
            *down(128, 256),
            *(Block(256) for _ in range(9)),
            *up(256, 128),
            *up(128, 64),
            nn.ReflectionPad2d(3),
            nn.Conv2d(64, 3, 7),
            nn.Tanh(),
        )


def network() -> nn.Module:
    return Generator().eval()


def inputs(generator: torch.Generator) -> dict[str, Tensor]:
    return {"drawing": torch.rand(1, 3, SIZE, SIZE, generator=generator) * 2 - 1}


def counted(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
