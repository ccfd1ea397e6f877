"""Scores of WavSyncSwap and of what it replaces, on unseen people, sentences and voice, by judges apart.

Every number stands beside its ceiling (the truth measured by the same judge), its floor (the target unchanged) and
shuffled sound. Protocols: `paper`, the target's own sound and the current frame as reference; `new`, another sentence
and the clip's first frame as reference, the honest one. The source is one still. Identity-b, sync-b and the landmark
network judge; what ends in _a was measured by the experts trained against. `edgetalk score wavsyncswap` is the command.
Of filmed people nobody knows the truth: what is measured against it is left out, and named (LEFT_OUT). Their landmarks
are those of the face mesh, in protocol `paper` alone: with its own sound, a mouth should be where the target's is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgetalk.errors import BackendError, InputError
from edgetalk.picture import write_picture
from edgetalk.train.networks import store
from edgetalk.train.networks.landmarks import inner_opening
from edgetalk.train.precision import autocast
from edgetalk.train.scores.measures import MOUTH, frechet, landmark_error, pearson, psnr, ssim
from edgetalk.train.scores.sharpness import cpbd

from .data import CLIP_FRAMES, LOOKS, POSES, SIZE, Swaps, pictures
from .judging import embed, sync_offsets, sync_vectors
from .mesh import MeshReader

BARS = {"psnr": 25.0, "ssim": 0.82, "retrieval_share": 0.8, "nearest_target": 0.05, "gap_r": 0.65, "gap_ratio": 0.5,
        "colour": 4.0, "offset_within_1": 0.9}  # fmt: skip
"""What is asked of a network trained on two cores; nearest_target and colour are upper bounds."""
GPU_BARS = {"psnr": 26.5, "ssim": 0.86, "retrieval_share": 0.9, "nearest_target": 0.03, "gap_r": 0.75,
            "gap_ratio": 0.65, "colour": 3.0, "offset_within_1": 0.95}  # fmt: skip
"""What is asked of one trained on a GPU."""
LEFT_OUT = dict.fromkeys(
    ("psnr", "ssim", "colour", "sharp", "gap_r", "gap_ratio"),
    "filmed people have no picture of the swap to compare with",
)
"""What is not measured on filmed people, and why; nor is there a row `truth`, nor are there bars."""
ALONE = "got test clips with one new sound in all, expected two; draw more of them, or score with a higher --limit"
"""Why there may be no row `shuffled`."""
EVERY = 5
"""Pictures and identities are measured on every fifth frame, lips and sync on all."""

Method = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Targets and references uint8 (C, CLIP_FRAMES, 96, 96, 3), identities (C, 512), mel windows -> uint8 clips."""


def face_mask(device: str) -> Tensor:
    """An ellipse over the face in the crop of crops.py, (96, 96) float."""
    axis = (torch.arange(SIZE, device=device) + 0.5) / SIZE
    inside = ((axis[None] - 0.5) / 0.30).square() + ((axis[:, None] - 0.50) / 0.32).square()
    return (inside < 1).float()


def sharpness(frames: Tensor) -> Tensor:
    """Mean magnitude of the Laplacian of the channels' mean within the face, (B,), of pictures (B, 3, 96, 96)."""
    grey = frames.mean(1, keepdim=True)
    kernel = grey.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return (F.conv2d(grey, kernel, padding=1).abs()[:, 0] * face_mask(frames.device)).mean((1, 2))


@dataclass(frozen=True)
class Truth:
    """What a method should have made, whether it swaps faces or not: uint8 clips, their landmarks and their sound.

    Of filmed people `clips` are unknown; `real` clips are what pictures should look like as a whole (FID).
    """

    sync: Tensor
    clips: Tensor | None
    landmarks: Tensor | None
    """(C, CLIP_FRAMES, 106, 2), fractions of the picture."""
    real: Tensor


