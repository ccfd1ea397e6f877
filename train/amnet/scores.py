"""What AMNet's pictures of held-out frames are worth: pictures, faces, lips, per person, per voice and in the mean.

Every figure that rests on the landmark judge stands beside the judge's own figure on the true frames; lip
correlation stands beside that of shuffled sound. Engines are not scored here: their gate compares them with the
network (engines/gate.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgetalk.train.amnet.data import Footage
from edgetalk.train.networks.amnet import AMNet, as_bytes, from_bytes
from edgetalk.train.networks.landmarks import LandmarkNet, inner_opening, resized
from edgetalk.train.precision import autocast
from edgetalk.train.scores import measures

NOISE_DB = -60.0
"""Level of the noise that stands for a silent room."""
CLOSED_PX = 1.0
"""Lips whose true opening is below this, in pixels of a 256 frame, are closed."""
CORRELATED = 20
"""Frames of which a lip correlation is computed at least: that of two is 1 or −1, whatever the lips do."""
BATCH = 64


@dataclass
class Extras:
    """Measures that are not always there; what is None is not computed."""

    lpips: Callable[[Tensor, Tensor], Tensor] | None = None
    inception: Callable[[Tensor], Tensor] | None = None
    detector: Callable[[np.ndarray], bool] | None = None
    missing: dict[str, str] = field(default_factory=dict)
    """Why a measure is None, by its name in the report."""


class Puppets:
    """The persons of a data set, each with a source picture that the network has prepared once.

    It is the one in `sources` (uint8 (S, S, 3) by name), of which the person's avatar is made, else the most neutral
    frame of the data set.
    """

    def __init__(self, network: AMNet, footage: Footage, size: int, sources: Mapping[str, Tensor] | None = None):
        self.network, self.footage, self.size = network, footage, size
        given = torch.cat([resized(some, size) for some in footage.pictures(footage.neutral).split(32)])
        for number, person in enumerate(footage.persons):
            if sources and person in sources:
                own = from_bytes(sources[person].to(given.device).permute(2, 0, 1)[None])
                given[number] = resized(own, size)[0]
        with autocast(footage.device):
            self.appearance = torch.cat([network.reenactor.source(some) for some in given.split(32)])

    def draw(self, person: Tensor, mel: Tensor, pose: Tensor, blink: Tensor) -> Tensor:
        """uint8 pictures (B, 3, S, S) at the size of the footage, of the persons with the numbers `person` (B,)."""
        with autocast(self.footage.device):
            f_geo = self.network.fuser(mel, pose, blink)
            made = self.network.reenactor.step(self.appearance[person], f_geo)
        shown = self.footage.frames.shape[1]
        if shown != self.size:
            made = F.interpolate(from_bytes(as_bytes(made)), shown, mode="bicubic", antialias=True)
        return as_bytes(made)


def spread(rows: Tensor, person: Tensor, limit: int | None) -> Tensor:
    """About `limit` of the `rows`, evenly spread over each person's; two of everybody at least."""
    if limit is None or limit >= len(rows):
        return rows
    kept = []
    for number in person.unique():
        own = rows[person == number]
        count = max(2, round(limit * len(own) / len(rows)))
        kept.append(own[torch.linspace(0, len(own) - 1, min(count, len(own))).round().long()])
    return torch.cat(kept)


