"""PatchGAN, the discriminator of five convolutions that judges overlapping patches (Isola et al.; AMNet §IV)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchGAN(nn.Sequential):
    """Five 4×4 convolutions; (B, inputs, S, S) in [-1, 1] → (B, 1, S/8 - 2, S/8 - 2), one score per patch.

    `inputs` is 3, or 6 where the source picture is a condition. With `spectral` the weights are divided by their
    largest singular value and there is no instance norm, which is what Eq. 8 needs to stay bounded.
    """

    def __init__(self, inputs: int = 3, width: int = 64, spectral: bool = False):
        layers: list[nn.Module] = []
        channels = [inputs, width, 2 * width, 4 * width, 8 * width, 1]
        for i, stride in enumerate((2, 2, 2, 1, 1)):
            normed = 0 < i < 4 and not spectral
            conv = nn.Conv2d(channels[i], channels[i + 1], 4, stride, 1, bias=not normed)
            layers.append(spectral_norm(conv) if spectral else conv)
            if normed:
                layers.append(nn.InstanceNorm2d(channels[i + 1]))
            if i < 4:
                layers.append(nn.LeakyReLU(0.2))
        super().__init__(*layers)

    def judge(self, picture: Tensor, source: Tensor) -> Tensor:
        """Return the scores of pictures (B, 3, S, S), conditioned on the source where this discriminator was."""
        conditional = self[0].in_channels == 6
        return self(torch.cat([source, picture], 1) if conditional else picture)
