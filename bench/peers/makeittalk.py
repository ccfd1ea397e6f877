"""MakeItTalk (Zhou et al., 2020): sound to displaced landmarks by two networks, their drawing to a face by a third.

The picture network has 69.9 M of Table II's 74.828 M. That sum is met to the thousand with the extra input channel
for sound that its training code offers; without it there are 576 parameters less, 74.827 M. Not counted there and
not here: the voice converter (14.3 M) and the landmark detector. The speaker-aware network carries a transformer
decoder that nothing calls; it is counted, and here for that reason.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = 256
POINTS = 204  # 68 landmarks in three dimensions
WINDOW = 18  # frames of converted sound that a frame hears


class Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


def stage(convolution: nn.Module, channels: int, norm: bool) -> nn.Sequential:
    return nn.Sequential(
        convolution,
        *([nn.BatchNorm2d(channels)] if norm else []),
        nn.ReLU(inplace=True),
        Residual(channels),
        Residual(channels),
    )


class Picture(nn.Module):
    """U-Net of six halvings: drawing, picture and one channel of sound, (B, 7, 256, 256), to (B, 3, 256, 256)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (64, 128, 256, 512, 512, 512)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, (cin, cout) in enumerate(zip((7, *widths), widths, strict=False)):
            self.down.append(stage(nn.Conv2d(cin, cout, 3, 2, 1, bias=False), cout, norm=0 < i < 5))
        for i in range(5, 0, -1):
            cin = widths[i] if i == 5 else 2 * widths[i]
            self.up.append(stage(nn.Conv2d(cin, widths[i - 1], 3, padding=1, bias=False), widths[i - 1], norm=True))
        self.last = nn.Conv2d(2 * widths[0], 3, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for down in self.down:
            x = down(x)
            kept.append(x)
        for up, skip in zip(self.up, reversed(kept[:-1]), strict=True):
            x = torch.cat([skip, up(F.interpolate(x, scale_factor=2.0))], 1)
        return torch.tanh(self.last(F.interpolate(x, scale_factor=2.0)))


def perceptron(*sizes: int, norm: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for cin, cout in zip(sizes[:-1], sizes[1:-1], strict=False):
        layers += [nn.Linear(cin, cout), *([nn.BatchNorm1d(cout)] if norm else []), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class Content(nn.Module):
    """What is said: a prior perceptron and three LSTM layers over 18 frames of 80 values, then the landmarks."""

    def __init__(self) -> None:
        super().__init__()
        self.prior = perceptron(80, 256, 161, norm=True)
        self.hear = nn.LSTM(161, 256, 3, batch_first=True)
        self.move = perceptron(256 + POINTS, 512, 256, POINTS, norm=True)

    def forward(self, sound: Tensor, face: Tensor) -> Tensor:
        x = self.prior(sound.flatten(0, 1)).view(-1, WINDOW, 161)
        return self.move(torch.cat([self.hear(x)[0][:, -1], face], 1))


class Speaker(nn.Module):
    """Who says it: LSTM, speaker embedding, and a transformer over the frames."""

    def __init__(self) -> None:
        super().__init__()
        kind: dict[str, Any] = dict(
            d_model=64, nhead=2, dim_feedforward=2048, dropout=0.0, batch_first=True, norm_first=True
        )
        self.hear = nn.LSTM(80, 256, 3, batch_first=True)
        self.voice = perceptron(256, 256, 128, 128)
        self.embed = nn.Linear(256 + 128 + 128, 64)
        self.encode = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**kind), 2, nn.LayerNorm(64), enable_nested_tensor=False
        )
        self.never_called = nn.ModuleList(
            [
                nn.Linear(POINTS, 64),
                nn.TransformerDecoder(nn.TransformerDecoderLayer(**kind), 2, nn.LayerNorm(64)),
            ]
        )
        self.move = perceptron(64 + 128, 512, 256, POINTS)

    def forward(self, sound: Tensor, voice: Tensor, noise: Tensor) -> Tensor:
        x = torch.cat([self.hear(sound)[0][:, -1], self.voice(voice), noise], 1)
        x = self.encode(self.embed(x)[None])[0]
        return self.move(torch.cat([x, noise], 1))


class MakeItTalk(nn.Module):
    """One frame: displaced landmarks (1, 204) and the picture (1, 3, 256, 256); the drawing between is given."""

    def __init__(self) -> None:
        super().__init__()
        self.content, self.speaker, self.picture = Content(), Speaker(), Picture()

    def forward(
        self, sound: Tensor, voice: Tensor, noise: Tensor, face: Tensor, drawing: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.content(sound, face) + self.speaker(sound, voice, noise), self.picture(drawing)


def network() -> nn.Module:
    return MakeItTalk().eval()


def inputs(generator: torch.Generator) -> dict[str, Tensor]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "sound": normal(1, WINDOW, 80),
        "voice": normal(1, 256),
        "noise": normal(1, 128),
        "face": normal(1, POINTS),
        "drawing": torch.rand(1, 7, SIZE, SIZE, generator=generator),
    }


def counted(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
