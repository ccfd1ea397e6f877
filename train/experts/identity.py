"""The identity expert, ArcFace: how it is trained on drawn faces, and how it is scored.

Leaves out the network (networks/arcface.py), how it sees a frame (swap/judging.py) and the command (command.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgetalk.picture import write_picture
from edgetalk.train.networks import arcface
from edgetalk.train.precision import autocast
from edgetalk.train.scores.measures import auc
from edgetalk.train.stretch import Stretch
from edgetalk.train.swap.data import CLIP_FRAMES, LOOKS, POSES, STILLS_PER_JOB, Swaps, pictures
from edgetalk.train.swap.judging import aligned, embed

from .recipe import ExpertRecipe

BATCH = 256
"""Pictures of a step."""
ASKED, FOUND, AMONG = 8, 6, 384
"""Rows of a sheet, faces found in each, and among how many stills they are looked for."""


def some_faces(data: Swaps, count: int) -> tuple[Tensor, Tensor]:
    """Draw pictures of known persons: uint8 (count, 96, 96, 3) and who they are; half are frames of clips, if any.

    Clips show a person in clothes that its stills lack.
    """
    device = data.device
    rows = torch.randint(len(data["still_person"]), (count - count // 2 if data.clips else count,), device=device)
    frames, persons = [data["still_frames"][rows]], [data["still_person"][rows]]
    if data.clips:
        clip, frame = (torch.randint(n, (count // 2,), device=device) for n in (data.clips, CLIP_FRAMES))
        shown = data.renderings
        for column, name in enumerate(shown):
            part = slice(column * (count // 4), count // 4 if name != shown[-1] else None)
            frames.append(data[f"clip_{name}"][clip[part], frame[part]])
            persons.append(data["clip_meta"][clip[part], column])
    return torch.cat(frames), torch.cat(persons)


class IdentityRecipe(ExpertRecipe):
    """An extractor trained on pictures of `people` persons: the additive angular margin plus known face parameters."""

    family = "arcface"
    shown = "a face, and the most similar ones in other clothes: framed in green where they are the same person's"
    peak, decay, growing = 1e-3, 0.02, 0.6

    def __init__(
        self, data: Swaps, stretch: Stretch, seed: int, config: arcface.Config, people: int, batch: int = BATCH
    ) -> None:
        self.batch = batch
        torch.manual_seed(seed)
        network = arcface.ArcFace(config)
        self.margin = arcface.Margin(config.identity, -(-people // STILLS_PER_JOB) * STILLS_PER_JOB)
        told = {"width": config.width, "size": config.size, "people": people, "batch": batch}
        super().__init__(data, stretch, seed, network, self.margin, config, told)

    @property
    def record(self) -> dict[str, Any]:
        return super().record | {"crop": arcface.CROP}

    def losses(self, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        data, network, config = self.data, self.network, self.network_config
        frames, labels = some_faces(data, self.batch)
        faces = aligned(pictures(frames), config.size, jitter=1.0)
        with autocast(data.device):
            vectors = network.features(faces.contiguous(memory_format=torch.channels_last))
        named = {"margin": F.cross_entropy(self.margin(F.normalize(vectors, dim=1), labels), labels)}
        if network.parameters_head is None:
            return named["margin"], named
        known = torch.zeros(len(self.margin.weight), config.parameters, device=data.device)
        known[data["still_person"]] = data["still_parameters"]
        named["parameters"] = F.smooth_l1_loss(network.parameters_head(vectors), known[labels])
        return named["margin"] + 3 * named["parameters"], named

    def sheet(self, path: Path) -> None:
        """Write stills, each beside those in other clothes that the expert takes for the most similar ones."""
        frames, person = (self.data[f"still_{name}"][:AMONG] for name in ("frames", "person"))
        look = torch.arange(len(frames), device=frames.device) // POSES % LOOKS  # person by person, look by look
        vectors, asked = embed(self.network.eval(), frames), torch.arange(0, len(frames), LOOKS * POSES)[:ASKED]
        rows = []
        for query in asked.tolist():
            alike = (vectors @ vectors[query]).masked_fill(look == look[query], -torch.inf)
            best = alike.topk(min(FOUND, len(alike))).indices
            right = (person[best] == person[query]).tolist()
            tiles = [_framed(frames[query], (255, 255, 255))]
            tiles += [_framed(frames[i], (40, 160, 70) if ok else (200, 40, 50))
                      for i, ok in zip(best.tolist(), right, strict=True)]  # fmt: skip
            rows.append(np.concatenate(tiles, 1))
        write_picture(path, np.concatenate(rows))


def _framed(frame: Tensor, colour: tuple[int, int, int], width: int = 4) -> np.ndarray:
    """Return a uint8 picture (H, W, 3) in a frame."""
    out = np.empty([frame.shape[0] + 2 * width, frame.shape[1] + 2 * width, 3], np.uint8)
    out[:] = colour
    out[width:-width, width:-width] = frame.cpu().numpy()
    return out


def score_identity(
    network: arcface.ArcFace, test: Swaps, looks: int, poses: int, strangers: int = 0
) -> dict[str, float]:
    """Verify and retrieve unseen people across outfits: area under the curve, rate at 1 % false matches, top-1.

    They are those who are numbered from `strangers` on; all of the test where these are fewer than two.
    """
    unseen = test["still_person"] >= strangers
    few = len(set(test["still_person"][unseen].tolist())) < 2
    vectors = embed(network, test["still_frames"] if few else test["still_frames"][unseen])
    # Stills lie person by person, look by look.
    vectors = vectors.view(-1, looks, poses, vectors.shape[-1])
    people = len(vectors)
    first, others = vectors[:, 0].flatten(0, 1), vectors[:, 1:].flatten(1, 2)
    cosine = torch.einsum("aqd,gd->aqg", others, first).cpu().numpy()  # (people, queries, people * poses)
    same = np.arange(people)[:, None, None] == (np.arange(people * poses) // poses)[None, None]
    same = np.broadcast_to(same, cosine.shape)
    threshold = np.quantile(cosine[~same], 0.99)
    single = torch.einsum("aqd,gd->aqg", others, vectors[:, 0, 0]).argmax(-1).cpu().numpy()
    means = F.normalize(vectors[:, 0].mean(1), dim=1)
    queries = F.normalize(others.mean(1), dim=1)
    truth = np.arange(people)
    return {
        "people": people, "auc": auc(cosine[same], cosine[~same]),
        "tpr_at_fpr_1": float((cosine[same] > threshold).mean()),
        "top1_one_still": float((single == truth[:, None]).mean()),
        "top1_means": float(((queries @ means.T).argmax(1).cpu().numpy() == truth).mean()),
    }  # fmt: skip
