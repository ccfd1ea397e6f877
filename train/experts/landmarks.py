"""Train the landmark judge: `python -m edgetalk.train.experts.landmarks --data DIR … --seconds 60 -o FILE`.

The judge has to be steady on generated frames, which are blurred, noisy or off in colour in ways that drawn
frames are not, so every training picture is degraded: shifted, scaled and turned a little, recoloured, blurred,
shrunk and enlarged, noised, compressed. Its own error on held-out true frames, clean and degraded, is measured
at the end and stays in the file; no score that it gives is better than that.

`--seconds` is the whole training time. The run, its losses and pictures lie in FILE with suffix .run (loop.py); the
same command goes on where it was stopped. All frames are kept on the device at 128×128.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgetalk.errors import InputError
from edgetalk.picture import write_picture
from edgetalk.train import loop, program, torchrun
from edgetalk.train.amnet.data import pick_device
from edgetalk.train.networks.amnet import as_bytes, from_bytes
from edgetalk.train.networks.landmarks import (
    INNER_LIP,
    SIDE,
    LandmarkNet,
    Measured,
    inner_opening,
    resized,
    save,
    stored,
)
from edgetalk.train.options import check_bounds
from edgetalk.train.rates import cosine, risen, set_rate
from edgetalk.train.scores.measures import GROUPS, MOUTH, landmark_error, pearson
from edgetalk.train.state import Average, run_beside, tensors_of
from edgetalk.train.stretch import Stretch
from edgetalk.train.terms import joined

if TYPE_CHECKING:
    from edgetalk.train.amnet.dataset import Dataset

BATCH = {"cuda": 128, "cpu": 32}
RATE = 2e-3
EMA = 0.995
SAVE_EVERY = 20.0  # seconds
ENOUGH = 20  # frames of a person for a correlation
SHOWN = 8  # pictures on a sheet


class Faces(NamedTuple):
    """Labelled pictures on one device."""

    images: Tensor
    """uint8 (N, 3, 128, 128)."""
    landmarks: Tensor
    """float32 (N, 106, 2), fractions."""
    pose: Tensor
    """float32 (N, 3), radians."""
    blink: Tensor
    """float32 (N, 2)."""

    def rows(self, index: Tensor) -> Faces:
        """The pictures at `index`."""
        return Faces(*(field[index] for field in self))


def faces_of(data: Dataset, rows: np.ndarray, device: torch.device) -> Faces:
    """The frames `rows` (N,) of a data set (amnet/dataset.py) with their labels, on `device`."""
    images = torch.empty((len(rows), 3, SIDE, SIDE), dtype=torch.uint8, device=device)
    for start in range(0, len(rows), 512):
        part = torch.from_numpy(np.ascontiguousarray(data.frames[rows[start : start + 512]])).to(device)
        small = resized(part.permute(0, 3, 1, 2).float(), SIDE)
        images[start : start + 512] = small.round().byte()
    labels = (
        torch.from_numpy(np.ascontiguousarray(label[rows], np.float32)).to(device)
        for label in (data.landmarks, data.pose, data.blink)
    )
    return Faces(images, *labels)


class Dice:
    """Random numbers for tensors on a device; drawn on the host where a size depends on them, so that nothing waits."""

    def __init__(self, device: torch.device, seed: int):
        self.device = device
        self._host = torch.Generator().manual_seed(seed)
        self._device = torch.Generator(device).manual_seed(seed)

    def number(self, low: float, high: float) -> float:
        """One number between low and high, on the host."""
        return low + (high - low) * float(torch.rand((), generator=self._host))

    def uniform(self, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        """Numbers between low and high, on the device."""
        return low + (high - low) * torch.rand(shape, generator=self._device, device=self.device)

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers, on the device."""
        return torch.randn(shape, generator=self._device, device=self.device)

    def some(self, images: Tensor, changed: Tensor, share: float) -> Tensor:
        """A random `share` of the pictures changed, the others as they were."""
        return torch.where(self.uniform((len(images), 1, 1, 1), 0, 1) < share, changed, images)