@dataclass
class Judge:
    """The measuring networks and the test clips."""

    test: Swaps
    experts: Path
    inception: Callable[[Tensor], Tensor] | None = None
    mesh: Callable[[Tensor], Tensor] | None = None
    """Landmarks (C, F, 106, 2) of uint8 clips of filmed people, NaN where no face is seen."""
    both: bool = False
    """Measure with the experts that were trained against, too, where there are others."""
    identities: dict[str, Any] = field(default_factory=dict)
    syncs: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """What these clips are too few to measure, and why."""

    def __post_init__(self) -> None:
        from edgetalk.train.networks.landmarks import load as load_landmarks

        test, device = self.test, self.test.device
        meta = test["clip_meta"].cpu().numpy()
        people = sorted(test.rows)
        if not set(meta[:, :2].flat) <= set(people):
            raise InputError(
                f"{test.folder}: has stills of {len(people)} test persons, expected those of all that its {test.clips} "
                "test clips show; draw the rest of them with: python -m edgetalk.train.swap draw"
            )
        if not test.filmed and (same := int((meta[:, 2] == meta[:, 4]).sum())):
            raise InputError(
                f"{test.folder}: got {same} test clips whose new sentence is the one that they say, expected another; "
                "draw them into another folder, of two sentences or more"
            )
        if self.inception is not None:
            frames = test.clips * len(range(1, CLIP_FRAMES, EVERY))
            features = self.inception(test["clip_own"][0, :1].permute(0, 3, 1, 2)).shape[1]
            if frames <= features:
                self.inception = None
                self.left_out["fid"] = (
                    f"got {frames} frames, expected {features + 1} or more, for fewer leave the covariance of "
                    f"{features} features singular; score more clips"
                )
        for kind, family, found in (("identity", "arcface", self.identities), ("sync", "syncnet", self.syncs)):
            there = [n for n in (f"{kind}-b", f"{kind}-a") if (self.experts / f"{n}.safetensors").exists()]
            for name in there if self.both else there[:1]:
                found[name] = store.load(self.experts / f"{name}.safetensors", family)[0].to(device)
        path = self.experts / "landmarks.safetensors"
        self.landmarker = load_landmarks(path)[0].to(device).eval() if path.exists() else None
        self.galleries = {name: self._gallery(network) for name, network in self.identities.items()}
        place = {person: i for i, person in enumerate(people)}
        self.target = np.array([place[p] for p in meta[:, 0]])
        self.source = np.array([place[p] for p in meta[:, 1]])
        if test.filmed:  # first frames of other clips
            self.sources = test["clip_source"]
        else:
            self.sources = test["still_frames"][torch.tensor([test.rows[p][0] for p in meta[:, 1]], device=device)]

    def _gallery(self, network: Any) -> Tensor:
        vectors = embed(network, self.test["still_frames"]).view(-1, LOOKS, POSES, network.config.identity)
        return F.normalize(vectors[:, 1:].mean((1, 2)), dim=1)  # the source still is of the first look

    @torch.inference_mode()
    def gaps(self, frames: Tensor) -> tuple[np.ndarray, Tensor]:
        """Return measured lip gaps (C, frames) and landmarks (C, frames, 106, 2) of uint8 clips."""
        marks = []
        for clip in frames:
            big = F.interpolate(pictures(clip), 128, mode="bilinear", align_corners=False)
            with autocast(frames.device.type):
                marks.append(self.landmarker(big * 2 - 1).landmarks.float())
        found = torch.stack(marks)
        return inner_opening(found).cpu().numpy(), found

    @torch.inference_mode()
    def measure(self, made: Tensor, truth: Truth) -> dict[str, float]:
        """Measure uint8 clips (C, CLIP_FRAMES, 96, 96, 3) against `truth`; frame 0 is the reference and not counted."""
        made = made[:, 1:]
        some = made[:, ::EVERY]
        luma = (some.float() @ torch.tensor([0.299, 0.587, 0.114], device=made.device)).flatten(0, 1).cpu().numpy()
        out = {"cpbd": float(np.nanmean([cpbd(frame, 32) for frame in luma]))}
        if self.inception:
            out["fid"] = self._fid(some, truth.real[:, 1::EVERY])
        if truth.clips is not None:
            out |= self._pictures(some, truth.clips[:, 1::EVERY])
        out |= self._who(some)
        if self.mesh is not None and truth.clips is None and truth.landmarks is not None:
            out |= moved(self.mesh(made), truth.landmarks[:, 1:])
        if self.landmarker is not None and truth.clips is not None and truth.landmarks is not None:
            out |= self._lips(made, truth.clips[:, 1:], truth.landmarks[:, 1:].float())
        for name, network in self.syncs.items():
            face, audio = sync_vectors(network, made, truth.sync[:, 1:])
            measured, tag = sync_offsets(face, audio), name[-1]
            out[f"offset_within_1_{tag}"] = float((np.abs(measured["offset"]) <= 1).mean())
            for key in ("confidence", "cosine", "lse_d", "lse_c"):
                out[f"{key}_{tag}" if key != "cosine" else f"cosine_sync_{tag}"] = float(measured[key].mean())
        return {name: round(value, 4) for name, value in out.items()}

    def _pictures(self, made: Tensor, truth: Tensor) -> dict[str, float]:
        mask = face_mask(made.device)
        rows: dict[str, list[Tensor]] = {"psnr": [], "ssim": [], "colour": [], "sharp": []}
        for one, other in zip(made, truth, strict=True):
            a, b = pictures(one), pictures(other)
            rows["psnr"].append(psnr(a, b).clamp(max=60))
            rows["ssim"].append(ssim(a, b))
            mean = [(x * mask).sum((2, 3)) / mask.sum() for x in (a, b)]
            rows["colour"].append(255 * (mean[0] - mean[1]).abs().mean(1))
            rows["sharp"].append(sharpness(a) / sharpness(b))
        return {name: float(torch.cat(values).mean()) for name, values in rows.items()}

    def _fid(self, made: Tensor, real: Tensor) -> float:
        assert self.inception is not None
        clouds = [
            torch.cat([self.inception(clip.permute(0, 3, 1, 2)).float().cpu() for clip in clips]).numpy()
            for clips in (made, real)
        ]
        return frechet(*clouds)

    def _who(self, made: Tensor) -> dict[str, float]:
        out = {}
        for name, network in self.identities.items():
            vectors = torch.stack([embed(network, clip) for clip in made])
            gallery, tag = self.galleries[name], name[-1]
            nearest = (vectors @ gallery.T).argmax(-1).cpu().numpy()
            clip_nearest = (F.normalize(vectors.mean(1), dim=1) @ gallery.T).argmax(-1).cpu().numpy()
            out[f"retrieval_{tag}"] = float((clip_nearest == self.source).mean())
            out[f"frame_retrieval_{tag}"] = float((nearest == self.source[:, None]).mean())
            out[f"nearest_target_{tag}"] = float((nearest == self.target[:, None]).mean())
            source = gallery[torch.as_tensor(self.source, device=gallery.device)]
            out[f"cosine_{tag}"] = float((vectors * source[:, None]).sum(-1).mean())
        return out

    def _lips(self, made: Tensor, truth: Tensor, marks: Tensor) -> dict[str, float]:
        gaps, found = self.gaps(made)
        true = inner_opening(marks).cpu().numpy()
        reference, _ = self.gaps(truth)
        found, marks = found.flatten(0, 1), marks.flatten(0, 1)
        return {
            "gap_r": float(np.nanmean([pearson(a, b) for a, b in zip(gaps, true, strict=True)])),
            "gap_r_pooled": pearson((gaps - gaps.mean(1, keepdims=True)).ravel(),
                                    (true - true.mean(1, keepdims=True)).ravel()),
            "gap_ratio": float(gaps.std(1).mean() / reference.std(1).mean()),
            "lmd": float(landmark_error(found, marks).mean()),
            "lmd_m": float(landmark_error(found, marks, MOUTH).mean()),
        }  # fmt: skip


