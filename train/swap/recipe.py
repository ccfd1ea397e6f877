"""How a generator of swapped or spoken faces is trained (§2.4): what one step does, by a schedule (schedule.py).

WavSyncSwap and its baselines (wav2lip.py, simswap.py) are trained by it. Leaves out the experts (../experts).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgetalk.errors import InputError
from edgetalk.picture import write_picture
from edgetalk.train import loop, torchrun
from edgetalk.train.announcers.visemes import AXES
from edgetalk.train.networks import store, syncnet
from edgetalk.train.networks.blocks import scaled
from edgetalk.train.networks.tensors import digest
from edgetalk.train.networks.wavsyncswap import Discriminator, WavSyncSwap
from edgetalk.train.options import add_fields, check_bounds
from edgetalk.train.precision import autocast
from edgetalk.train.rates import linear, risen, set_rate
from edgetalk.train.state import Average, tensors_of
from edgetalk.train.stretch import steps_in_all
from edgetalk.train.terms import joined

from .data import CLIP_FRAMES, SIZE, Swaps, louder, pictures, wait_for
from .judging import aligned, embed, good_enough
from .losses import (
    adversarial_loss,
    critic_loss,
    identity_loss,
    keep_loss,
    mouth_weight,
    pixel_loss,
    structure_loss,
    sync_loss,
    weak_feature_loss,
    weighted_sum,
)
from .schedule import Config, arrangement, checked, chosen, expert_losses, of_films


class Batch(NamedTuple):
    """What one step sees; the rows of the five-frame clips come last."""

    target: Tensor
    reference: Tensor
    true: Tensor
    """The target itself, or the truth of the swap; of filmed people the target."""
    identity: Tensor
    """(B, 512) of a still of the source in other hair and clothes."""
    mel: Tensor
    swapped: Tensor
    """(B,) bool: the source is another person."""
    mouth: Tensor
    """(B, 7): the drawn mouth's shape; (B, 0) of filmed people."""
    sync: Tensor
    """(clips, 16, 80): what the lip-sync expert hears of each clip."""


class Made(NamedTuple):
    """What a network makes of a batch."""

    frames: Tensor
    heard: Tensor | None = None
    """Its audio feature, if it has one."""
    share: Tensor | None = None
    """With a matte, the target's share of every pixel."""
    kept: Tensor | None = None
    """With a matte, the filled target."""