# Degradations: each takes and gives pictures (B, 3, S, S) in [0, 1].


def moved(images: Tensor, landmarks: Tensor, pose: Tensor, dice: Dice) -> tuple[Tensor, Tensor, Tensor]:
    """Turn (±6°), scale (±6 %) and shift (±4 %) pictures with their landmarks; roll follows the turn."""
    count = len(images)
    turn = dice.uniform((count,), -0.1, 0.1)
    scale = dice.uniform((count,), 0.94, 1.06)
    shift = torch.stack([dice.uniform((count,), -0.04, 0.04) for _ in range(2)], 1)
    cos, sin = torch.cos(turn) * scale, torch.sin(turn) * scale
    matrix = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    landmarks = (landmarks - 0.5) @ matrix.transpose(1, 2) + 0.5 + shift[:, None]
    inverse = matrix.transpose(1, 2) / scale[:, None, None] ** 2  # of a turn and a scale
    theta = torch.cat([inverse, -(inverse @ (2 * shift)[:, :, None])], 2)
    images = F.grid_sample(
        images,
        F.affine_grid(theta, list(images.shape), align_corners=False),
        align_corners=False,
        padding_mode="border",
    )
    return images, landmarks, torch.cat([pose[:, :2], pose[:, 2:] + turn[:, None]], 1)


def recoloured(images: Tensor, dice: Dice) -> Tensor:
    """Change brightness, contrast, saturation, gamma and the balance of the channels."""
    one, three = (len(images), 1, 1, 1), (len(images), 3, 1, 1)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * dice.uniform(one, 0.6, 1.3)
    images = (images - 0.5) * dice.uniform(one, 0.75, 1.25) + 0.5 + dice.uniform(one, -0.1, 0.1)
    return (images * dice.uniform(three, 0.9, 1.1)).clamp(0.001, 1) ** torch.exp(dice.uniform(one, -0.25, 0.25))


def blurred(images: Tensor, dice: Dice) -> Tensor:
    """Blur half of the pictures by a Gaussian of σ up to 2.2 pixels."""
    offsets = torch.arange(-5, 6, device=images.device, dtype=images.dtype)
    window = torch.exp(-0.5 * (offsets / dice.number(0.3, 2.2)) ** 2)
    window = (window / window.sum()).expand(3, 1, -1)
    soft = F.conv2d(F.pad(images, (5, 5, 5, 5), mode="replicate"), window[:, :, None], groups=3)
    return dice.some(images, F.conv2d(soft, window[..., None], groups=3), 0.5)


def shrunk(images: Tensor, dice: Dice) -> Tensor:
    """Shrink a third of the pictures, to 48 pixels or more, and enlarge them again."""
    small = F.interpolate(images, int(dice.number(48, 112)), mode="bilinear", antialias=True, align_corners=False)
    again = F.interpolate(small, images.shape[-1], mode="bilinear", align_corners=False)
    return dice.some(images, again, 0.33)


