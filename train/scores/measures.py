"""Measures between pictures, landmarks, curves and feature clouds, batched in torch so that a GPU runs them.

Nothing here knows of data sets or networks. Pictures are float (B, 3, H, W) in [0, 1]. Each function is tested
against scikit-image, scipy or numpy.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MOUTH = slice(86, 106)
"""Landmarks of the mouth."""
GROUPS = {"contour": slice(0, 33), "brows": slice(33, 51), "nose": slice(51, 66), "eyes": slice(66, 86), "mouth": MOUTH}
"""Landmark groups in our order."""
RADIUS, SIGMA = 5, 1.5


def _window(size: int, like: Tensor) -> Tensor:
    """Return the Gaussian window at each of its places on a line of `size` pixels, (size − 10, size)."""
    at = torch.arange(size, dtype=like.dtype, device=like.device)
    distance = at - RADIUS - torch.arange(size - 2 * RADIUS, dtype=like.dtype, device=like.device)[:, None]
    window = torch.exp(-0.5 * (distance / SIGMA) ** 2) * (distance.abs() <= RADIUS)
    return window / window.sum(1, keepdim=True)


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004: 11×11 Gaussian window, σ 1.5) per pixel, mean of the channels.

    (B, H − 10, W − 10): pixels whose window lies within the picture. The mean over them equals
    skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False).
    """
    down, across = _window(a.shape[-2], a), _window(a.shape[-1], a)

    def blurred(x: Tensor) -> Tensor:
        return down @ x.contiguous() @ across.T  # an order faster than convolutions of one channel, their gradients too

    mean_a, mean_b = blurred(a), blurred(b)
    variance_a = blurred(a * a) - mean_a**2
    variance_b = blurred(b * b) - mean_b**2
    covariance = blurred(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    values = (
        (2 * mean_a * mean_b + c1)
        * (2 * covariance + c2)
        / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))
    )
    return values.mean(1)


def ssim(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity per picture, (B,), where `mask` (B, H, W) is set, everywhere without one."""
    values = ssim_map(a, b)
    if mask is None:
        return values.mean(dim=(1, 2))
    inside = mask[:, RADIUS:-RADIUS, RADIUS:-RADIUS].to(values.dtype)
    return (values * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2))


def psnr(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio per picture in dB, (B,), within `mask` (B, H, W); equal pictures give 100."""
    error = ((a - b) ** 2).mean(1)
    if mask is None:
        error = error.mean(dim=(1, 2))
    else:
        inside = mask.to(error.dtype)
        error = (error * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2))
    return 10 * torch.log10(1 / error.clamp(min=1e-10))


def mouth_mask(landmarks: Tensor, size: int, margin: float = 0.35) -> Tensor:
    """Squares around the mouths of `landmarks` (B, 106, 2) as masks (B, size, size).

    A square's side is the mouth's width and `margin` of it on both sides.
    """
    mouth = landmarks[:, MOUTH] * size
    low, high = mouth.amin(1), mouth.amax(1)
    half = (high - low).amax(1) * (0.5 + margin)
    middle = ((low + high) / 2).clamp(RADIUS + 3, size - RADIUS - 3)
    pixels = torch.arange(size, device=landmarks.device) + 0.5
    inside = (pixels[None, :, None] - middle[:, None, :]).abs() <= half[:, None, None]  # (B, size, 2)
    return inside[:, :, None, 1] & inside[:, None, :, 0]


def landmark_error(a: Tensor, b: Tensor, points: slice = slice(None)) -> Tensor:
    """Mean ℓ2 distance of landmarks (B, 106, 2) in pixels of a 256×256 picture, (B,)."""
    return 256 * (a[:, points] - b[:, points]).norm(dim=-1).mean(1)


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of two curves; nan where one of them does not move."""
    a, b = np.asarray(a, np.float64) - np.mean(a), np.asarray(b, np.float64) - np.mean(b)
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale > 1e-12 else float("nan")


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the probability that a positive scores higher than a negative."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of two feature clouds (N, D), each taken for a Gaussian (Heusel et al. 2017, Eq. 6).

    The trace of the square root of Σa Σb is that of the symmetric √Σa Σb √Σa, which needs eigenvalues alone.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    trace = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * trace)
