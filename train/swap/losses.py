"""The losses of WavSyncSwap (§2.1, §2.4: Eq. 1 and 3–6) and what ours adds to them, as functions of tensors alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgetalk.train.scores.measures import ssim


def weighted_sum(losses: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Eq. 5: the sum of λ times loss over the names that both have, a scalar; a constant where there is none."""
    there = [weight * losses[name] for name, weight in weights.items() if name in losses]
    return torch.stack(there).sum() if there else torch.zeros((), requires_grad=True)


def identity_loss(made: Tensor, source: Tensor) -> Tensor:
    """Eq. 3: one minus the cosine of identity vectors (B, D), their mean."""
    return (1 - F.cosine_similarity(made, source, dim=1)).mean()


def sync_loss(probability: Tensor, logarithm: bool = True) -> Tensor:
    """Eq. 1, the mean of −log P_sync (B,), or the mean of 1 − P_sync, which is bounded."""
    return -torch.log(probability.clamp(min=1e-4)).mean() if logarithm else (1 - probability).mean()


def weak_feature_loss(made: list[list[Tensor]], true: list[list[Tensor]], start: int) -> Tensor:
    """Eq. 4: mean distances of the discriminator's features from layer `start` (1 is the first), summed over layers.

    Averaged over the scales. The last of each scale, its map of scores, is no feature and left out.
    """
    terms = [
        (a.float() - b.float()).abs().mean()
        for scale_made, scale_true in zip(made, true, strict=True)
        for a, b in zip(scale_made[start - 1 : -1], scale_true[start - 1 : -1], strict=True)
    ]
    return torch.stack(terms).sum() / len(made)


def pixel_loss(made: Tensor, true: Tensor, weight: Tensor) -> Tensor:
    """Eq. 6 with a weight per pixel of mean 1, over pictures (B, 3, S, S)."""
    return ((made.float() - true).abs() * weight).mean()


def structure_loss(made: Tensor, true: Tensor) -> Tensor:
    """One minus the structural similarity (scores.measures.ssim) of pictures (B, 3, S, S), its mean.

    L1 blurs what it cannot place; this one asks for local contrast, too (Zhao et al., Loss Functions for Image
    Restoration with Neural Networks, 2017).
    """
    return (1 - ssim(made.float(), true)).mean()


def critic_loss(made: list[list[Tensor]], true: list[list[Tensor]]) -> Tensor:
    """LSGAN for the discriminator: true patches to 1, made ones to 0."""
    terms = [0.5 * (a[-1].float().square().mean() + (b[-1].float() - 1).square().mean())
             for a, b in zip(made, true, strict=True)]  # fmt: skip
    return torch.stack(terms).mean()


def adversarial_loss(made: list[list[Tensor]]) -> Tensor:
    """LSGAN for the generator: made patches to 1."""
    return torch.stack([(scale[-1].float() - 1).square().mean() for scale in made]).mean()


def keep_loss(share: Tensor, kept: Tensor, true: Tensor, wrong: Tensor) -> Tensor:
    """Mean α = 1 − share (B, 1, S, S) of the pixels about which the filled target `kept` is right already.

    Without it a matte learns slowly that it may leave alone what is right. `wrong` (B, 1, S, S) excepts pixels whose
    being right cannot be known: where a target keeps its own face.
    """
    far = F.max_pool2d((kept.float() - true).abs().amax(1, keepdim=True), 3, 1, 1)
    right = (far < 0.05) & ~wrong
    return ((1 - share.float()) * right).mean()


def mouth_weight(size: int, stress: float) -> Tensor:
    """Return weights (1, 1, size, size) of mean 1, `stress` where the mouth may be in the crop of crops.py."""
    axis = (torch.arange(size) + 0.5) / size
    across, down = 0.29 - (axis - 0.5).abs(), 0.16 - (axis - 0.67).abs()
    weight = 1 + (stress - 1) * torch.sigmoid(60 * across)[None, :] * torch.sigmoid(60 * down)[:, None]
    return (weight / weight.mean())[None, None]