def noised(images: Tensor, dice: Dice) -> Tensor:
    """Add fine and coarse Gaussian noise, as grain and as the blotches of a generator."""
    count, _, height, width = images.shape
    coarse = F.interpolate(
        dice.normal((count, 3, height // 8, width // 8)), (height, width), mode="bilinear", align_corners=False
    )
    fine_level, coarse_level = (0.08 * dice.uniform((count, 1, 1, 1), 0, 1) ** 2 for _ in range(2))
    return images + fine_level * dice.normal((count, 3, height, width)) + coarse_level * coarse


QUANTISER = (
    torch.tensor(
        [
            [16, 11, 10, 16, 24, 40, 51, 61],
            [12, 12, 14, 19, 26, 58, 60, 55],
            [14, 13, 16, 24, 40, 57, 69, 56],
            [14, 17, 22, 29, 51, 87, 80, 62],
            [18, 22, 37, 56, 68, 109, 103, 77],
            [24, 35, 55, 64, 81, 104, 113, 92],
            [49, 64, 78, 87, 103, 121, 120, 101],
            [72, 92, 95, 98, 112, 100, 103, 99],
        ]
    )
    / 255
)
"""Luminance table of JPEG (ITU-T T.81, Annex K.1), used for all three channels."""


def compressed(images: Tensor, dice: Dice) -> Tensor:
    """Quantise the 8×8 cosine coefficients of the channels as JPEG of quality 25 to 90 would."""
    rows = torch.arange(8, dtype=images.dtype, device=images.device)
    basis = torch.cos((2 * rows[None] + 1) * rows[:, None] * math.pi / 16) * 0.5
    basis[0] *= math.sqrt(0.5)
    blocks = images.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # B, 3, rows, columns, 8, 8
    quality = dice.uniform((len(images),), 25, 90)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50).view(-1, 1, 1, 1, 1, 1)
    table = QUANTISER.to(images) * scale
    coefficients = basis @ blocks @ basis.T
    blocks = basis.T @ ((coefficients / table).round() * table) @ basis
    again = blocks.transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return dice.some(images, again, 0.5)


def degraded(faces: Faces, dice: Dice) -> Faces:
    """Move and degrade pictures; the images come back as float in [-1, 1]."""
    images, landmarks, pose = moved(faces.images.float() / 255, faces.landmarks, faces.pose, dice)
    for change in (recoloured, blurred, shrunk, noised, compressed):
        images = change(images, dice).clamp(0, 1)
    return faces._replace(images=2 * images - 1, landmarks=landmarks, pose=pose)


def loss_of(measured: Measured, faces: Faces) -> Tensor:
    """ℓ1 of landmarks (mouth and eyes count more), of the lip openings, of pose and of blink."""
    error = (measured.landmarks - faces.landmarks).abs()
    upper, lower = (list(side) for side in zip(*INNER_LIP, strict=True))
    opening = measured.landmarks[:, lower, 1] - measured.landmarks[:, upper, 1]
    truth = faces.landmarks[:, lower, 1] - faces.landmarks[:, upper, 1]
    return (
        20
        * (
            error.mean()
            + 2 * error[:, MOUTH].mean()
            + error[:, GROUPS["eyes"]].mean()
            + 2 * (opening - truth).abs().mean()
        )
        + (measured.pose - faces.pose).abs().mean()
        + 0.3 * (measured.blink - faces.blink).abs().mean()
    )


@lru_cache(1)
def shuffled(count: int, seed: int, turn: int) -> Tensor:
    """The rows (count,) in the order of one round through them."""
    return torch.from_numpy(np.random.default_rng([seed, turn]).permutation(count))


def batch_rows(step: int, count: int, size: int, seed: int) -> Tensor:
    """The row numbers of a step, every row once per round; a function of its arguments alone."""
    turn, part = divmod(step, max(count // size, 1))
    return shuffled(count, seed, turn)[part * size : (part + 1) * size]


@torch.inference_mode()
def own_error(network: LandmarkNet, faces: Faces, persons: np.ndarray, harm: bool = False) -> dict:
    """The judge's error on true frames of the named `persons` (N,), degraded as in training if `harm`.

    Landmarks in pixels of a 256 frame, the opening's error likewise, pose in radians, blink 0–1, and r of the
    measured with the true lip opening, the mean over the persons of 20 frames or more, of all where there is none.
    """
    network.eval()
    dice = Dice(faces.images.device, 0)
    found, truth = [], []
    for rows in torch.arange(len(faces.images), device=faces.images.device).split(256):
        part = faces.rows(rows)
        part = degraded(part, dice) if harm else part._replace(images=from_bytes(part.images))
        found.append(network(part.images))
        truth.append(part)
    measured = Measured(*(torch.cat(t) for t in zip(*found, strict=True)))
    landmarks, pose, blink = (torch.cat(t) for t in list(zip(*truth, strict=True))[1:])
    opening = [inner_opening(x).cpu().numpy() for x in (measured.landmarks, landmarks)]
    names, counts = np.unique(persons, return_counts=True)
    groups = [persons == name for name in names[counts >= ENOUGH]] or [persons == persons]
    r = [pearson(opening[0][group], opening[1][group]) for group in groups]
    errors = {
        "landmarks_px": landmark_error(measured.landmarks, landmarks).mean(),
        "mouth_px": landmark_error(measured.landmarks, landmarks, MOUTH).mean(),
        "opening_px": 256 * np.abs(opening[0] - opening[1]).mean(),
        "opening_r": np.nanmean(r),
        "pose_rad": (measured.pose - pose).abs().mean(),
        "blink": (measured.blink - blink).abs().mean(),
    }
    return {name: round(float(value), 5) for name, value in errors.items()} | {"frames": len(landmarks)}


class LandmarkRecipe:
    """One training of the judge on `faces`; see Recipe."""

    shown = "pictures as the judge sees them in training: true landmarks green, measured ones red"

    def __init__(
        self, faces: Faces, stretch: Stretch, seed: int = 0, terms: Mapping[str, str] | None = None, digest: str = ""
    ):
        torchrun.refuse_several()
        self.terms, self.digest = terms or {}, digest
        torch.manual_seed(seed)
        self.seed, self.stretch, self.faces = seed, stretch, faces
        self.device = faces.images.device
        self.network = LandmarkNet()
        self.network.mean.copy_(faces.landmarks.mean(0))
        self.network.to(self.device, memory_format=torch.channels_last)
        self.average = Average(self.network, EMA)
        fused = self.device.type == "cuda"
        self.optimiser = torch.optim.AdamW(self.network.parameters(), RATE, weight_decay=0.02, fused=fused)
        self.batch = min(BATCH[self.device.type], len(faces.images))
        # Not how many pictures: a set that is still being drawn has more of them when the run goes on.
        self.config = {"family": "landmarks", "seed": seed, "batch": self.batch}
        self.defaults: dict[str, Any] = {}

    @property
    def steps(self) -> int:
        return self.stretch.steps

    def drawn(self, number: int) -> Faces:
        """The pictures of a step and what is done to them: a function of the seed and its number."""
        rows = batch_rows(number, len(self.faces.images), self.batch, self.seed)
        dice = Dice(self.device, torchrun.generator(self.seed, number).initial_seed())
        return degraded(self.faces.rows(rows.to(self.device)), dice)

    def step(self, number: int) -> dict[str, Tensor]:
        """One step: the rate rises shortly, then falls along half a cosine."""
        self.stretch.begin()
        set_rate(self.optimiser, RATE * risen(number) * cosine(self.stretch.progress))
        self.network.train()
        faces = self.drawn(number)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            measured = self.network(faces.images.contiguous(memory_format=torch.channels_last))
        loss = loss_of(measured, faces)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.average.update(number + 1)
        self.stretch.end()
        return {"landmarks": loss}

    def judge(self) -> LandmarkNet:
        """The network with the averaged weights."""
        network = LandmarkNet().to(self.device)
        rounded = {name: stored(name, tensor).float() for name, tensor in self.average.tensors().items()}
        network.load_state_dict(rounded, strict=False)
        return network.eval()

    def record(self) -> dict:
        """How the judge was trained."""
        seconds, steps = self.stretch.spent.tolist()
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        terms = {"terms": dict(self.terms)} if self.terms else {}
        return {"seconds": round(seconds, 1), "images": int(steps) * self.batch, "device": device, **terms}

    def tensors(self) -> dict[str, Tensor]:
        parts = tensors_of(network=self.network, average=self.average, optimiser=self.optimiser)
        return parts | {"spent": self.stretch.spent}

    def checkpoint(self, run: Path, step: int) -> None:
        """Write run/landmarks.safetensors, a judge that does not know its own error."""
        save(run / "landmarks.safetensors", self.judge(), self.record())

    @torch.inference_mode()
    def sheet(self, path: Path) -> None:
        """Write pictures of the first step, twice as large, with their landmarks."""
        faces = self.drawn(0)
        faces = faces.rows(torch.arange(min(SHOWN, len(faces.images)), device=self.device))
        measured = self.judge()(faces.images).landmarks
        tiles = []
        for image, true, found in zip(faces.images, faces.landmarks, measured, strict=True):
            tile = as_bytes(image.permute(1, 2, 0)).cpu().numpy().repeat(2, 0).repeat(2, 1)
            for points, colour in ((true, (60, 220, 90)), (found, (240, 60, 60))):
                at = (points.float().cpu().numpy() * len(tile)).astype(int).clip(0, len(tile) - 2)
                for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
                    tile[at[:, 1] + dy, at[:, 0] + dx] = colour
            tiles.append(tile)
        write_picture(path, np.concatenate(tiles, 1))


def train(
    faces: Faces,
    held_out: Faces,
    persons: np.ndarray,
    stretch: Stretch,
    out: Path,
    seed: int = 0,
    minutes: float | None = None,
    terms: Mapping[str, str] | None = None,
    digest: str = "",
) -> dict:
    """Train for the whole stretch, write the judge to `out`, and return its record with its own error.

    `persons` names the held-out pictures' persons; `terms` are those of films, as in terms.py, `digest` is that of the
    data, as in recipe.py. Where `minutes` end before, the record is empty, and the same call goes on. The run lies
    beside `out` (run_beside). Raises InputError where nothing is held out.
    """
    if not len(held_out.images):  # its error would be no number, which only the end would tell
        raise InputError(
            "data set: got no held-out frames, expected some to measure the judge on; make a set of more frames"
        )
    recipe = LandmarkRecipe(faces, stretch, seed, terms, digest)
    run = run_beside(out)
    if loop.train(recipe, run, minutes=minutes, save_every=SAVE_EVERY) < recipe.steps:
        print(f"{run}: give the same command to go on", flush=True)
        return {}
    judge = recipe.judge()
    record = recipe.record() | {
        "error_on_true_frames": own_error(judge, held_out, persons),
        "error_on_degraded_frames": own_error(judge, held_out, persons, harm=True),
    }
    save(out, judge, record)
    return record


def main(arguments: list[str] | None = None) -> None:
    from edgetalk.train.amnet.dataset import load

    parser = program.parser("edgetalk.train.experts.landmarks", __doc__)
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="folders of: edgetalk data announcers, or filmed"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="training time in all")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes; call again to go on")
    parser.add_argument("-o", "--output", dest="out", type=Path, required=True, help="the judge, a .safetensors file")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another judge")
    args = parser.parse_args(arguments)
    check_bounds(args, {"seed": (0, 2**32 - 1)}, ["seconds", "minutes"])
    device = pick_device(args.device)
    parts: dict[bool, list[Faces]] = {False: [], True: []}
    persons: list[np.ndarray] = []
    sets = [load(folder) for folder in args.data]
    for data in sets:
        for held_out in parts:
            parts[held_out].append(faces_of(data, np.flatnonzero((data.split == 1) == held_out), device))
        persons.append(np.asarray([f"{data.name}/{n}" for n in data.persons])[data.person[data.split == 1]])
    both = [Faces(*map(torch.cat, zip(*parts[held_out], strict=True))) for held_out in (False, True)]
    stretch = Stretch(args.seconds, device=device)
    terms = joined(data.terms for data in sets)
    digest = " and ".join(data.digest for data in sets)
    if record := train(*both, np.concatenate(persons), stretch, args.out, args.seed, args.minutes, terms, digest):
        print(json.dumps({"judge": str(args.out), **record}, indent=1))


if __name__ == "__main__":
    program.run(main)