def moved(made: Tensor, true: Tensor) -> dict[str, float]:
    """Return LMD and LMD-m of landmarks (C, F, 106, 2) over the frames in which both show a face, and their share."""
    both = torch.isfinite(made).all(3).all(2) & torch.isfinite(true).all(3).all(2)
    if not bool(both.any()):
        return {"seen": 0.0}
    errors = {"lmd": landmark_error(made[both], true[both]), "lmd_m": landmark_error(made[both], true[both], MOUTH)}
    return {"seen": float(both.float().mean())} | {name: float(error.mean()) for name, error in errors.items()}


def by_clip(frame_maker: Callable[..., Tensor]) -> Method:
    """Make a Method of what maps pictures of one clip (float, by frame) to pictures."""

    @torch.inference_mode()
    def make(target: Tensor, reference: Tensor, identity: Tensor, mel: Tensor) -> Tensor:
        clips = []
        for clip in range(len(target)):
            with autocast(target.device.type):
                made = frame_maker(pictures(target[clip]), pictures(reference[clip]),
                                   identity[clip].expand(len(target[clip]), -1), mel[clip].float())  # fmt: skip
            clips.append((made.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1))
        return torch.stack(clips)

    return make


def methods(ours: Any, wav2lip: Any = None, simswap: Any = None) -> dict[str, Method]:
    """Return what is compared, as far as the networks are there; the cascade in both orders, 8-bit pictures between."""
    out = {"ours": by_clip(ours)}
    speak = by_clip(lambda target, reference, _, mel: wav2lip(target, reference, mel))
    swap = by_clip(lambda target, reference, identity, mel: simswap(target, identity))
    if wav2lip is not None:
        out["wav2lip"] = speak
    if simswap is not None:
        out["simswap"] = swap
    if wav2lip is not None and simswap is not None:
        out["cascade"] = lambda t, r, v, mel: swap(speak(t, r, v, mel), r, v, mel)
        out["reverse"] = lambda t, r, v, mel: speak(swap(t, r, v, mel), swap(r, r, v, mel), v, mel)
    return out


