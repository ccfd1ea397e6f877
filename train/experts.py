"""The experts that WavSyncSwap is trained against and judged by: identity (ArcFace), lip-sync (SyncNet), landmarks.

`python -m edgetalk.train.experts identity|sync|landmarks --data DIR --speech FILE --seconds 60 --seed 0 -o FILE`. Each
is scored on held-out people and sentences at its end, the sync expert on a held-out voice, too, and the score stays in
its file; `good_enough` says whether a generator may be trained against it. Two seeds give two independent experts: one
to train against, one to judge. A training that was stopped goes on with the same command.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgetalk.files import replacing

from . import loop, program
from .networks import arcface, store, syncnet
from .networks.blocks import scaled
from .swap_data import FRAMES, LOOKS, POSES, SIZE, STILLS_PER_JOB, Swaps

FLOORS = {"identity": {"auc": 0.97}, "sync": {"window_accuracy": 0.80, "offset_within_1": 0.95}}
"""Held-out scores below which no generator is trained against an expert."""
CROP, LOWER = 76, 3
"""Side in pixels of the part of a 96-pixel frame that ArcFace sees, and how far its centre lies below the frame's."""
SEEN = (CROP / SIZE, LOWER / SIZE)
"""The same as fractions of the frame, which an export cuts out by."""
WINDOWS = 8
"""Windows of each clip in a batch of the lip-sync expert."""


def good_enough(kind: str, scores: dict[str, float]) -> bool:
    """Say whether an expert's held-out `scores` reach the floors of its kind."""
    return all(scores.get(name, 0.0) >= floor for name, floor in FLOORS[kind].items())


def pictures(frames: Tensor) -> Tensor:
    """uint8 (…, H, W, 3) -> float (N, 3, H, W) in [0, 1], channels last in memory."""
    return frames.flatten(0, -4).permute(0, 3, 1, 2).float().div_(255)


def aligned(frames: Tensor, size: int, jitter: float = 0.0) -> Tensor:
    """Cut the face out of frames (B, 3, 96, 96) and scale it to (B, 3, size, size), as ArcFace wants it.

    With `jitter` 1 the cut moves by up to 3 pixels and 5 %, and brightness by 6 %: no gradient rests on one grid.
    """
    count, device = len(frames), frames.device
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0] = theta[:, 1, 1] = CROP / SIZE
    theta[:, 1, 2] = LOWER / (SIZE / 2)
    if jitter:
        theta[:, :, :2] *= 1 + jitter * 0.05 * (2 * torch.rand(count, 1, 1, device=device) - 1)
        theta[:, :, 2] += jitter * (3 / 48) * (2 * torch.rand(count, 2, device=device) - 1)
    grid = F.affine_grid(theta, [count, 3, size, size], align_corners=False)
    face = F.grid_sample(frames.float(), grid, align_corners=False, padding_mode="border")
    if jitter:
        face = face * (1 + jitter * 0.06 * (2 * torch.rand(count, 1, 1, 1, device=device) - 1))
    return face


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the probability that a positive scores higher than a negative."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def autocast(device: str) -> torch.autocast:
    return torch.autocast(torch.device(device).type, torch.bfloat16)


def schedule(optimiser: torch.optim.Optimizer, peak: float, progress: float) -> None:
    """Set the rate: linear to `peak` in the first 5 % of the time, then half a cosine down to a fiftieth."""
    rate = progress / 0.05 if progress < 0.05 else 0.51 + 0.49 * math.cos(math.pi * (progress - 0.05) / 0.95)
    for group in optimiser.param_groups:
        group["lr"] = peak * max(rate, 0.02)


