"""The lip-sync expert, SyncNet: how it is trained on drawn clips, and how it is scored.

Leaves out the network (networks/syncnet.py), how it measures (swap/judging.py) and the command (command.py).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetalk.picture import write_picture
from edgetalk.train.networks import syncnet
from edgetalk.train.networks.blocks import scaled
from edgetalk.train.networks.tensors import digest
from edgetalk.train.precision import autocast
from edgetalk.train.scores.measures import auc
from edgetalk.train.stretch import Stretch
from edgetalk.train.swap.data import CLIP_FRAMES, SIZE, Swaps, louder, pictures
from edgetalk.train.swap.judging import five, sync_offsets, sync_vectors

from .recipe import ExpertRecipe

WINDOWS = 8
"""Windows of each clip in a batch."""
CLIPS = 32
"""Clips of a batch."""
SHOWN, SCALE = 4, 4
"""Clips on a sheet, and pixels of it per window along a side."""


def contrast_loss(probability: Tensor, clips: Tensor, sharpness: float = 15.0) -> Tensor:
    """Cross-entropy of finding each face's sound, and each sound's face, among the windows of its own clip.

    Without it the expert starts by learning who speaks with which voice, and stays there.
    """
    logits = (sharpness * probability).masked_fill(clips[:, None] != clips[None], -math.inf)
    right = torch.arange(len(clips), device=clips.device)
    return 0.5 * (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / math.log(WINDOWS)


def pairs_loss(probability: Tensor, clips: Tensor) -> Tensor:
    """Binary cross-entropy over all pairs of a batch, (N, N) probabilities; `clips` (N,) says which clip a row is of.

    The diagonal is in sync. Other windows of the same clip weigh 0.4, windows of other clips, if there are any, 0.1.
    """
    p = probability.clamp(1e-4, 1 - 1e-4)
    diagonal = torch.eye(len(p), dtype=torch.bool, device=p.device)
    same = (clips[:, None] == clips[None]) & ~diagonal
    wrong = -torch.log1p(-p)
    right, alike, others = (
        (loss * mask).sum() / mask.sum().clamp(min=1)
        for loss, mask in ((-torch.log(p), diagonal), (wrong, same), (wrong, ~same & ~diagonal))
    )
    return 0.5 * right + 0.4 * alike + 0.1 * others


class SyncRecipe(ExpertRecipe):
    """The lip-sync expert trained on target and swapped renderings; a batch holds WINDOWS windows of `clips` clips.

    Each window is of either rendering, so that no voice belongs to a face. Two linear heads, which are thrown away,
    read the drawn mouth's shape off both vectors: it is what sound and picture have in common. The first part of the
    time is theirs alone, then the pairs are compared, and last pictures and sound are varied: so each gets started.
    An expert that has `begun` elsewhere, with colours for instance, goes on with everything at once. Filmed mouths have
    no known shape: of films pairs are compared from the start.
    """

    family = "syncnet"
    shown = "a clip's middle picture, and the cosines of all its pictures (down) and sounds (across); its swap's"
    peak, decay, growing = 4e-4, 0.01, 0.8  # at 1e-3 and above the face encoder does not start to learn

    def __init__(
        self,
        data: Swaps,
        stretch: Stretch,
        seed: int,
        width: float,
        clips: int = CLIPS,
        grey: bool = False,
        begun: nn.Module | None = None,
    ) -> None:
        self.clips, self.begun = clips, begun is not None
        torch.manual_seed(seed)
        network = syncnet.SyncNet(width, grey)
        if begun is not None:
            network.load_state_dict(begun.state_dict())
        self.depth = scaled(512, width)
        shapes = 0 if data.filmed else syncnet.FRAMES * data["clip_mouth"].shape[-1]
        heads = torch.nn.ModuleList(torch.nn.Linear(self.depth, shapes) for _ in range(2 if shapes else 0))
        for head in heads:
            torch.nn.init.zeros_(head.weight)
        told = {"width": width, "grey": grey}
        super().__init__(data, stretch, seed, network, heads, told, told | {"batch": clips, "begun": self.begun})
        self.config["begun_weights"] = self.defaults["begun_weights"] = digest(begun) if begun is not None else None

    def losses(self, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        data, device = self.data, self.data.device
        paired, varied = (1.0 if self.begun else min(max((progress - start) / 0.15, 0.0), 1.0) for start in (0.15, 0.4))
        chosen = torch.randperm(data.clips, device=device)[: self.clips]
        index = chosen.repeat_interleave(WINDOWS)
        free = CLIP_FRAMES - syncnet.FRAMES - 5 * (WINDOWS - 1)
        first = torch.randint(0, free + 1, (len(chosen), 1), device=device)
        starts = (5 * torch.arange(WINDOWS, device=device) + first).flatten()
        frames = self._seen(index, starts, varied)
        mel = louder(data["clip_sync"][index, starts].float(), varied)
        with autocast(device):
            face, audio = self.network.face(frames), self.network.audio(mel)
        cosine = face @ audio.T
        named = {"pairs": pairs_loss(cosine, index), "contrast": contrast_loss(cosine, index)}
        if data.filmed:
            return named["pairs"] + named["contrast"], named
        span = starts[:, None] + torch.arange(syncnet.FRAMES, device=device)
        mouth = data["clip_mouth"][index[:, None], span].flatten(1)
        read = [F.smooth_l1_loss(head(x * self.depth**0.5), mouth, beta=0.1)
                for head, x in zip(self.head, (face, audio), strict=True)]  # fmt: skip
        named |= {"mouth_seen": read[0], "mouth_heard": read[1]}
        return paired * (named["pairs"] + named["contrast"]) + 10 * (read[0] + read[1]), named

    def _seen(self, clips: Tensor, starts: Tensor, varied: float) -> Tensor:
        """Return the five pictures of each window, (N, 5, 3, 96, 96), moved, mirrored and lit as much as `varied`."""
        data, device = self.data, self.data.device
        swapped, mirrored = torch.rand(2, len(clips), 1, 1, 1, 1, device=device)
        swapped, mirrored = swapped < 0.5, mirrored < 0.5 * varied
        frames = five(data["clip_own"], clips, starts)
        if not data.filmed:
            frames = torch.where(swapped, five(data["clip_swap"], clips, starts), frames)
        frames = torch.where(mirrored, frames.flip(-1), frames)
        frames = F.pad(frames.flatten(1, 2), (3, 3, 3, 3), mode="replicate")
        dy, dx = torch.randint(3 - round(3 * varied), 4 + round(3 * varied), (2,)).tolist()
        frames = frames[..., dy : dy + SIZE, dx : dx + SIZE].unflatten(1, (syncnet.FRAMES, 3))
        return frames * (1 + 0.15 * varied * (2 * torch.rand(len(frames), 1, 1, 1, 1, device=device) - 1))

    def sheet(self, path: Path) -> None:
        """Write, of some clips and their swaps, a picture and which of its windows the expert takes for in sync."""
        columns = []
        self.network.eval()
        for name in self.data.renderings:
            frames = self.data[f"clip_{name}"][:SHOWN]
            face, audio = sync_vectors(self.network, frames, self.data["clip_sync"][:SHOWN])
            cosine = (255 * (face @ audio.transpose(1, 2)).clamp(0, 1)).round().byte().cpu().numpy()
            matrix = np.kron(cosine, np.ones((SCALE, SCALE), np.uint8)).reshape(-1, SCALE * cosine.shape[2])
            side = matrix.shape[1]
            middle = F.interpolate(pictures(frames[:, CLIP_FRAMES // 2]), side, mode="bilinear", align_corners=False)
            shown = (255 * middle).round().byte().permute(0, 2, 3, 1).reshape(-1, side, 3).cpu().numpy()
            columns += [shown, matrix[..., None].repeat(3, 2)]
        write_picture(path, np.concatenate(columns, 1))


def score_sync(network: syncnet.SyncNet, test: Swaps) -> dict[str, float]:
    """Judge windows and clips of unseen people and sentences: right at threshold ½, and the clip's offset."""
    found: dict[str, list] = {"positive": [], "negative": [], "offset": [], "confidence": []}
    for name in test.renderings:
        face, audio = sync_vectors(network, test[f"clip_{name}"], test["clip_sync"])
        cosine = (face @ audio.transpose(1, 2)).cpu().numpy()  # (C, W, W)
        away = np.abs(np.subtract.outer(range(cosine.shape[1]), range(cosine.shape[1])))
        found["positive"].append(cosine[:, away == 0].ravel())
        found["negative"].append(cosine[:, away >= 5].ravel())
        measured = sync_offsets(face, audio)
        found["offset"].append(measured["offset"])
        found["confidence"].append(measured["confidence"])
    positive, negative, offset, confidence = (np.concatenate(found[k]) for k in found)
    return {
        "clips": len(test["clip_own"]),
        "window_accuracy": float(((positive > 0.5).mean() + (negative <= 0.5).mean()) / 2),
        "window_auc": auc(positive, negative[:: max(1, len(negative) // 50_000)]),
        "offset_within_1": float((np.abs(offset) <= 1).mean()), "confidence": float(confidence.mean()),
    }  # fmt: skip
