"""How WavSyncSwap is trained (§2.4): losses, presets, what one step does, and `edgetalk train wavsyncswap`.

The command does everything within `--minutes`: draws clips and stills from a file of synthesised speech, trains two
pairs of experts on them, one to train against and one to judge, trains the generator while drawing goes on, and scores
it. Each part is a process with a time box and a log; a part that fails leaves the others alone, and what is done
already is not done again. Preset `paper` is Eq. 5 as printed. Preset `default` adds the exact truth of a swap, which
drawn faces have, a warm-up on pixels, skips conditioned on the identity and a reference other than the current frame.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgetalk.errors import InputError

from . import loop
from .announcers.visemes import AXES
from .experts import aligned, autocast, embed, good_enough, louder, pictures, wait_for
from .networks import store, syncnet
from .networks.blocks import scaled
from .networks.wavsyncswap import Config as NetworkConfig
from .networks.wavsyncswap import Discriminator, WavSyncSwap
from .options import add_fields
from .swap_data import FRAMES, SIZE, Swaps


@dataclass(frozen=True)
class Config:
    """One training schedule; the defaults are preset `default`."""

    width: float = 0.4375
    skips: tuple[int, ...] = (64, 48, 32)
    hidden: float = 0.42
    """Radius of the half-disc of the target that is hidden, 0 for all of its lower half (NetworkConfig.hidden). Jaw and
    chin of drawn training faces lie within this one in 97 of 100 frames, at every point of its edge."""
    matte: bool = True
    """Mix the target's background and hair into the frame (NetworkConfig.matte)."""
    images: int = 1_000_000
    """Training pictures of the whole schedule. A run that is resumed with more of them stretches its schedule."""
    singles: int = 128
    """Single frames per step, half with the target's own identity, half swapped; they carry pixels and identity."""
    clips: int = 20
    """Clips of five consecutive frames per step; they carry the sync loss. Fewer than 16 harm batch norm."""
    swaps: bool = True
    """Half of the rows are of somebody else's face; without, all keep the target's."""
    truth: bool = True
    """Compare swapped frames with the exact drawing of the swap (no filmed data has it)."""
    alternate: bool = False
    """Whole steps of one kind, same identity and swapped in turn (§2.4), instead of half and half."""
    pixel: float = 10.0
    """λ_1."""
    identity: float = 0.5
    """λ_i."""
    sync: float = 0.3
    """λ_s."""
    feature: float = 1.0
    """λ_f."""
    adversarial: float = 0.1
    """Weight of L_Adv, 1 in Eq. 5."""
    log_sync: bool = False
    """Eq. 1's −log P, whose gradient has no bound at P = 0, instead of 1 − P."""
    feature_start: int = 3
    """m of Eq. 4, from 1."""
    mouth: float = 4.0
    """Weight of pixels about the mouth in L_L1."""
    shape: float = 3.0
    """Weight of reading the drawn mouth's shape off the audio feature, by a linear head that is thrown away."""
    warm: float = 0.3
    """Share of the schedule with pixels alone, before the experts are ramped in."""
    adversary_from: float = 0.5
    """Share of the schedule after which the discriminator comes in."""
    far: int = 8
    """Frames between a frame and its reference, at least."""
    lr: float = 6e-4
    critic_lr: float = 2e-4
    average: float = 0.999
    """Decay of the averaged weights, which are what a checkpoint holds."""
    seed: int = 0


PRESETS = {
    "default": Config(),
    # λs were never published; these come from a search of one evening at width ¼. SimSwap's (10, 10, 1) failed.
    "paper": Config(skips=(), hidden=0.0, matte=False, singles=0, clips=32, truth=False, alternate=True, identity=1.5,
                    sync=0.3, feature=4.0, adversarial=0.3, log_sync=True, mouth=1.0, shape=0.0, warm=0.0,
                    adversary_from=0.0, far=0),
}  # fmt: skip