def elsewhere(heard: Sequence[int]) -> list[int] | None:
    """Return for each clip another that has another sound, of which `heard` says the number; None where none has."""
    count = len(heard)
    if len(set(heard)) < 2:
        return None
    first = count // 2 + (count > 2)  # so far back, or the next one behind it
    behind = [[(clip - first - k) % count for k in range(count)] for clip in range(count)]
    return [next(other for other in row if heard[other] != heard[clip]) for clip, row in enumerate(behind)]


def score(compared: dict[str, Method], judge: Judge, extractor: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return measures and made clips, each by protocol and method; `truth` is the ceiling and `target` the floor.

    Of filmed people there is no `truth`, and `target` is the ground truth of the paper's Tables 1 and 2.
    """
    from tqdm import tqdm

    test = judge.test
    own, sync, other_sync = test["clip_own"], test["clip_sync"], test["clip_other_sync"]
    identity = embed(extractor, judge.sources)
    first = own[:, :1].expand_as(own)
    made: dict[str, dict[str, Tensor]] = {"paper": {"target": own}, "new": {"target": own}}
    if test.filmed:
        marks = judge.mesh(own) if judge.mesh else None
        wanted = {"paper": Truth(sync, None, marks, own), "new": Truth(other_sync, None, None, own)}
    else:
        swap, other = test["clip_swap"], test["clip_other"]
        wanted = {
            "paper": Truth(sync, swap, test["clip_swap_landmarks"], swap),
            "new": Truth(other_sync, other, test["clip_other_landmarks"], other),
        }
        made = {"paper": {"truth": swap, **made["paper"]}, "new": {"truth": other, **made["new"]}}
    for name, method in tqdm(compared.items(), desc="pictures", unit="method"):
        made["paper"][name] = method(own, own, identity, test["clip_mel"])
        if name != "simswap":  # which does not hear
            made["new"][name] = method(own, first, identity, test["clip_other_mel"])
    heard = test["clip_meta"][:, 4].tolist()
    if (around := elsewhere(heard)) is None:
        judge.left_out["shuffled"] = ALONE
    else:
        made["new"]["shuffled"] = compared["ours"](own, first, identity, test["clip_other_mel"][around])
    scores: dict[str, dict[str, Any]] = {"paper": {}, "new": {}}
    jobs = [(protocol, name) for protocol in made for name in made[protocol]]
    for protocol, name in tqdm(jobs, desc="measures", unit="method"):
        scores[protocol][name] = judge.measure(made[protocol][name], wanted[protocol])
    return scores, made


def verdict(scores: dict[str, Any], bars: dict[str, float] = BARS) -> dict[str, Any]:
    """Set the honest protocol's numbers beside what is asked; None where a judge was missing, or shuffled sound."""
    ours, truth, shuffled = (scores["new"].get(name, {}) for name in ("ours", "truth", "shuffled"))
    got = {name: ours.get(name) for name in ("psnr", "ssim", "colour", "gap_r", "gap_ratio")}
    got |= {"nearest_target": ours.get("nearest_target_b"), "offset_within_1": ours.get("offset_within_1_b")}
    got["retrieval_share"] = ours["retrieval_b"] / max(truth["retrieval_b"], 1e-6) if "retrieval_b" in ours else None
    out = {}
    for name, bar in bars.items():
        value, upper = got[name], name in ("nearest_target", "colour")
        value = None if value is None else round(value, 4)  # as exact as the scores that it comes from
        reached = value is not None and (value <= bar if upper else value >= bar)
        out[name] = {"got": value, "asked": bar, "reached": bool(reached)}
    loose = shuffled.get("gap_r")
    out["gap_r_shuffled"] = {"got": loose, "asked": 0.15, "reached": loose is not None and loose <= 0.15}
    return out


COLUMNS = {"source": "source", "target": "target", "truth": "truth", "wav2lip": "W", "simswap": "S",
           "cascade": "W → S", "reverse": "S → W", "ours": "ours"}  # fmt: skip
"""Columns of the sheets, in order, as far as they were made."""


def write_labelled(path: Path, columns: dict[str, Tensor], larger: int = 1) -> None:
    """Write one column of pictures (N, 96, 96, 3) uint8 for each name of COLUMNS that is there, its label above."""
    import cv2

    shown = [(COLUMNS[name].replace("→", ">"), columns[name]) for name in COLUMNS if name in columns]
    strips = []
    for label, frames in shown:
        head = np.full((16, SIZE, 3), 255, np.uint8)
        cv2.putText(head, label, (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
        strips.append(np.concatenate([head, *frames.cpu().numpy()]))
    picture = np.concatenate(strips, 1)
    write_picture(path, cv2.resize(picture, None, fx=larger, fy=larger, interpolation=cv2.INTER_CUBIC))


def sheets(folder: Path, judge: Judge, made: dict[str, Any], clips: int = 8) -> None:
    """Write wavsyncswap.jpg (Fig. 2: one frame of some clips) and wavsyncswap-frames.jpg (Fig. 3: frames of a clip).

    Fig. 2 keeps the target's sound, as the paper does; Fig. 3 has a new sentence.
    """
    source = judge.sources
    rows = torch.linspace(0, len(source) - 1, min(clips, len(source))).long()
    single = {"source": source[rows]} | {name: c[rows, CLIP_FRAMES // 2] for name, c in made["paper"].items()}
    write_labelled(folder / "wavsyncswap.jpg", single, 2)
    clip = int(rows[len(rows) // 2])
    frames = torch.arange(8, CLIP_FRAMES, 5)
    strip = {"source": source[clip].expand(len(frames), -1, -1, -1)}
    write_labelled(folder / "wavsyncswap-frames.jpg", strip | {n: c[clip, frames] for n, c in made["new"].items()}, 2)


def report(
    checkpoint: Path,
    experts: Path,
    data: Path,
    speech: Path | None,
    out: Path,
    *,
    wav2lip: Path | None = None,
    simswap: Path | None = None,
    identity: Path | None = None,
    limit: int | None = None,
    inception: Callable[[Tensor], Tensor] | None = None,
    both: bool = False,
    face_models: Path | None = None,
) -> dict[str, Any]:
    """Score a checkpoint, and the baselines whose checkpoints are given; write the sheets into `out`.

    `left_out` of what it returns says what was not computed, and why. Raises InputError where the test clips cannot be
    scored.
    """
    began = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    networks, budgets = {}, {}
    for family, path in (("wavsyncswap", checkpoint), ("wav2lip", wav2lip), ("simswap", simswap)):
        if path is not None:
            network, record = store.load(path, family)
            networks[family] = network.to(device, memory_format=torch.channels_last)
            budgets[family] = {key: record[key] for key in ("images", "seconds", "clips", "training") if key in record}
            budgets[family]["parameters"] = sum(p.numel() for p in network.parameters())
    extractor, _ = store.load(identity or experts / "identity-a.safetensors", "arcface")
    test, left_out = Swaps(data, speech, device, "test", limit=limit), {}
    mesh = None
    if test.filmed:
        left_out |= LEFT_OUT
        try:
            mesh = MeshReader(face_models)
        except BackendError as reason:
            left_out |= dict.fromkeys(("lmd", "lmd_m"), str(reason))
    judge = Judge(test, experts, inception, mesh, both)
    compared = methods(*(networks.get(f) for f in ("wavsyncswap", "wav2lip", "simswap")))
    scores, made = score(compared, judge, extractor.to(device))
    sheets(out, judge, made)
    told = {}
    for path in sorted(experts.glob("*-[ab].safetensors")):
        told[path.stem] = store.load(path, "arcface" if path.name.startswith("identity") else "syncnet")[1]
    bars = {} if test.filmed else {"verdict": verdict(scores), "verdict_gpu": verdict(scores, GPU_BARS)}
    return {**bars, "left_out": left_out | judge.left_out, "clips": test.clips,
            "scores": scores, "budgets": budgets, "experts": told,
            "seconds": round(time.monotonic() - began, 1)}  # fmt: skip
