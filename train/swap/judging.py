"""How the experts are asked, by those who train them and by those who are trained against them or scored.

Which of them is good enough, what identity and lip-sync expert see of frames, and how offsets are measured. Leaves out
how they are trained (../experts).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgetalk.train.networks import arcface, syncnet
from edgetalk.train.precision import autocast

from .data import pictures

FLOORS = {"identity": {"auc": 0.97}, "sync": {"window_accuracy": 0.80, "offset_within_1": 0.95}}
"""Held-out scores below which no generator is trained against an expert."""


def good_enough(kind: str, scores: dict[str, float]) -> bool:
    """Say whether an expert's held-out `scores` reach the floors of its kind."""
    return all(scores.get(name, 0.0) >= floor for name, floor in FLOORS[kind].items())


def aligned(frames: Tensor, size: int, jitter: float = 0.0) -> Tensor:
    """Cut the face out of frames (B, 3, 96, 96) and scale it to (B, 3, size, size), as ArcFace wants it.

    With `jitter` 1 the cut moves by up to 3 pixels and 5 %, and brightness by 6 %: no gradient rests on one grid.
    """
    count, device = len(frames), frames.device
    theta = torch.zeros(count, 2, 3, device=device)
    side, lower = arcface.CROP
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, 1, 2] = 2 * lower  # of coordinates from -1 to 1
    if jitter:
        theta[:, :, :2] *= 1 + jitter * 0.05 * (2 * torch.rand(count, 1, 1, device=device) - 1)
        theta[:, :, 2] += jitter * (3 / 48) * (2 * torch.rand(count, 2, device=device) - 1)
    grid = F.affine_grid(theta, [count, 3, size, size], align_corners=False)
    face = F.grid_sample(frames.float(), grid, align_corners=False, padding_mode="border")
    if jitter:
        face = face * (1 + jitter * 0.06 * (2 * torch.rand(count, 1, 1, 1, device=device) - 1))
    return face


@torch.inference_mode()
def embed(network: arcface.ArcFace, frames: Tensor, chunk: int = 512) -> Tensor:
    """Return unit vectors (N, 512) of uint8 frames (N, 96, 96, 3)."""
    size = network.config.size
    with autocast(frames.device.type):
        return torch.cat([network(aligned(pictures(part), size)) for part in frames.split(chunk)]).float()


def five(frames: Tensor, clips: Tensor, starts: Tensor) -> Tensor:
    """Gather five consecutive pictures: frames (C, CLIP_FRAMES, H, W, 3) uint8 -> (N, 5, 3, H, W) float in [0, 1]."""
    index = starts[:, None] + torch.arange(syncnet.FRAMES, device=frames.device)
    return pictures(frames[clips[:, None], index]).unflatten(0, (len(clips), syncnet.FRAMES))


@torch.inference_mode()
def sync_vectors(network: syncnet.SyncNet, frames: Tensor, mel: Tensor) -> tuple[Tensor, Tensor]:
    """Return face and audio vectors (C, W, D) of all W = F − 4 windows of clips (C, F, H, W, 3)."""
    starts = torch.arange(frames.shape[1] - syncnet.FRAMES + 1, device=frames.device)
    faces, sounds = [], []
    with autocast(frames.device.type):
        for clip in range(len(frames)):
            index = torch.full_like(starts, clip)
            faces.append(network.face(five(frames, index, starts)))
            sounds.append(network.audio(mel[clip, starts].float()))
    return torch.stack(faces).float(), torch.stack(sounds).float()


def sync_offsets(face: Tensor, audio: Tensor, reach: int = 15) -> dict[str, np.ndarray]:
    """Compare the vectors of clips within ± reach frames, as SyncNet does: five numbers per clip.

    By cosine: the best offset, its confidence (best minus median) and the cosine at 0. By distance: LSE-D, the least
    mean distance of face and sound, and LSE-C, how far that lies below the median.
    """
    curves: list[list[Tensor]] = [[], []]
    count = face.shape[1]
    for shift in range(-reach, reach + 1):
        a, b = (face[:, max(0, -shift) : count - max(0, shift)], audio[:, max(0, shift) : count + min(0, shift)])
        curves[0].append((a * b).sum(-1).mean(1))
        curves[1].append((a - b).norm(dim=-1).mean(1))
    cosine, distance = (torch.stack(curve, 1).cpu().numpy() for curve in curves)
    return {"offset": cosine.argmax(1) - reach, "cosine": cosine[:, reach],
            "confidence": cosine.max(1) - np.median(cosine, 1),
            "lse_d": distance.min(1), "lse_c": np.median(distance, 1) - distance.min(1)}  # fmt: skip