def identity_loss(made: Tensor, source: Tensor) -> Tensor:
    """Eq. 3: one minus the cosine of identity vectors (B, D), their mean."""
    return (1 - F.cosine_similarity(made, source, dim=1)).mean()


def sync_loss(probability: Tensor, logarithm: bool = True) -> Tensor:
    """Eq. 1, the mean of −log P_sync (B,), or the mean of 1 − P_sync, which is bounded."""
    return -torch.log(probability.clamp(min=1e-4)).mean() if logarithm else (1 - probability).mean()


def weak_feature_loss(made: list[list[Tensor]], true: list[list[Tensor]], start: int) -> Tensor:
    """Eq. 4: mean distances of the discriminator's features from layer `start` (1 is the first), over its scales."""
    terms = [
        (a.float() - b.float()).abs().mean()
        for scale_made, scale_true in zip(made, true, strict=True)
        for a, b in zip(scale_made[start - 1 : -1], scale_true[start - 1 : -1], strict=True)
    ]
    return torch.stack(terms).sum() / len(made)


def pixel_loss(made: Tensor, true: Tensor, weight: Tensor) -> Tensor:
    """Eq. 6 with a weight per pixel of mean 1, over pictures (B, 3, S, S)."""
    return ((made.float() - true).abs() * weight).mean()


def critic_loss(made: list[list[Tensor]], true: list[list[Tensor]]) -> Tensor:
    """LSGAN for the discriminator: true patches to 1, made ones to 0."""
    terms = [0.5 * (a[-1].float().square().mean() + (b[-1].float() - 1).square().mean())
             for a, b in zip(made, true, strict=True)]  # fmt: skip
    return torch.stack(terms).mean()


def adversarial_loss(made: list[list[Tensor]]) -> Tensor:
    """LSGAN for the generator: made patches to 1."""
    return torch.stack([(scale[-1].float() - 1).square().mean() for scale in made]).mean()


def mouth_weight(size: int, stress: float) -> Tensor:
    """Return weights (1, 1, size, size) of mean 1, `stress` where the mouth may be in the crop of swap_data."""
    axis = (torch.arange(size) + 0.5) / size
    across, down = 0.29 - (axis - 0.5).abs(), 0.16 - (axis - 0.67).abs()
    weight = 1 + (stress - 1) * torch.sigmoid(60 * across)[None, :] * torch.sigmoid(60 * down)[:, None]
    return (weight / weight.mean())[None, None]


class Batch(NamedTuple):
    """What one step sees; the rows of the five-frame clips come last."""

    target: Tensor
    reference: Tensor
    true: Tensor
    """The target itself, or the truth of the swap."""
    identity: Tensor
    """(B, 512) of a still of the source in other hair and clothes."""
    mel: Tensor
    swapped: Tensor
    """(B,) bool: the source is another person."""
    mouth: Tensor
    """(B, 7): the drawn mouth's shape."""
    sync: Tensor
    """(clips, 16, 80): what the lip-sync expert hears of each clip."""