def shuffled(person: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each row another row of the same person, at random; itself where there is no other."""
    other = np.arange(len(person))
    for name in np.unique(person):
        order = rng.permutation(np.flatnonzero(person == name))
        other[order] = np.roll(order, 1)
    return other


def judged(judge: LandmarkNet, pictures: Tensor, pose: Tensor, blink: Tensor, landmarks: Tensor) -> dict[str, Tensor]:
    """The judge's errors on uint8 pictures (B, 3, S, S), each (B,), the opening that it sees, and its features."""
    measured, features = judge.measure(from_bytes(pictures))
    return {
        "ale": measures.landmark_error(measured.landmarks, landmarks),
        "ape": (measured.pose - pose).abs().mean(1),
        "abe": (measured.blink - blink).abs().mean(1),
        "opening": inner_opening(measured.landmarks),
        "features": features,
    }


def frame_values(puppets: Puppets, judge: LandmarkNet, rows: Tensor, extras: Extras) -> dict[str, np.ndarray]:
    """Everything that is measured on single frames, by name, each (N, …) in the order of `rows`."""
    from tqdm import tqdm

    footage = puppets.footage
    person = footage.person[rows].cpu().numpy()
    other = rows[torch.from_numpy(shuffled(person, np.random.default_rng(0))).to(rows.device)]
    columns: dict[str, list[Tensor]] = {}
    for index, borrowed in zip(tqdm(rows.split(BATCH), desc="score", unit="batch"), other.split(BATCH), strict=False):
        pose, blink, landmarks = footage.pose[index], footage.blink[index], footage.landmarks[index]
        who = footage.person[index]
        made = puppets.draw(who, footage.windows(index), pose, blink)
        true = footage.frames[index].permute(0, 3, 1, 2)
        a, b = made.float() / 255, true.float() / 255
        mask = measures.mouth_mask(landmarks, true.shape[-1])
        values = {
            "ssim": measures.ssim(a, b),
            "psnr": measures.psnr(a, b),
            "mouth_ssim": measures.ssim(a, b, mask),
            "mouth_psnr": measures.psnr(a, b, mask),
            "true_opening": inner_opening(landmarks),
        }
        values |= judged(judge, made, pose, blink, landmarks)
        values |= {f"truth_{k}": v for k, v in judged(judge, true, pose, blink, landmarks).items()}
        mute = puppets.draw(who, footage.windows(borrowed), pose, blink)
        values["shuffled_opening"] = judged(judge, mute, pose, blink, landmarks)["opening"]
        if extras.lpips:
            values["lpips"] = extras.lpips(2 * a - 1, 2 * b - 1)
        if extras.inception:
            values |= {"inception": extras.inception(made), "truth_inception": extras.inception(true)}
        if extras.detector:
            for name, pictures in (("detected", made), ("truth_detected", true)):
                shown = pictures.permute(0, 2, 3, 1).cpu().numpy()
                values[name] = torch.tensor([float(extras.detector(picture)) for picture in shown])
        for name, value in values.items():
            columns.setdefault(name, []).append(value)
    return {name: torch.cat(parts).float().cpu().numpy() for name, parts in columns.items()}


MEANS = {
    "ssim": "ssim",
    "psnr": "psnr",
    "mouth_ssim": "mouth_ssim",
    "mouth_psnr": "mouth_psnr",
    "lpips": "lpips",
    "ale_px": "ale",
    "ape_rad": "ape",
    "abe": "abe",
    "detection": "detected",
    "judge_ale_px": "truth_ale",
    "judge_ape_rad": "truth_ape",
    "judge_abe": "truth_abe",
    "truth_detection": "truth_detected",
}
"""Figures of the report that are means over frames, and the values that they are the mean of."""
CLOUDS = {"judge_frechet": "features", "fid": "inception"}
"""Figures of the report that are distances of feature clouds, and the values that are the features."""


def needed(cloud: str, values: Mapping[str, np.ndarray]) -> int:
    """Frames that a distance of CLOUDS needs: fewer span no covariance of its features."""
    width = values[CLOUDS[cloud]].shape[1]
    return 2 * width if cloud == "judge_frechet" else width + 1


def summary(values: dict[str, np.ndarray], chosen: np.ndarray) -> dict[str, float]:
    """The figures of the frames `chosen` (N,) bool; those of how lips move are nan where they are below CORRELATED.

    A distance of clouds is left out where the frames are too few for its features.
    """
    own = {name: value[chosen] for name, value in values.items()}
    figures: dict[str, float] = {name: float(own[key].mean()) for name, key in MEANS.items() if key in own}
    truth = own["true_opening"]
    figures |= dict.fromkeys(("lip_r", "lip_r_shuffled", "lip_r_judge"), float("nan"))
    if len(truth) >= CORRELATED:
        figures |= {
            "lip_r": measures.pearson(own["opening"], truth),
            "lip_r_shuffled": measures.pearson(own["shuffled_opening"], truth),
            "lip_r_judge": measures.pearson(own["truth_opening"], truth),
        }
    closed = 256 * truth < CLOSED_PX
    if closed.any():
        figures |= {
            "closed_px": float(256 * own["opening"][closed].mean()),
            "judge_closed_px": float(256 * own["truth_opening"][closed].mean()),
        }
    for name, features in CLOUDS.items():
        if features in own and len(truth) >= needed(name, own):
            figures[name] = measures.frechet(own[features], own[f"truth_{features}"])
    return figures | {"frames": int(chosen.sum())}


def mean_of(groups: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each figure over groups, of those where it is a number; frames are summed."""
    names = list(dict.fromkeys(name for group in groups for name in group if name != "frames"))
    columns = {name: [group[name] for group in groups if name in group] for name in names}
    means = {name: _known_mean(column) for name, column in columns.items()}
    return means | {"frames": sum(group["frames"] for group in groups)}


def _known_mean(values: list[float]) -> float:
    """Mean of those that are a number; nan where none is."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def movement(judge: LandmarkNet, pictures: Tensor, points: list[int]) -> dict[str, float]:
    """How much consecutive pictures (N, 3, S, S) differ where nothing should move.

    Mean change of a pixel (of 255) and mean way of the landmarks `points` between two frames, in pixels of 256; nan
    where there is one picture.
    """
    found = judge(from_bytes(pictures)).landmarks[:, points]
    return {
        "pixels": float((pictures[1:].float() - pictures[:-1].float()).abs().mean()),
        "landmarks_px": float(256 * (found[1:] - found[:-1]).norm(dim=-1).mean()),
    }


def jitter(puppets: Puppets, judge: LandmarkNet, seconds: float = 2.0) -> dict[str, dict[str, float]]:
    """Movement of a still head: while the room is silent (noise at −60 dBFS), and while it speaks a held-out clip.

    While it speaks only brows, nose and eyes count. `opening_px` is the lips' mean opening in the silence.
    """
    from fractions import Fraction

    from edgetalk.mel import log_mel, windows

    footage = puppets.footage
    spec, device = footage.spec, footage.device
    count = round(25 * seconds)
    noise = np.random.default_rng(0).normal(0, 10 ** (NOISE_DB / 20), round(spec.sample_rate * seconds))
    quiet = torch.from_numpy(windows(log_mel(noise.astype(np.float32), spec), count, spec, Fraction(25))).to(device)
    still = torch.zeros(count, 3, device=device), torch.zeros(count, 2, device=device)
    everywhere, upper = list(range(106)), list(range(33, 86))
    found: dict[str, list[dict[str, float]]] = {"silent": [], "speaking": []}
    test = footage.held_out()
    for number in footage.person[test].unique().tolist()[:12]:
        own = test[footage.person[test] == number]
        who = torch.full((count,), number, device=device)
        silent = puppets.draw(who, quiet, *still)
        opening = 256 * inner_opening(judge(from_bytes(silent)).landmarks).mean()
        found["silent"].append(movement(judge, silent, everywhere) | {"opening_px": float(opening)})
        clip = footage.longest_clip(own)[:count]
        speaking = puppets.draw(who[: len(clip)], footage.windows(clip), *(s[: len(clip)] for s in still))
        found["speaking"].append(movement(judge, speaking, upper))
    return {name: {key: _known_mean([f[key] for f in parts]) for key in parts[0]} for name, parts in found.items()}


@torch.inference_mode()
def score(
    network: AMNet,
    footage: Footage,
    judge: LandmarkNet,
    *,
    size: int | None = None,
    limit: int | None = None,
    extras: Extras | None = None,
    sources: Mapping[str, Tensor] | None = None,
    known: Collection[str] = (),
) -> dict:
    """Score `network` on the held-out frames of `footage`; all on the footage's device.

    `size` is the size of the network's pictures, the footage's by default; smaller ones are enlarged before they
    are compared. `limit` takes so many frames, evenly spread; `sources` are those of `Puppets`, `known` the names of
    those whom the network was trained on; without names they are those of whom the set has training frames. Returns
    plain values, ready for JSON: "known" and "unknown" are the means of the persons who are and are not known, "all"
    is measured on all frames together. InputError where nothing is held out.
    """
    began = time.monotonic()
    extras = extras or Extras()
    shown = footage.frames.shape[1]
    puppets = Puppets(network.eval(), footage, size or shown, sources)
    test = footage.held_out()
    rows = spread(test, footage.person[test], limit)
    values = frame_values(puppets, judge, rows, extras)
    person, voice = (column[rows].cpu().numpy() for column in (footage.person, footage.voice))
    persons = {footage.persons[n]: summary(values, person == n) for n in np.unique(person)}
    heard = set(footage.voice[footage.train.to(footage.device)].tolist())
    voices = {
        footage.voices[n]: mean_of(
            [summary(values, (voice == n) & (person == p)) for p in np.unique(person[voice == n])]
        )
        | {"held_out": n not in heard}
        for n in np.unique(voice).tolist()
    }
    trained = set(known) or {footage.persons[n] for n in footage.trained}
    groups = {
        "known": [figures for name, figures in persons.items() if name in trained],
        "unknown": [figures for name, figures in persons.items() if name not in trained],
    }
    missing = {  # of all frames, and so of every person and voice
        name: f"needs {needed(name, values):,} frames, got {len(rows):,}"
        for name, features in CLOUDS.items()
        if features in values and len(rows) < needed(name, values)
    }
    return {
        "persons": persons,
        "mean": mean_of(list(persons.values())),
        **{name: mean_of(group) for name, group in groups.items() if group},
        "all": summary(values, np.ones(len(person), bool)),
        "voices": voices,
        "jitter": jitter(puppets, judge),
        "size": size or shown,
        "compared_at": shown,
        "frames": len(rows),
        "correlated": CORRELATED,
        "data": footage.name,
        "digest": footage.digest,
        "device": torch.cuda.get_device_name() if footage.device.type == "cuda" else "cpu",
        "seconds": round(time.monotonic() - began, 1),
        "not_computed": extras.missing | missing,
    }
