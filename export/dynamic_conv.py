"""The Geometric Controller's convolution (AMNet, Eq. 4) in a form for any batch and any engine.

Its weights are computed per sample, which no engine's convolution takes as it is. As trained it is one grouped
convolution with the batch folded into the groups: "conv", the faster form on a CPU, for a batch fixed at export.
"shift" is the same by shifted multiply-adds. With one tap and one channel per group both are one multiply-add.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetalk.train.networks.amnet import GeometricController

FORMS = ("conv", "shift")


def shifted(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve each sample of x (B, C, H, W) with its own weight (B, C, C / groups, k, k) and bias (B, C), if any.

    Zeros lie around x. k * k copies of it, shifted, are multiplied and added (matrix products where groups < C).
    """
    _, channels, height, width = x.shape
    per_group, k = weight.shape[2], weight.shape[-1]
    groups = channels // per_group
    padded = F.pad(x, [k // 2] * 4)
    total = x.new_zeros(()) if bias is None else bias[:, :, None, None]
    for row in range(k):
        for column in range(k):
            part = padded[:, :, row : row + height, column : column + width]
            tap = weight[..., row, column]
            if per_group == 1:
                total = total + part * tap[..., None]
            else:
                product = torch.matmul(
                    tap.reshape(-1, groups, per_group, per_group), part.reshape(-1, groups, per_group, height * width)
                )
                total = total + product.reshape(-1, channels, height, width)
    return total


def unroll(module: nn.Module) -> None:
    """Let each GeometricController inside `module` convolve as `shifted`."""
    for child in module.modules():
        if isinstance(child, GeometricController):
            child.convolve = shifted