class SwapRecipe:
    """One schedule of WavSyncSwap on a growing set of clips; see loop.Recipe.

    The baselines (wav2lip.py, simswap.py) are the same with another network, and fewer losses in their Config.
    """

    family = "wavsyncswap"

    def __init__(
        self,
        config: Config,
        data: Swaps,
        experts: Path,
        until: float | None = None,
        begun: Path | None = None,
        compiled: bool = False,
    ) -> None:
        self.settings, self.data, self.experts, self.until = config, data, experts, until
        torch.manual_seed(config.seed)
        device = data.device
        self.config: dict[str, Any] = {k: v for k, v in asdict(config).items() if k != "images"}
        self.steps = 10**9  # bound by pictures or by the clock, and set in each step
        self.network_config = self.arrangement()
        self.network = self.build().to(device, memory_format=torch.channels_last)
        self.before = store.take_over(self.network, begun, self.family) if begun else {}
        self._make: Any = torch.compile(self.make, dynamic=False) if compiled else self.make
        self.critic = Discriminator(round(96 * config.width)).to(device, memory_format=torch.channels_last)
        self.average = loop.Average(self.network, config.average)
        fused = device.startswith("cuda")
        self.mouth_head = torch.nn.Linear(scaled(512, config.width), len(AXES)).to(device)  # thrown away in the end
        self.weights = [*self.network.parameters(), *self.mouth_head.parameters()]
        self.adam = torch.optim.Adam(self.weights, config.lr, (0.9, 0.99), fused=fused)
        self.critic_adam = torch.optim.Adam(self.critic.parameters(), config.critic_lr, (0.5, 0.99), fused=fused)
        self.weight = mouth_weight(SIZE, config.mouth).to(device)
        self.clock = torch.zeros(2, dtype=torch.float64)  # seconds trained so far, images seen
        self.started: float | None = None
        self.expert = self._expert("sync", "syncnet")
        self.judge = self._expert("identity", "arcface")
        try:  # below its floor it still tells the generator who is wanted, but gives no loss
            extractor, _ = store.load(experts / "identity-a.safetensors", "arcface")
        except FileNotFoundError:
            raise InputError(
                f"{experts}: has no identity-a.safetensors, expected the identity expert; "
                "train it with: python -m edgetalk.train.experts identity"
            ) from None
        self.extractor = extractor.to(device, memory_format=torch.channels_last).requires_grad_(False)
        self.looked = time.monotonic()
        self.vectors = torch.empty(0)
        self._look()

    def arrangement(self) -> Any:
        """Return the network's configuration, which its checkpoint holds."""
        c = self.settings
        return NetworkConfig(SIZE, c.width, skips=c.skips, hidden=c.hidden, matte=c.matte)

    def build(self) -> Any:
        """Return a new network."""
        return WavSyncSwap(self.network_config)

    def make(self, network: Any, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the network's pictures of a batch, and its audio feature, if it has one."""
        heard = network.hear(batch.mel)
        return network.decode(network.prepare(batch.target, batch.reference, batch.identity), heard), heard

    def _expert(self, kind: str, family: str) -> Any:
        """Return the frozen expert to train against, or None where it is missing or below its held-out floor."""
        path = self.experts / f"{kind}-a.safetensors"
        if not path.exists():
            return None
        network, record = store.load(path, family)
        if not good_enough(kind, record["scores"]):
            print(f"{path}: held-out {record['scores']}, below the floor: not trained against", flush=True)
            return None
        return network.to(self.data.device, memory_format=torch.channels_last).requires_grad_(False)

    def _look(self) -> None:
        """Embed all stills and list them by person."""
        if len(self.vectors) == len(self.data["still_frames"]):
            return
        self.vectors = embed(self.extractor, self.data["still_frames"])
        known = self.data.rows
        table = torch.full((max(known) + 1, max(map(len, known.values()))), -1)
        for person, rows in known.items():
            table[person] = torch.from_numpy(np.resize(rows, table.shape[1]))
        self.stills = table.to(self.data.device)

    @property
    def progress(self) -> float:
        """Share of the schedule that is over: by pictures, or by the clock where a time to end at was given."""
        if self.until is None:
            return float(self.clock[1]) / self.settings.images
        spent, left = float(self.clock[0]), max(self.until - time.time(), 0.0)
        return spent / max(spent + left, 1e-9)

    @property
    def expertise(self) -> float:
        """Share of the experts' losses that is in play."""
        warm = self.settings.warm
        return min(max((self.progress - warm) / 0.1, 0.0), 1.0) if warm else 1.0

    def draw(self, number: int) -> Batch:
        """Draw the batch of a step; a function of seed, step and the clips there are."""
        c, data, rng = self.settings, self.data, loop.generator(self.settings.seed, number)
        five = syncnet.FRAMES
        # A warm-up with single frames alone sees more faces.
        clips = torch.randperm(data.clips, generator=rng)[: 0 if c.singles and not self.expertise else c.clips]
        starts = torch.randint(FRAMES - five + 1, (len(clips),), generator=rng)
        clip = torch.cat([torch.randint(data.clips, (c.singles,), generator=rng), clips.repeat_interleave(five)])
        frame = torch.cat([torch.randint(FRAMES, (c.singles,), generator=rng),
                           (starts[:, None] + torch.arange(five)).flatten()])  # fmt: skip
        away = torch.randint(c.far, FRAMES - c.far + 1, (c.singles + len(clips),), generator=rng)
        away = torch.cat([away[: c.singles], away[c.singles :].repeat_interleave(five)])
        person = torch.arange(c.singles + len(clips)) % 2 == 0
        if c.alternate or not c.swaps:  # without truth a swap has no loss before the experts
            person = torch.full_like(person, c.swaps and number % 2 == 1 and bool(c.truth or self.expertise))
        swapped = torch.cat([person[: c.singles], person[c.singles :].repeat_interleave(five)])
        pick = torch.randint(self.stills.shape[1], (len(clip),), generator=rng)
        move = lambda t: t.to(data.device, non_blocking=True)  # noqa: E731
        clip, frame, away, swapped, pick = map(move, (clip, frame, away, swapped, pick))
        who = torch.where(swapped, data["clip_meta"][clip, 1], data["clip_meta"][clip, 0])
        own = data["clip_own"][clip, frame]
        true = torch.where(swapped[:, None, None, None], data["clip_swap"][clip, frame], own)
        return Batch(
            pictures(own), pictures(data["clip_own"][clip, (frame + away) % FRAMES]), pictures(true),
            self.vectors[self.stills[who, pick]], louder(data["clip_mel"][clip, frame].float()), swapped,
            data["clip_mouth"][clip, frame],
            data["clip_sync"][move(clips), move(starts)].float(),
        )  # fmt: skip

    def step(self, number: int) -> dict[str, Tensor]:
        config, now = self.settings, time.monotonic()
        torch.manual_seed(loop.generator(config.seed, number).initial_seed())  # jitter follows from the step, too
        if self.started is not None:
            self.clock[0] += now - self.started
        self.started = now
        if now - self.looked > 20 and self.progress < 0.6:
            if self.data.refresh():
                self._look()
            self.looked = time.monotonic()
            self.expert = self.expert or self._expert("sync", "syncnet")
        progress, expertise = self.progress, self.expertise
        adversity = min(max((progress - config.adversary_from) / 0.05, 0.0), 1.0) if config.adversary_from else 1.0
        rate = min(1.0, (number + 1) / 100) * min(1.0, 0.02 + 1.96 * max(1 - progress, 0))
        for adam, peak in ((self.adam, config.lr), (self.critic_adam, config.critic_lr)):
            for group in adam.param_groups:
                group["lr"] = peak * rate

        batch = self.draw(number)
        self.clock[1] += len(batch.target)
        device = self.data.device
        with autocast(device):
            made, heard = self._make(self.network, batch)
        losses: dict[str, Tensor] = {}
        total = made.new_zeros((), dtype=torch.float32)
        if config.truth:
            losses["L_L1"] = pixel_loss(made, batch.true, self.weight)
        elif not bool(batch.swapped.all()):  # swapped frames have no truth: Eq. 5 without its first term
            losses["L_L1"] = pixel_loss(made[~batch.swapped], batch.true[~batch.swapped], self.weight)
        if "L_L1" in losses:
            total = total + config.pixel * losses["L_L1"]
        if config.shape and heard is not None:
            with autocast(device):
                read = self.mouth_head(heard.flatten(1))
            losses["shape"] = F.smooth_l1_loss(read.float(), batch.mouth, beta=0.1)
            total = total + config.shape * losses["shape"]
        true = batch.true if config.truth else batch.target
        if adversity:
            with autocast(device):
                losses["D"] = critic_loss(self.critic(made.detach()), self.critic(true))
            self.critic_adam.zero_grad(set_to_none=True)
            losses["D"].backward()
            self.critic_adam.step()
            self.critic.requires_grad_(False)
            with autocast(device):
                judged = self.critic(made)
                with torch.no_grad():
                    wanted = self.critic(true)
            self.critic.requires_grad_(True)
            losses["L_Adv"] = adversarial_loss(judged)
            losses["L_wFM"] = weak_feature_loss(judged, wanted, config.feature_start)
            total = total + adversity * (config.adversarial * losses["L_Adv"] + config.feature * losses["L_wFM"])
        if expertise and config.identity and self.judge is not None:
            face = aligned(made, self.judge.config.size, jitter=1.0)
            with autocast(device):
                vectors = self.judge(face.contiguous(memory_format=torch.channels_last))
            losses["L_Id"] = identity_loss(vectors, batch.identity)
            total = total + expertise * config.identity * losses["L_Id"]
        if expertise and config.sync and self.expert is not None and len(batch.sync):
            spoken = made[config.singles :].unflatten(0, (-1, syncnet.FRAMES))
            with autocast(device):
                probability = self.expert(spoken, batch.sync)
            losses["L_Sync"] = sync_loss(probability, config.log_sync)
            total = total + expertise * config.sync * losses["L_Sync"]
        self.adam.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 2.0)
        self.adam.step()
        self.average.update(number)
        if self.until is None:
            left = config.images - int(self.clock[1])
            self.steps = number + 1 - (-max(left, 0) // len(batch.target))
        else:
            over = time.time() > self.until
            self.steps = number + 1 if over else max(number + 2, round((number + 1) / max(progress, 1e-6)))
        return losses

    def tensors(self) -> dict[str, Tensor]:
        parts = {"network": self.network.state_dict(), "critic": self.critic.state_dict()}
        parts["mouth_head"] = self.mouth_head.state_dict()
        parts["average"] = self.average.tensors()
        named = {f"{part}.{name}": t for part, state in parts.items() for name, t in state.items()}
        named |= {"clock": self.clock}
        named |= loop.optimiser_tensors(self.adam, "adam")
        return named | loop.optimiser_tensors(self.critic_adam, "critic_adam")

    def averaged(self) -> Any:
        """Return a copy of the network with the averaged weights, on the same device."""
        network = self.build()
        network.load_state_dict(self.average.tensors(), strict=False)
        return network.to(self.data.device, memory_format=torch.channels_last).eval()

    @torch.no_grad()
    def sheet(self, path: Path) -> None:
        """Write target, reference, truth and picture of twelve training rows, and the checkpoint beside the run."""
        batch, network = self.draw(0), self.averaged()
        if not all(bool(t.isfinite().all()) for t in network.parameters()):
            return  # the checkpoint before is the better one
        rows = [*range(min(6, self.settings.singles)), *range(len(batch.target))[-6:]]
        some = Batch(*(t[rows] for t in batch[:-1]), batch.sync)
        with autocast(self.data.device):
            made, _ = self.make(network, some)
        write_sheet(path, [some.target, some.reference, some.true, made])
        run = path.parent.parent
        store.save(
            run / f"{self.family}.safetensors",
            self.family,
            network,
            self.network_config,
            training=asdict(self.settings),
            images=self.before.get("images", 0) + int(self.clock[1]),
            seconds=round(self.before.get("seconds", 0.0) + float(self.clock[0]), 1),
            clips=self.data.clips,
        )


def write_sheet(path: Path, columns: list[Tensor]) -> None:
    """Write pictures as a grid: one column per tensor (N, 3, S, S) in [0, 1], one row per picture."""
    import cv2

    rows = torch.cat([torch.cat(list(t.float().clamp(0, 1)), 1) for t in columns], 2)
    picture = (rows * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    part = path.with_name(path.stem + ".part" + path.suffix)
    cv2.imwrite(str(part), np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 92])
    os.replace(part, path)


def train_generator(
    config: Config,
    data: Path,
    speech: Path,
    experts: Path,
    run: Path,
    until: float | None = None,
    kind: type[SwapRecipe] = SwapRecipe,
    begun: Path | None = None,
    compiled: bool = False,
) -> int:
    """Train, or go on, in the folder `run`, `config.images` pictures long or until the time `until` (time.time()).

    A new run starts with the weights of the checkpoint `begun`. Returns the steps taken in all.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    swaps = Swaps(data, speech, device)
    wait_for(swaps, lambda d: d.clips >= 2 * config.clips and "still_person" in d, 120)
    recipe = kind(config, swaps, experts, until, begun, compiled)
    reached = loop.train(recipe, run, save_every=60, sheet_every=45)
    print(f"{kind.family}: {reached} steps, {int(recipe.clock[1])} images, {swaps.clips} clips", flush=True)
    return reached


# The command


class Part:
    """One part of the work as a process of its own, with a log; it is stopped when its time is over."""

    def __init__(self, name: str, logs: Path, *arguments: object) -> None:
        self.name, self.began = name, time.monotonic()
        self.log = (logs / f"{name}.log").open("ab")
        command = [sys.executable, "-m", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)

    def wait(self, until: float) -> bool:
        """Wait until the monotonic time `until` at most; return whether the part ended well."""
        try:
            status = self.process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.terminate()
            status = self.process.wait(20)
        print(f"{self.name}: status {status} after {time.monotonic() - self.began:.0f} s", flush=True)
        self.log.close()
        return status == 0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `edgetalk train wavsyncswap`."""
    parser.add_argument("--speech", type=Path, required=True,
                        help="sentences written by: python -m edgetalk.train.swap_data speech")  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the run; the same command resumes it")
    parser.add_argument("--data", type=Path, help="folder of the drawn clips (default: OUT/data)")
    parser.add_argument("--minutes", type=float, default=480.0, help="time for everything, scores included")
    parser.add_argument("--draw", type=float, default=0.4, help="share of the time in which clips are drawn")
    parser.add_argument("--experts", type=float, default=0.12, help="share of the time for one identity expert")
    parser.add_argument("--score", type=float, default=0.1, help="share of the time kept for the scores")
    parser.add_argument("--people", type=int, default=1000, help="persons with stills")
    parser.add_argument("--test-clips", type=int, default=120)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="drawing processes")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="default")
    add_fields(parser, Config, without=["skips"], preset=True)


