"""The losses of AMNet (§III, Eq. 5–8), in float32 whatever the network computes in."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgetalk.train.networks.patchgan import PatchGAN


def geometry_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """L_G, the mean ℓ1 of landmarks (B, 106, 2) (Eq. 6), in pixels of a 256 frame: λ_G = 1 then weighs like λ_C."""
    return 256.0 * F.l1_loss(predicted.float(), true)


def content_loss(generated: Tensor, true: Tensor, weight: Tensor | None = None, squared: float = 0.0) -> Tensor:
    """L_C, the mean ℓ1 of pictures (B, 3, S, S) (Eq. 7).

    `weight` (B, 1, S, S), of mean near 1, may stress a region; `squared` times the squared error may be added.
    """
    error = (generated.float() - true.float()).abs()
    if squared:
        error = error + squared * error.square()
    return error.mean() if weight is None else (error * weight).mean()


def discriminator_loss(mode: str, critic: PatchGAN, generated: Tensor, true: Tensor, source: Tensor) -> Tensor:
    """The discriminator's loss on a batch: least squares for "lsgan", the difference of means for "eq8"."""
    fake = critic.judge(generated.detach(), source).float()
    real = critic.judge(true, source).float()
    if mode == "eq8":
        return fake.mean() - real.mean()
    return 0.5 * (fake.square().mean() + (real - 1).square().mean())


def adversarial_loss(mode: str, critic: PatchGAN, generated: Tensor, source: Tensor) -> Tensor:
    """L_Adv of the generator: least squares for "lsgan", minus the mean score for "eq8" (Eq. 8)."""
    fake = critic.judge(generated, source).float()
    return -fake.mean() if mode == "eq8" else (fake - 1).square().mean()


def region_weight(landmarks: Tensor, size: int, mouth: float, eyes: float) -> Tensor:
    """Return weights (B, 1, size, size) of mean 1 from landmarks (B, 106, 2).

    They are `mouth` in a soft box about the mouth, `eyes` in one about each eye and 1 elsewhere, then scaled.
    """
    weight = 1 + (mouth - 1) * _box(landmarks[:, 86:106], size)
    weight = weight + (eyes - 1) * torch.maximum(_box(landmarks[:, 66:76], size), _box(landmarks[:, 76:86], size))
    return weight / weight.mean((2, 3), keepdim=True)


def _box(points: Tensor, size: int) -> Tensor:
    """1 in a square about points (B, N, 2), half as wide again as they are, falling softly to 0: (B, 1, size, size)."""
    reach = 0.75 * (points[..., 0].amax(1) - points[..., 0].amin(1)).clamp(min=0.1)[:, None]
    axis = (torch.arange(size, device=points.device) + 0.5) / size
    near_x, near_y = (torch.sigmoid((reach - (axis - c[:, None]).abs()) * 60) for c in points.mean(1).unbind(1))
    return near_y[:, None, :, None] * near_x[:, None, None, :]
