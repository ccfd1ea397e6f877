"""Scores of WavSyncSwap on unseen people, sentences and voice, by judges that it was not trained against.

`python -m edgetalk.train.swap_scores --checkpoint FILE --experts DIR --data DIR --speech FILE -o OUT` writes
OUT/scores.json and OUT/scores.png. Every number stands beside its ceiling (the truth measured by the same judge), its
floor (the target unchanged) and shuffled audio. Protocols: `paper`, the target's own audio with the current frame as
reference; `new`, other audio with the clip's first frame as reference, the honest one. The source is one still.
Identity-b, sync-b and the landmark network judge; what ends in _a was measured by the experts trained against.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .experts import autocast, embed, pictures, sync_offsets, sync_vectors
from .networks import store
from .networks.landmarks import inner_opening
from .scores.measures import MOUTH, landmark_error, pearson, psnr, ssim
from .swap_data import FRAMES, LOOKS, POSES, SIZE, Swaps

BARS = {"psnr": 26.5, "ssim": 0.86, "retrieval_share": 0.9, "nearest_target": 0.03, "gap_r": 0.75, "gap_ratio": 0.65,
        "colour": 3.0, "offset_within_1": 0.95}  # fmt: skip
"""What issue 5 asks for with a GPU; nearest_target and colour are upper bounds."""


def face_mask(device: str) -> Tensor:
    """An ellipse over the face in the crop of swap_data, (96, 96) float."""
    axis = (torch.arange(SIZE, device=device) + 0.5) / SIZE
    inside = ((axis[None] - 0.5) / 0.30).square() + ((axis[:, None] - 0.50) / 0.32).square()
    return (inside < 1).float()


def sharpness(frames: Tensor) -> Tensor:
    """Mean magnitude of the Laplacian of the luma within the face, (B,), of pictures (B, 3, 96, 96)."""
    luma = frames.mean(1, keepdim=True)
    kernel = luma.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return (F.conv2d(luma, kernel, padding=1).abs()[:, 0] * face_mask(frames.device)).mean((1, 2))


class Judge:
    """The measuring networks and the test clips."""

    def __init__(self, test: Swaps, experts: Path) -> None:
        from .networks.landmarks import load as load_landmarks

        self.test, device = test, test.device
        self.identities = {}
        for name in ("identity-a", "identity-b"):
            if (experts / f"{name}.safetensors").exists():
                self.identities[name] = store.load(experts / f"{name}.safetensors", "arcface")[0].to(device)
        self.syncs = {}
        for name in ("sync-a", "sync-b"):
            if (experts / f"{name}.safetensors").exists():
                self.syncs[name] = store.load(experts / f"{name}.safetensors", "syncnet")[0].to(device)
        path = experts / "landmarks.safetensors"
        self.landmarker = load_landmarks(path)[0].to(device).eval() if path.exists() else None
        self.galleries = {name: self._gallery(network) for name, network in self.identities.items()}
        people = sorted(test.rows)
        place = {person: i for i, person in enumerate(people)}
        meta = test["clip_meta"].cpu().numpy()
        self.target = np.array([place[p] for p in meta[:, 0]])
        self.source = np.array([place[p] for p in meta[:, 1]])
        self.source_still = torch.tensor([test.rows[p][0] for p in meta[:, 1]], device=device)

    def _gallery(self, network) -> Tensor:
        vectors = embed(network, self.test["still_frames"]).view(-1, LOOKS, POSES, network.config.identity)
        return F.normalize(vectors[:, 1:].mean((1, 2)), dim=1)  # the source still is of the first look

    @torch.inference_mode()
    def gaps(self, frames: Tensor) -> tuple[np.ndarray, Tensor]:
        """Return measured lip gaps (C, FRAMES) and landmarks (C, FRAMES, 106, 2) of uint8 clips."""
        marks = []
        for clip in frames:
            big = F.interpolate(pictures(clip), 128, mode="bilinear", align_corners=False)
            marks.append(self.landmarker(big * 2 - 1).landmarks.float())
        found = torch.stack(marks)
        return inner_opening(found).cpu().numpy(), found

    @torch.inference_mode()
    def measure(self, made: Tensor, truth: Tensor, truth_landmarks: Tensor, sync: Tensor) -> dict[str, float]:
        """Measure uint8 clips (C, FRAMES, 96, 96, 3) against `truth`; frame 0 is the reference and not counted."""
        made, truth, marks = made[:, 1:], truth[:, 1:], truth_landmarks[:, 1:].float()
        mask = face_mask(made.device)
        rows: dict[str, list] = {"psnr": [], "ssim": [], "colour": [], "sharp": []}
        for a, b in zip(made, truth, strict=True):
            a, b = pictures(a), pictures(b)
            rows["psnr"].append(psnr(a, b).clamp(max=60))
            rows["ssim"].append(ssim(a, b))
            mean = [(x * mask).sum((2, 3)) / mask.sum() for x in (a, b)]
            rows["colour"].append(255 * (mean[0] - mean[1]).abs().mean(1))
            rows["sharp"].append(sharpness(a) / sharpness(b))
        out = {name: float(torch.cat(values).mean()) for name, values in rows.items()}
        for name, network in self.identities.items():
            vectors = torch.stack([embed(network, clip) for clip in made])
            gallery, tag = self.galleries[name], name[-1]
            nearest = (vectors @ gallery.T).argmax(-1).cpu().numpy()
            clip_nearest = (F.normalize(vectors.mean(1), dim=1) @ gallery.T).argmax(-1).cpu().numpy()
            out[f"retrieval_{tag}"] = float((clip_nearest == self.source).mean())
            out[f"nearest_target_{tag}"] = float((nearest == self.target[:, None]).mean())
            source = gallery[torch.as_tensor(self.source, device=gallery.device)]
            out[f"cosine_{tag}"] = float((vectors * source[:, None]).sum(-1).mean())
        if self.landmarker is not None:
            gaps, found = self.gaps(made)
            true = inner_opening(marks).cpu().numpy()
            reference, _ = self.gaps(truth)
            out["gap_r"] = float(np.nanmean([pearson(a, b) for a, b in zip(gaps, true, strict=True)]))
            out["gap_r_pooled"] = pearson((gaps - gaps.mean(1, keepdims=True)).ravel(),
                                          (true - true.mean(1, keepdims=True)).ravel())  # fmt: skip
            out["gap_ratio"] = float(gaps.std(1).mean() / reference.std(1).mean())
            out["mouth_px"] = float(landmark_error(found.flatten(0, 1), marks.flatten(0, 1), MOUTH).mean())
        for name, network in self.syncs.items():
            face, audio = sync_vectors(network, made, sync[:, 1:])
            measured = sync_offsets(face, audio)
            tag = name[-1]
            out[f"offset_within_1_{tag}"] = float((np.abs(measured["offset"]) <= 1).mean())
            out[f"lse_c_{tag}"] = float(measured["confidence"].mean())
            out[f"cosine_sync_{tag}"] = float(measured["cosine"].mean())
        return {name: round(value, 4) for name, value in out.items()}


@torch.inference_mode()
def generate(network, target: Tensor, reference: Tensor, identity: Tensor, mel: Tensor) -> Tensor:
    """Return uint8 clips (C, FRAMES, 96, 96, 3) for targets and references alike, identities (C, 512), mel windows."""
    clips = []
    for clip in range(len(target)):
        with autocast(target.device.type):
            made = network(pictures(target[clip]), pictures(reference[clip]), identity[clip].expand(FRAMES, -1),
                           mel[clip].float())  # fmt: skip
        clips.append((made.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1))
    return torch.stack(clips)


def score(network, judge: Judge, extractor) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return all measures by protocol, and the made clips."""
    test = judge.test
    own, swap, other = test["clip_own"], test["clip_swap"], test["clip_other"]
    identity = embed(extractor, test["still_frames"][judge.source_still])
    first = own[:, :1].expand_as(own)
    around = torch.arange(len(own)).roll(len(own) // 2 + 1)
    swap_marks, other_marks = test["clip_swap_landmarks"], test["clip_other_landmarks"]
    made = {
        "paper": generate(network, own, own, identity, test["clip_mel"]),
        "new": generate(network, own, first, identity, test["clip_other_mel"]),
        "shuffled": generate(network, own, first, identity, test["clip_other_mel"][around]),
    }
    sync, other_sync = test["clip_sync"], test["clip_other_sync"]
    return {
        "paper": judge.measure(made["paper"], swap, swap_marks, sync),
        "new": judge.measure(made["new"], other, other_marks, other_sync),
        "shuffled": judge.measure(made["shuffled"], other, other_marks, other_sync),
        "ceiling": judge.measure(other, other, other_marks, other_sync),
        "floor": judge.measure(own, other, other_marks, other_sync),
    }, made


def verdict(scores: dict[str, Any]) -> dict[str, Any]:
    """Set the honest protocol's numbers beside what is asked."""
    new, ceiling = scores["new"], scores["ceiling"]
    got = {
        "psnr": new["psnr"], "ssim": new["ssim"], "colour": new["colour"],
        "retrieval_share": new.get("retrieval_b", np.nan) / max(ceiling.get("retrieval_b", np.nan), 1e-6),
        "nearest_target": new.get("nearest_target_b", np.nan), "gap_r": new.get("gap_r", np.nan),
        "gap_ratio": new.get("gap_ratio", np.nan), "offset_within_1": new.get("offset_within_1_b", np.nan),
    }  # fmt: skip
    lower = ("nearest_target", "colour")
    return {name: {"got": round(float(value), 4), "asked": BARS[name],
                   "reached": bool(value <= BARS[name] if name in lower else value >= BARS[name])}
            for name, value in got.items()}  # fmt: skip


def sheet(path: Path, judge: Judge, made: dict[str, Tensor]) -> None:
    """Write ten clips as rows: source, target, truth and picture twice (frames 16, 36), own audio last."""
    import cv2

    test = judge.test
    source = test["still_frames"][judge.source_still]
    rows = []
    for clip in range(0, len(source), max(1, len(source) // 10))[:10]:
        cells = [source[clip]]
        for frame in (16, 36):
            cells += [test["clip_own"][clip, frame], test["clip_other"][clip, frame], made["new"][clip, frame]]
        cells += [test["clip_swap"][clip, 26], made["paper"][clip, 26]]
        rows.append(torch.cat(cells, 1))
    picture = torch.cat(rows).cpu().numpy()[..., ::-1]
    cv2.imwrite(str(path), np.ascontiguousarray(picture))


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--checkpoint", "--experts", "--data", "--speech", "-o"):
        parser.add_argument(name, type=Path, required=True)
    args = parser.parse_args(arguments)
    began = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network, record = store.load(args.checkpoint, "wavsyncswap")
    extractor, _ = store.load(args.experts / "identity-a.safetensors", "arcface")
    judge = Judge(Swaps(args.data, args.speech, device, "test"), args.experts)
    scores, made = score(network.to(device), judge, extractor.to(device))
    report = {"verdict": verdict(scores), "clips": judge.test.clips, "scores": scores,
              "training": {k: record[k] for k in ("images", "seconds", "clips", "training") if k in record},
              "experts": {}}  # fmt: skip
    for path in sorted(args.experts.glob("*-?.safetensors")):
        family = "arcface" if path.name.startswith("identity") else "syncnet"
        report["experts"][path.stem] = store.load(path, family)[1].get("scores")
    part = args.o / "scores.json.part"
    part.write_text(json.dumps(report, indent=1))
    os.replace(part, args.o / "scores.json")
    sheet(args.o / "scores.png", judge, made)
    print(json.dumps(report["verdict"], indent=1), f"\n{time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