def chosen(args: argparse.Namespace, preset: Config) -> Config:
    """Return `preset` with what the options of add_fields say otherwise."""
    return replace(preset, **{f.name: v for f in fields(Config) if (v := getattr(args, f.name, None)) is not None})


def generator_command(kind: type[SwapRecipe], preset: Config) -> tuple[Any, Any]:
    """Return `configure` and `run` of a command that trains one generator on data and experts that are there."""

    def configure(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--data", type=Path, required=True, help="clips and stills: swap_data draw")
        parser.add_argument("--speech", type=Path, required=True, help="sentences: swap_data speech")
        parser.add_argument("--experts", type=Path, required=True, help="folder of identity-a and sync-a")
        parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the run; the same command resumes")
        parser.add_argument("--begun", type=Path, help="checkpoint to begin with, of the same width")
        parser.add_argument("--compile", action="store_true", help="compile the network first: a minute, then faster")
        parser.add_argument("--until", type=float, help="end at this time (seconds since 1970), not after --images")
        add_fields(parser, Config, without=["skips"], preset=True)

    def run(args: argparse.Namespace) -> None:
        train_generator(chosen(args, preset), args.data, args.speech, args.experts, args.out, args.until, kind,
                        args.begun, args.compile)  # fmt: skip
        print(f"{args.out / kind.family}.safetensors: see {args.out / 'index.html'}")

    return configure, run


def run(args: argparse.Namespace) -> None:
    """Draw, train experts and generator, and score: OUT/wavsyncswap.safetensors, OUT/experts, OUT/scores."""
    began, total = time.monotonic(), args.minutes * 60
    config = chosen(args, PRESETS[args.preset])
    out, data, experts = args.out, args.data or args.out / "data", args.out / "experts"
    experts.mkdir(parents=True, exist_ok=True)
    here = "edgetalk.train."
    common = ("--data", data, "--speech", args.speech)
    drawing = Part("draw", out, here + "swap_data", "draw", "-o", data, "--speech", args.speech,
                   "--seconds", args.draw * total, "--people", args.people, "--test-clips", args.test_clips,
                   "--valid-clips", args.test_clips // 2, "--workers", args.workers)  # fmt: skip
    patience, stretch = 0.3 * total, args.experts * total

    def expert(name: str, kind: str, seed: int, seconds: float, *more: object) -> Part | None:
        path = experts / f"{name}.safetensors"
        if path.exists():
            return None
        return Part(name, out, here + "experts", kind, *common, "--seconds", seconds, "--seed", seed,
                    "--patience", patience, "-o", path, *more)  # fmt: skip

    people = ("--people", args.people, "--enough", args.people // 2)
    clips = ("--enough", max(20, args.people // 8))
    end = began + total
    first = expert("identity-a", "identity", 1, stretch, "--width", 0.375, *people)
    later = [expert("sync-a", "sync", 1, 2.2 * stretch, "--width", 0.4375, "--grey", *clips),
             expert("sync-b", "sync", 2, 2.2 * stretch, "--width", 0.3125, "--grey", *clips)]  # fmt: skip
    if first:
        first.wait(began + patience + stretch + 60)
    later.append(expert("identity-b", "identity", 2, stretch, "--width", 0.3125, "--size", 96, *people))
    later.append(expert("landmarks", "landmarks", 1, stretch, *clips))
    scoring = max(args.score * total, 20)
    until = time.time() + end - scoring - time.monotonic() - max(8, 0.02 * total)  # for the last save
    settings = out / "config.json"
    settings.write_text(json.dumps(asdict(config)))
    generator = Part("generator", out, here + "wavsyncswap", "--settings", settings, *common, "--experts", experts,
                     "-o", out, "--until", until)  # fmt: skip
    generator.wait(end - scoring)
    for part in [*later, drawing]:
        if part:
            part.wait(end - scoring + 1)
    judged = out / "scores"
    Part("score", out, "edgetalk.cli", "score", "wavsyncswap", *common, "--experts", experts, "--checkpoint",
         out / "wavsyncswap.safetensors", "-o", judged).wait(end)  # fmt: skip
    print(f"{out / 'wavsyncswap.safetensors'}: see {judged / 'wavsyncswap.json'} and the pictures beside it")


def main(arguments: list[str] | None = None) -> None:
    """Train the generator alone; its schedule is a JSON file of Config's fields, or the options."""
    parser = argparse.ArgumentParser(prog="python -m edgetalk.train.wavsyncswap", description=main.__doc__)
    parser.add_argument("--settings", type=Path, help="JSON of all fields, as `edgetalk train wavsyncswap` writes it")
    configure, _ = generator_command(SwapRecipe, PRESETS["default"])
    configure(parser)
    args = parser.parse_args(arguments)
    preset = PRESETS["default"]
    if args.settings:
        told = json.loads(args.settings.read_text())
        preset = Config(**told | {"skips": tuple(told["skips"])})
    train_generator(chosen(args, preset), args.data, args.speech, args.experts, args.out, args.until,
                    SwapRecipe, args.begun, args.compile)  # fmt: skip


if __name__ == "__main__":
    main()