class Stretch:
    """A training of so many seconds that goes on where it was stopped: what it changes lies in `file` until it is over.

    Without a GPU they are seconds of the processor, so that whoever shares the machine costs time, not quality.
    """

    def __init__(self, seconds: float, label: str, file: Path | None = None) -> None:
        self.seconds, self.label, self.file = seconds, label, file
        self.clock = time.monotonic if torch.cuda.is_available() else time.process_time

    def steps(
        self, seed: int, modules: dict[str, nn.Module], optimiser: torch.optim.Optimizer
    ) -> Iterator[tuple[int, float]]:
        """Yield step numbers and the share of the time that has passed, with a progress bar, until it is over.

        torch's random numbers of a step are a function of `seed` and its number, whenever it was stopped before.
        """
        from safetensors.torch import load_file, save_file
        from tqdm import tqdm

        spent = torch.zeros(2, dtype=torch.float64)  # seconds, steps
        state = {f"{name}.{key}": t for name, m in modules.items() for key, t in m.state_dict().items()}
        state |= loop.optimiser_tensors(optimiser, "optimiser") | {"spent": spent}
        if self.file is not None and self.file.exists():
            with torch.no_grad():
                for name, tensor in load_file(self.file).items():
                    state[name].copy_(tensor)
        before, began, saved, number = float(spent[0]), self.clock(), time.monotonic(), int(spent[1])
        with tqdm(total=round(self.seconds), unit="s", desc=self.label, mininterval=5) as bar:
            while (passed := before + self.clock() - began) < self.seconds:
                torch.manual_seed(loop.generator(seed, number).initial_seed())
                yield number, passed / self.seconds
                number += 1
                bar.update(int(passed) - bar.n)
                if self.file is not None and time.monotonic() - saved > 60:
                    spent[0], spent[1] = before + self.clock() - began, number
                    with replacing(self.file) as part:
                        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, part)
                    saved = time.monotonic()


def wait_for(data: Swaps, ready, patience: float) -> None:
    """Refresh `data` until `ready(data)` or until `patience` seconds have passed."""
    until = time.monotonic() + patience
    while not ready(data) and time.monotonic() < until:
        time.sleep(1)
        data.refresh()


# Identity