class SwapRecipe:
    """One schedule of WavSyncSwap on a growing set of clips; see Recipe. InputError where it cannot be.

    The baselines (wav2lip.py, simswap.py) are the same with another network, and fewer losses in their Config.
    """

    family = "wavsyncswap"
    shown = "target, reference, truth, generated"

    def __init__(
        self,
        config: Config,
        data: Swaps,
        experts: Path,
        until: float | None = None,
        begun: Path | None = None,
        compiled: bool = False,
    ) -> None:
        torchrun.refuse_several()
        self.settings = of_films(checked(config), data.folder) if data.filmed else checked(config)
        self.data, self.experts, self.until, self.compiled = data, experts, until, compiled
        torch.manual_seed(config.seed)
        device = data.device
        self.config, self.defaults = (asdict(some) for some in (config, Config()))
        del self.config["images"], self.defaults["images"]
        self._steps: int | None = None  # of the whole schedule, as far as the last step could tell
        self.network_config = self.arrangement()
        self.network = self.build().to(device, memory_format=torch.channels_last)
        self.before = store.take_over(self.network, begun, self.family) if begun else {}
        begun_weights = digest(self.network) if begun else None  # older runs do not tell
        self.config["begun_weights"] = self.defaults["begun_weights"] = begun_weights
        self._make: Any = torch.compile(self.make, dynamic=False) if compiled else self.make
        self.critic = Discriminator(round(96 * config.width)).to(device, memory_format=torch.channels_last)
        if compiled:
            self.critic.compile(dynamic=False)
        self.average = Average(self.network, config.average)
        fused = device.startswith("cuda")
        self.mouth_head = torch.nn.Linear(scaled(512, config.width), len(AXES)).to(device)  # thrown away in the end
        self.weights = [*self.network.parameters(), *self.mouth_head.parameters()]
        self.adam = torch.optim.Adam(self.weights, config.lr, (0.9, 0.99), fused=fused)
        self.critic_adam = torch.optim.Adam(self.critic.parameters(), config.critic_lr, (0.5, 0.99), fused=fused)
        self.weight = mouth_weight(SIZE, config.mouth).to(device)
        self._refused: dict[Path, int] = {}  # experts below their floors, and when they were written
        self.clock = torch.zeros(2, dtype=torch.float64)  # seconds trained so far, images seen
        self.started: float | None = None
        self.digest = data.digest
        self.terms = joined([data.terms, self.before.get("terms", {})])
        self.sync_expert = self._expert("sync", "syncnet")
        self.identity_expert = self._expert("identity", "arcface")
        try:  # below its floor it still tells the generator who is wanted, but gives no loss
            extractor, record = store.load(experts / "identity-a.safetensors", "arcface")
        except FileNotFoundError:
            raise InputError(
                f"{experts}: has no identity-a.safetensors, expected the identity expert; "
                "train it with: python -m edgetalk.train.experts identity"
            ) from None
        self.extractor = extractor.to(device, memory_format=torch.channels_last).requires_grad_(False)
        self.terms = joined([self.terms, record.get("terms", {})])
        self.config["identity_weights"] = self.defaults["identity_weights"] = digest(extractor)  # older runs have none
        self.looked = time.monotonic()
        self.vectors = torch.empty(0)
        self._look()

    def arrangement(self) -> Any:
        """Return the network's configuration, which its checkpoint holds."""
        return arrangement(self.settings)

    def build(self) -> Any:
        """Return a new network."""
        return WavSyncSwap(self.network_config)

    def make(self, network: Any, batch: Batch) -> Made:
        """Return what the network makes of a batch."""
        heard = network.hear(batch.mel)
        face = network.prepare(batch.target, batch.reference, batch.identity)
        painted = network.paint(network.first(face[0], heard), face[1:])
        frames = network.mix(painted, face)
        return Made(frames, heard, painted[:, 3:], face[-1]) if network.config.matte else Made(frames, heard)

    def _expert(self, kind: str, family: str) -> Any:
        """Return the frozen expert to train against, or None where it is missing or below its held-out floor.

        What the people agreed to whom it has learnt from goes into the run's terms.
        """
        path = self.experts / f"{kind}-a.safetensors"
        if not path.exists() or self._refused.get(path) == (written := path.stat().st_mtime_ns):
            return None
        network, record = store.load(path, family)
        if not good_enough(kind, record["scores"]):
            self._refused[path] = written
            print(f"{path}: held-out {record['scores']}, below the floor: not trained against", flush=True)
            return None
        self.terms = joined([self.terms, record.get("terms", {})])
        if self.compiled:
            network.compile(dynamic=False)
        return network.to(self.data.device, memory_format=torch.channels_last).requires_grad_(False)

    @property
    def against(self) -> list[str]:
        """The losses of the schedule for which there is an expert; it goes into every checkpoint."""
        experts = {"L_Id": self.identity_expert, "L_Sync": self.sync_expert}
        return [name for name in expert_losses(self.settings) if experts[name] is not None]

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
    def steps(self) -> int:
        """Steps of the whole schedule; 0 where no step was taken yet and a run that is resumed is over."""
        if self._steps is None:
            return 10**9 if self.progress < 1 else 0
        return self._steps

    @property
    def expertise(self) -> float:
        """Share of the experts' losses that is in play."""
        warm = self.settings.warm
        return min(max((self.progress - warm) / 0.1, 0.0), 1.0) if warm else 1.0

    def adversity(self, progress: float) -> float:
        """Return the share of the discriminator's losses that is in play."""
        begin = self.settings.adversary_from
        return min(max((progress - begin) / 0.05, 0.0), 1.0) if begin else 1.0

    def lambdas(self, progress: float, expertise: float) -> dict[str, float]:
        """Return what each loss weighs in Eq. 5 by its name, ramped in; "structure", "keep" and "shape" are ours."""
        c, adversity = self.settings, self.adversity(progress)
        return {"L_L1": c.pixel, "structure": c.structure, "keep": c.keep, "shape": c.shape,
                "L_Adv": adversity * c.adversarial, "L_wFM": adversity * c.feature,
                "L_Id": expertise * c.identity, "L_Sync": expertise * c.sync}  # fmt: skip

    def draw(self, number: int) -> Batch:
        """Draw the batch of a step; a function of seed, step and the clips there are."""
        c, data, rng = self.settings, self.data, torchrun.generator(self.settings.seed, number)
        five = syncnet.FRAMES
        # A warm-up with single frames alone sees more faces.
        clips = torch.randperm(data.clips, generator=rng)[: 0 if c.singles and not self.expertise else c.clips]
        starts = torch.randint(CLIP_FRAMES - five + 1, (len(clips),), generator=rng)
        clip = torch.cat([torch.randint(data.clips, (c.singles,), generator=rng), clips.repeat_interleave(five)])
        frame = torch.cat([torch.randint(CLIP_FRAMES, (c.singles,), generator=rng),
                           (starts[:, None] + torch.arange(five)).flatten()])  # fmt: skip
        away = torch.randint(c.far, CLIP_FRAMES - max(c.far, 1) + 1, (c.singles + len(clips),), generator=rng)
        away = torch.cat([away[: c.singles], away[c.singles :].repeat_interleave(five)])
        person = torch.arange(c.singles + len(clips)) % 2 == 0
        if c.alternate or not c.swaps:
            person = torch.full_like(person, c.swaps and number % 2 == 1)
        if not (c.truth or self.expertise):  # without truth a swap has no loss before the experts
            person = torch.zeros_like(person)
        swapped = torch.cat([person[: c.singles], person[c.singles :].repeat_interleave(five)])
        pick = torch.randint(self.stills.shape[1], (len(clip),), generator=rng)
        move = lambda t: t.to(data.device, non_blocking=True)  # noqa: E731
        clip, frame, away, swapped, pick = map(move, (clip, frame, away, swapped, pick))
        own, shown = data["clip_own"][clip, frame], data["clip_meta"][clip, 0]
        if data.filmed:  # the source is anybody else: people are numbered from 0 on
            further = torch.randint(1, len(data.rows), (len(clip),), generator=rng)
            source, true, mouth = (shown + move(further)) % len(data.rows), own, own.new_zeros(len(clip), 0)
        else:
            source, mouth = data["clip_meta"][clip, 1], data["clip_mouth"][clip, frame]
            true = torch.where(swapped[:, None, None, None], data["clip_swap"][clip, frame], own)
        who = torch.where(swapped, source, shown)
        return Batch(
            pictures(own), pictures(data["clip_own"][clip, (frame + away) % CLIP_FRAMES]), pictures(true),
            self.vectors[self.stills[who, pick]], louder(data["clip_mel"][clip, frame].float()), swapped, mouth,
            data["clip_sync"][move(clips), move(starts)].float(),
        )  # fmt: skip

    def step(self, number: int) -> dict[str, Tensor]:
        """Take one step of Eq. 5: rates, pictures, the discriminator's own step, the weighted sum, and its gradient."""
        torch.manual_seed(torchrun.generator(self.settings.seed, number).initial_seed())  # jitter follows from it, too
        self._take_time()
        progress, expertise = self.progress, self.expertise
        self._set_rates(number, progress)
        batch = self.draw(number)
        self.clock[1] += len(batch.target)
        with autocast(self.data.device):
            made = Made(*self._make(self.network, batch))
        losses: dict[str, Tensor] = {}
        self._compare(made, batch, losses)
        self._oppose(made.frames, batch, progress, losses)
        self._consult(made.frames, batch, expertise, losses)
        total = weighted_sum(losses, self.lambdas(progress, expertise))
        self.adam.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 2.0)
        self.adam.step()
        self.average.update(number)
        self._steps = self._end(number, progress, len(batch.target))
        return losses

    def _take_time(self) -> None:
        """Count the seconds since the step before, and now and then take in what was drawn or trained meanwhile."""
        now = time.monotonic()
        if self.started is not None:
            self.clock[0] += now - self.started
        self.started = now
        if now - self.looked > 20 and self.progress < 0.6:
            if self.data.refresh():
                self._look()
            self.looked = time.monotonic()
            self.sync_expert = self.sync_expert or self._expert("sync", "syncnet")

    def _set_rates(self, number: int, progress: float) -> None:
        """Let both learning rates rise over 100 steps, and fall linearly over the second half."""
        share = risen(number) * linear(progress, floor=0.02)
        set_rate(self.adam, self.settings.lr * share)
        set_rate(self.critic_adam, self.settings.critic_lr * share)

    def _compare(self, made: Made, batch: Batch, losses: dict[str, Tensor]) -> None:
        """Add L_L1 and what Eq. 5 lacks, the losses of structure, matte and mouth, to `losses`."""
        config, frames, true = self.settings, made.frames, batch.true
        if not config.truth:  # swapped frames have none: Eq. 5 without its first term
            frames, true = frames[~batch.swapped], true[~batch.swapped]
        if len(frames):
            losses["L_L1"] = pixel_loss(frames, true, self.weight)
            if config.structure:
                losses["structure"] = structure_loss(frames, true)
        if config.keep and made.share is not None and made.kept is not None:
            own = (~batch.swapped if config.truth else torch.ones_like(batch.swapped))[:, None, None, None]
            true = batch.true if config.truth else batch.target
            losses["keep"] = keep_loss(made.share, made.kept, true, own & (self.network.seen > 0))
        if config.shape and made.heard is not None:
            with autocast(self.data.device):
                read = self.mouth_head(made.heard.flatten(1))
            losses["shape"] = F.smooth_l1_loss(read.float(), batch.mouth, beta=0.1)

    def _oppose(self, frames: Tensor, batch: Batch, progress: float, losses: dict[str, Tensor]) -> None:
        """Take the discriminator's step, if it is in play, and add D, L_Adv and L_wFM to `losses`."""
        config, device = self.settings, self.data.device
        if not self.adversity(progress):
            return
        true = batch.true if config.truth else batch.target
        with autocast(device):
            losses["D"] = critic_loss(self.critic(frames.detach()), self.critic(true))
        self.critic_adam.zero_grad(set_to_none=True)
        losses["D"].backward()
        self.critic_adam.step()
        self.critic.requires_grad_(False)
        with autocast(device):
            judged = self.critic(frames)
            with torch.no_grad():
                wanted = self.critic(true)
        self.critic.requires_grad_(True)
        losses["L_Adv"] = adversarial_loss(judged)
        losses["L_wFM"] = weak_feature_loss(judged, wanted, config.feature_start)

    def _consult(self, frames: Tensor, batch: Batch, expertise: float, losses: dict[str, Tensor]) -> None:
        """Add L_Id and L_Sync, of the experts that there are and in play, to `losses`."""
        config, device = self.settings, self.data.device
        if expertise and config.identity and self.identity_expert is not None:
            face = aligned(frames, self.identity_expert.config.size, jitter=1.0)
            with autocast(device):
                vectors = self.identity_expert(face.contiguous(memory_format=torch.channels_last))
            losses["L_Id"] = identity_loss(vectors, batch.identity)
        if expertise and config.sync and self.sync_expert is not None and len(batch.sync):
            spoken = frames[config.singles :].unflatten(0, (-1, syncnet.FRAMES))
            with autocast(device):
                probability = self.sync_expert(spoken, batch.sync)
            losses["L_Sync"] = sync_loss(probability, config.log_sync)

    def _end(self, number: int, progress: float, pictures: int) -> int:
        """Return the steps of the whole schedule as far as step `number`, of so many pictures, can tell."""
        if self.until is None:
            left = self.settings.images - int(self.clock[1])
            return number + 1 - (-max(left, 0) // pictures)
        return steps_in_all(number + 1, 1.0 if time.time() > self.until else progress)

    def tensors(self) -> dict[str, Tensor]:
        parts = {"network": self.network, "critic": self.critic, "mouth_head": self.mouth_head, "average": self.average}
        tensors = tensors_of(**parts, adam=self.adam, critic_adam=self.critic_adam)
        return tensors | {"clock": self.clock} | self.data.order

    def averaged(self) -> Any:
        """Return a copy of the network with the averaged weights, on the same device."""
        network = self.build()
        network.load_state_dict(self.average.tensors(), strict=False)
        return network.to(self.data.device, memory_format=torch.channels_last).eval()

    @torch.no_grad()
    def sheet(self, path: Path) -> None:
        """Write target, reference, truth and picture of twelve training rows, side by side."""
        batch, network = self.draw(1), self.averaged()  # of `alternate` the first step that swaps
        rows = [*range(min(6, self.settings.singles)), *range(len(batch.target))[-6:]]
        some = Batch(*(t[rows] for t in batch[:-1]), batch.sync)
        with autocast(self.data.device):
            made = self.make(network, some).frames
        write_sheet(path, [some.target, some.reference, some.true, made])

    def checkpoint(self, run: Path, step: int) -> None:
        """Write the averaged weights and what they were trained on as run/FAMILY.safetensors."""
        store.save(
            run / f"{self.family}.safetensors",
            self.family,
            self.averaged(),
            self.network_config,
            training=asdict(self.settings),
            images=self.before.get("images", 0) + int(self.clock[1]),
            seconds=round(self.before.get("seconds", 0.0) + float(self.clock[0]), 1),
            clips=self.data.clips,
            against=self.against,
            **({"terms": self.terms} if self.terms else {}),
        )


def write_sheet(path: Path, columns: list[Tensor]) -> None:
    """Write pictures as a grid: one column per tensor (N, 3, S, S) in [0, 1], one row per picture."""
    rows = torch.cat([torch.cat(list(t.float().clamp(0, 1)), 1) for t in columns], 2)
    write_picture(path, (rows * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def train_generator(recipe: SwapRecipe, run: Path) -> int:
    """Train, or go on, in the folder `run`; return the steps taken in all."""
    reached = loop.train(recipe, run, save_every=120, sheet_every=300)
    told = f"{recipe.family}: {reached} steps, {int(recipe.clock[1])} images, {recipe.data.clips} clips"
    if missing := [name for name in expert_losses(recipe.settings) if name not in recipe.against]:
        told += f", without {' and '.join(missing)}, for want of a good expert"
    print(told, flush=True)
    return reached


def open_swaps(data: Path, speech: Path | None, clips: int, run: Path) -> Swaps:
    """Return the clips and stills of a folder in which drawing may go on, as soon as there are twice `clips`.

    After two minutes it takes what there is, and at once what the run in the folder `run` had; InputError where that is
    nothing.
    """
    torch.backends.cudnn.benchmark = True
    swaps = Swaps(data, speech, "cuda" if torch.cuda.is_available() else "cpu", run=run)
    wait_for(swaps, lambda d: d.clips >= 2 * clips and "still_person" in d, 120)
    for needed in ("clip_own", "still_person"):
        swaps[needed]  # raises
    return swaps


def configure_generator(parser: argparse.ArgumentParser, preset: Config) -> None:
    """Add the options of a command that trains one generator on data and experts that are there."""
    parser.add_argument("--data", type=Path, required=True, help="made by: python -m edgetalk.train.swap")
    parser.add_argument("--speech", type=Path, help="what a drawn set speaks: edgetalk.train.swap speech")
    parser.add_argument("--experts", type=Path, required=True, help="folder of identity-a and sync-a")
    parser.add_argument(
        "-o", "--output", dest="out", type=Path, required=True, help="folder of the run; the same command resumes"
    )
    parser.add_argument("--begun", type=Path, help="checkpoint to begin with, of the same width")
    parser.add_argument("--compile", action="store_true", help="compile first, two minutes; then faster")
    parser.add_argument("--until", type=float, help="end at this time (seconds since 1970), not after --images")
    add_fields(parser, Config, without=["skips", "hidden"], presets={"default": preset})


def run_generator(args: argparse.Namespace, kind: type[SwapRecipe], preset: Config) -> None:
    """Train what those options ask for; fields of the schedule that they leave out are those of `preset`."""
    config = chosen(args, preset)
    check_bounds(args, {}, ["until"])
    swaps = open_swaps(args.data, args.speech, config.clips, args.out)
    train_generator(kind(config, swaps, args.experts, args.until, args.begun, args.compile), args.out)
    print(f"{args.out / kind.family}.safetensors: see {args.out / 'index.html'}")