def some_faces(data: Swaps, count: int) -> tuple[Tensor, Tensor]:
    """Draw pictures of known persons: uint8 (count, 96, 96, 3) and who they are; half are frames of clips, if any.

    Clips show a person in clothes that its stills lack.
    """
    device = data.device
    rows = torch.randint(len(data["still_person"]), (count - count // 2 if data.clips else count,), device=device)
    frames, persons = [data["still_frames"][rows]], [data["still_person"][rows]]
    if data.clips:
        clip, frame = (torch.randint(n, (count // 2,), device=device) for n in (data.clips, FRAMES))
        half = count // 4
        for name, column, part in (("own", 0, slice(half)), ("swap", 1, slice(half, None))):
            frames.append(data[f"clip_{name}"][clip[part], frame[part]])
            persons.append(data["clip_meta"][clip[part], column])
    return torch.cat(frames), torch.cat(persons)


def train_identity(
    data: Swaps, stretch: Stretch, seed: int, config: arcface.Config, people: int, batch: int = 256
) -> arcface.ArcFace:
    """Train an extractor on pictures of `people` persons; the additive angular margin plus known face parameters."""
    torch.manual_seed(seed)
    network = arcface.ArcFace(config).to(data.device, memory_format=torch.channels_last)
    margin = arcface.Margin(config.identity, -(-people // STILLS_PER_JOB) * STILLS_PER_JOB).to(data.device)
    weights = [*network.parameters(), *margin.parameters()]
    optimiser = torch.optim.AdamW(weights, 1e-3, weight_decay=0.02, fused=data.device.startswith("cuda"))
    looked = time.monotonic()
    for number, progress in stretch.steps(seed, {"network": network, "margin": margin}, optimiser):
        schedule(optimiser, 1e-3, progress)
        if progress < 0.6 and time.monotonic() - looked > 30:  # drawing may still go on
            data.refresh()
            looked = time.monotonic()
        frames, labels = some_faces(data, batch)
        faces = aligned(pictures(frames), config.size, jitter=1.0)
        with autocast(data.device):
            vectors = network.features(faces.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(margin(F.normalize(vectors, dim=1), labels), labels)
        if network.parameters_head is not None:
            known = torch.zeros(len(margin.weight), config.parameters, device=data.device)
            known[data["still_person"]] = data["still_parameters"]
            loss = loss + 3 * F.smooth_l1_loss(network.parameters_head(vectors), known[labels])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 5.0)
        optimiser.step()
        if number % 50 == 0:
            stills = len(data["still_person"])
            print(f"identity {seed}: step {number} loss {float(loss.detach()):.3f} stills {stills}", flush=True)
    return network.eval()


@torch.inference_mode()
def embed(network: arcface.ArcFace, frames: Tensor, chunk: int = 512) -> Tensor:
    """Return unit vectors (N, 512) of uint8 frames (N, 96, 96, 3)."""
    size = network.config.size
    with autocast(frames.device.type):
        return torch.cat([network(aligned(pictures(part), size)) for part in frames.split(chunk)]).float()


def score_identity(network: arcface.ArcFace, test: Swaps, looks: int, poses: int) -> dict[str, float]:
    """Verify and retrieve unseen people across outfits: area under the curve, rate at 1 % false matches, top-1."""
    vectors = embed(network, test["still_frames"])
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


# Lip-sync


def five(frames: Tensor, clips: Tensor, starts: Tensor) -> Tensor:
    """Gather five consecutive pictures: frames (C, FRAMES, H, W, 3) uint8 -> (N, 5, 3, H, W) float in [0, 1]."""
    index = starts[:, None] + torch.arange(syncnet.FRAMES, device=frames.device)
    return pictures(frames[clips[:, None], index]).unflatten(0, (len(clips), syncnet.FRAMES))


def louder(mel: Tensor, strength: float = 1.0) -> Tensor:
    """Change the level of mel windows (N, T, F) by up to 8 dB and raise a random noise floor, each by `strength`."""
    shape = (len(mel), 1, 1)
    gain = 0.64 * strength * (2 * torch.rand(shape, device=mel.device) - 1)
    floor = -4 + strength * (1.2 * torch.rand(shape, device=mel.device).square() + 0.1 * torch.randn_like(mel))
    return torch.maximum((mel + gain).clamp(-4, 4), floor)


def contrast_loss(probability: Tensor, clips: Tensor, sharpness: float = 15.0) -> Tensor:
    """Cross-entropy of finding each face's sound, and each sound's face, among the windows of its own clip.

    Without it the expert starts by learning who speaks with which voice, and stays there.
    """
    logits = (sharpness * probability).masked_fill(clips[:, None] != clips[None], -math.inf)
    right = torch.arange(len(clips), device=clips.device)
    return 0.5 * (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / math.log(WINDOWS)


def sync_loss(probability: Tensor, clips: Tensor) -> Tensor:
    """Binary cross-entropy over all pairs of a batch, (N, N) probabilities; `clips` (N,) says which clip a row is of.

    The diagonal is in sync. Other windows of the same clip weigh 0.4, windows of other clips 0.1.
    """
    p = probability.clamp(1e-4, 1 - 1e-4)
    diagonal = torch.eye(len(p), dtype=torch.bool, device=p.device)
    same = (clips[:, None] == clips[None]) & ~diagonal
    wrong = -torch.log1p(-p)
    loss = -torch.log(p.diagonal()).mean()
    return 0.5 * loss + 0.4 * wrong[same].mean() + 0.1 * wrong[~same & ~diagonal].mean()


def train_sync(
    data: Swaps,
    stretch: Stretch,
    seed: int,
    width: float,
    clips: int = 32,
    grey: bool = False,
    begun: nn.Module | None = None,
) -> syncnet.SyncNet:
    """Train the lip-sync expert on target and swapped renderings; a batch holds WINDOWS windows of `clips` clips each.

    Each window is of either rendering, so that no voice belongs to a face. Two linear heads, which are thrown away,
    read the drawn mouth's shape off both vectors: it is what sound and picture have in common. The first part of the
    time is theirs alone, then the pairs are compared, and last pictures and sound are varied: so each gets started.
    An expert that has `begun` elsewhere, with colours for instance, goes on with everything at once.
    """
    torch.manual_seed(seed)
    network = syncnet.SyncNet(width, grey)
    if begun is not None:
        network.load_state_dict(begun.state_dict())
    network.to(data.device, memory_format=torch.channels_last)
    depth, shapes = scaled(512, width), syncnet.FRAMES * data["clip_mouth"].shape[-1]
    heads = torch.nn.ModuleList(torch.nn.Linear(depth, shapes) for _ in range(2)).to(data.device)
    for head in heads:
        torch.nn.init.zeros_(head.weight)
    weights = [*network.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(weights, 4e-4, weight_decay=0.01, fused=data.device.startswith("cuda"))
    looked = time.monotonic()
    spaced = torch.arange(WINDOWS, device=data.device) * 5
    free = FRAMES - syncnet.FRAMES - 5 * (WINDOWS - 1)
    for number, progress in stretch.steps(seed, {"network": network, "heads": heads}, optimiser):
        schedule(optimiser, 4e-4, progress)  # at 1e-3 and above the face encoder does not start to learn
        if progress < 0.8 and time.monotonic() - looked > 30:
            data.refresh()
            looked = time.monotonic()
        paired, varied = (
            min(max((progress - start) / 0.15, 0.0), 1.0) if begun is None else 1.0 for start in (0.15, 0.4)
        )
        chosen = torch.randperm(data.clips, device=data.device)[:clips]
        index = chosen.repeat_interleave(WINDOWS)
        starts = (spaced + torch.randint(0, free + 1, (len(chosen), 1), device=data.device)).flatten()
        swapped, mirrored = torch.rand(2, len(index), 1, 1, 1, 1, device=data.device)
        swapped, mirrored = swapped < 0.5, mirrored < 0.5 * varied
        frames = torch.where(swapped, five(data["clip_swap"], index, starts), five(data["clip_own"], index, starts))
        frames = torch.where(mirrored, frames.flip(-1), frames)
        frames = F.pad(frames.flatten(1, 2), (3, 3, 3, 3), mode="replicate")
        dy, dx = torch.randint(3 - round(3 * varied), 4 + round(3 * varied), (2,)).tolist()
        frames = frames[..., dy : dy + SIZE, dx : dx + SIZE].unflatten(1, (syncnet.FRAMES, 3))
        frames = frames * (1 + 0.15 * varied * (2 * torch.rand(len(frames), 1, 1, 1, 1, device=data.device) - 1))
        mel = louder(data["clip_sync"][index, starts].float(), varied)
        with autocast(data.device):
            face, audio = network.face(frames), network.audio(mel)
        span = starts[:, None] + torch.arange(syncnet.FRAMES, device=data.device)
        mouth = data["clip_mouth"][index[:, None], span].flatten(1)
        read = sum(F.smooth_l1_loss(head(x * depth**0.5), mouth, beta=0.1)
                   for head, x in zip(heads, (face, audio), strict=True))  # fmt: skip
        loss = paired * (sync_loss(face @ audio.T, index) + contrast_loss(face @ audio.T, index)) + 10 * read
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 5.0)
        optimiser.step()
        if number % 50 == 0:
            shape = float(read.detach()) / 2
            print(f"sync {seed}: step {number} loss {float(loss.detach()):.3f} mouth {shape:.4f} clips {data.clips}",
                  flush=True)  # fmt: skip
    return network.eval()


@torch.inference_mode()
def sync_vectors(network: syncnet.SyncNet, frames: Tensor, mel: Tensor) -> tuple[Tensor, Tensor]:
    """Return face and audio vectors (C, W, D) of all W = FRAMES − 4 windows of clips (C, FRAMES, H, W, 3)."""
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


def score_sync(network: syncnet.SyncNet, test: Swaps) -> dict[str, float]:
    """Judge windows and clips of unseen people and sentences: right at threshold ½, and the clip's offset."""
    found: dict[str, list] = {"positive": [], "negative": [], "offset": [], "confidence": []}
    for name in ("clip_own", "clip_swap"):
        face, audio = sync_vectors(network, test[name], test["clip_sync"])
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


# Landmarks


def labelled_faces(data: Swaps):
    """Return the labelled frames of the clips as train/landmarks.py wants them, and the person of each."""
    from .landmarks import Faces

    parts: list[list[Tensor]] = [[], [], [], []]
    persons = []
    index = data["clip_labelled"]  # (C, L) frame numbers
    clip = torch.arange(len(index), device=index.device)[:, None]
    for name, column in (("own", 0), ("swap", 1)):
        frames = pictures(data[f"clip_{name}"][clip, index])
        big = F.interpolate(frames, 128, mode="bilinear", align_corners=False)
        parts[0].append((big * 255).round().byte().contiguous())
        parts[1].append(data[f"clip_{name}_landmarks"].flatten(0, 1).float())
        parts[2].append(data["clip_pose"][clip, index].flatten(0, 1))
        parts[3].append(data["clip_blink"][clip, index].flatten(0, 1))
        persons.append(data["clip_meta"][:, column].repeat_interleave(index.shape[1]).cpu().numpy())
    return Faces(*(torch.cat(p) for p in parts)), np.concatenate(persons)


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["identity", "sync", "landmarks"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=float, default=0.4375)
    parser.add_argument("--size", type=int, default=112, help="side of the picture that an identity expert sees")
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--enough", type=int, default=200, help="stills of persons, or clips, to wait for")
    parser.add_argument("--patience", type=float, default=90, help="seconds to wait for them")
    parser.add_argument("--batch", type=int, default=0, help="stills or clips per step; 0 takes the usual number")
    parser.add_argument("--grey", action="store_true", help="hide colour from a sync expert")
    parser.add_argument("--begun", type=Path, help="sync expert of the same width to go on from")
    parser.add_argument("-o", type=Path, required=True)
    args = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    kinds = {"clips": args.kind != "identity", "stills": args.kind == "identity"}
    data = Swaps(args.data, args.speech, device, stills=kinds["stills"])
    state = args.o.with_suffix(".state")
    stretch = Stretch(args.seconds, f"{args.kind} {args.seed}", state)
    if args.kind == "identity":
        wait_for(data, lambda d: "still_person" in d and len(d.rows) >= args.enough, args.patience)
        config = arcface.Config(width=args.width, size=args.size, parameters=data["still_parameters"].shape[1])
        network = train_identity(data, stretch, args.seed, config, args.people, args.batch or 256)
    else:
        wait_for(data, lambda d: d.clips >= args.enough, args.patience)
        if args.kind == "sync":
            begun = store.load(args.begun, "syncnet")[0] if args.begun else None
            network = train_sync(data, stretch, args.seed, args.width, args.batch or 32, args.grey, begun)
    test = Swaps(args.data, args.speech, device, "test", **kinds)
    wait_for(test, lambda d: ("still_person" if args.kind == "identity" else "clip_own") in d, args.patience)
    if args.kind == "landmarks":
        from . import landmarks

        faces, _ = labelled_faces(data)
        held_out, persons = labelled_faces(test)
        print("landmarks:", landmarks.train(faces, held_out, persons, args.seconds, args.o, args.seed), flush=True)
        return
    if args.kind == "identity":
        scores = score_identity(network, test, LOOKS, POSES)
        store.save(args.o, "arcface", network, config, scores=scores, seed=args.seed, crop=SEEN)
    else:
        valid = Swaps(args.data, args.speech, device, "valid", stills=False)
        wait_for(valid, lambda d: d.clips > 0, args.patience)
        scores = score_sync(network, valid)  # what FLOORS are about: an expert without would be refused for ever
        scores |= {f"unheard_voice_{name}": value for name, value in score_sync(network, test).items()}
        config = {"width": args.width, "grey": args.grey}
        store.save(args.o, "syncnet", network, config, scores=scores, seed=args.seed)
    state.unlink(missing_ok=True)
    print(f"{args.kind} {args.seed}: held out {scores}", flush=True)


if __name__ == "__main__":
    program.run(main)
