"""How AMNet is trained (§III–IV): what one step does, its configuration, its checkpoint, and `edgetalk train amnet`.

The defaults are the paper's: λ_G 1, λ_C 100, λ_Adv 1, Adam (0.5, 0.999) at 2e-4, batches of 16, 110 epochs of 20,000
frames, 256×256. Not in the paper, and named with the results: L_Adv is least squares (Eq. 8 with `--adversary eq8`),
the learning rate falls linearly over the second half, a share of the source pictures is the person's most neutral
frame, weights are averaged, audio is augmented.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgetalk.errors import InputError
from edgetalk.picture import write_picture
from edgetalk.train import loop, torchrun
from edgetalk.train.lite.student import Teacher, inherit, take_fuser
from edgetalk.train.networks.amnet import VARIANTS, AMNet, Architecture, as_bytes
from edgetalk.train.networks.blocks import scaled
from edgetalk.train.networks.checkpoint import Checkpoint, load_checkpoint, read_architecture, save_checkpoint
from edgetalk.train.networks.patchgan import PatchGAN
from edgetalk.train.networks.tensors import digest
from edgetalk.train.options import add_fields, check_bounds
from edgetalk.train.precision import autocast
from edgetalk.train.rates import linear, risen, set_rate
from edgetalk.train.scores.measures import landmark_error, ssim
from edgetalk.train.state import Average, tensors_of
from edgetalk.train.stretch import steps_in_all
from edgetalk.train.terms import joined

from .data import Batch, Footage
from .losses import adversarial_loss, content_loss, discriminator_loss, geometry_loss, region_weight

SMALLEST = 32
"""Side of the smallest picture that the discriminator still has a judgement of."""
RUNS = 16, 32
"""Stretches of so many frames that one step hears where φ learns alone: neighbours share most of what is heard."""
HELD_OUT = 48
"""Frames on which a training is measured while it goes on."""
KEPT = 60
"""Persons at most whose pictures a checkpoint keeps, for avatars and calibration; one of more people takes any face."""


@dataclass(frozen=True)
class Config:
    """One training schedule. Only these fields decide what the weights become, given the data."""

    variant: str = "amnet"
    """The network: amnet, amnet-k3 (the Geometric Controller's kernels are 3×3), amnet-adain (it normalises) or
    amnet-lite."""
    size: int = 256
    """Height and width of the pictures."""
    width: float = 1.0
    """Factor of the channels of Reenactor and discriminator; 1 is the paper's, less is for comparisons on few cores."""
    batch: int = 16
    """Pictures of one step, over all GPUs."""
    images: int = 110 * 20_000
    """Training pictures of the whole schedule."""
    clock: float = 0.0
    """Minutes of the whole schedule in place of `images`, for machines that are rented by the minute; 0 counts images.
    What such a run becomes depends on the machine's speed."""
    geometry_first: int = 0
    """Steps before the schedule that train φ alone, on the landmarks of 16 stretches of 32 frames: they need no
    pictures. The learning rate falls to 0 over the second half of them, too."""
    heard: str = ""
    """Data set that those steps take in place of `data`; it may be one without pictures, of hours of speech."""
    lr: float = 2e-4
    """Adam's learning rate in the first half; it falls to 0 over the second."""
    warm: int = 0
    """Steps over which the learning rate rises, so that Adam knows its gradients before it takes whole steps."""
    geometry: float = 1.0
    """λ_G of Eq. 5."""
    content: float = 100.0
    """λ_C of Eq. 5."""
    squared: float = 0.0
    """Adds so many times the squared error to L_C's absolute one (which is the paper's): what is far off then weighs
    more, such as thin spectacles that the median leaves out, and batches agree better on where to go."""
    adversarial: float = 1.0
    """λ_Adv of Eq. 5; 0 trains without a discriminator."""
    adversarial_from: float = 0.0
    """Share of the schedule before the discriminator joins; it costs half of each step, and pictures come first."""
    adversary: str = "lsgan"
    """"lsgan", or "eq8": the paper's difference of means, with spectral normalisation."""
    conditional: bool = False
    """Whether the discriminator sees the source picture too."""
    mouth: float = 1.0
    """Weight of the mouth's pixels in L_C; 1 is the paper's plain mean."""
    eyes: float = 1.0
    """Weight of the eyes' pixels in L_C."""
    neutral: float = 0.5
    """Share of source pictures that are the person's most neutral frame instead of a random one."""
    rare: float = 0.0
    """Share of the pictures drawn for eyes that close, winks, or mouths that open wide, which few frames show."""
    versions: int = 8
    """Versions of each clip's sound: the clean one and augmented ones."""
    average: float = 0.999
    """Decay of the averaged weights, which are what a checkpoint holds."""
    mixed: bool = True
    """Compute in bfloat16 where the hardware has it: two to three times as fast."""
    seed: int = 0
    """Another seed, another course of chance."""
    start: str = ""
    """Checkpoint whose weights the run starts from, such as one of half the size; empty starts from random ones, or
    from the teacher's."""
    fuser: str = ""
    """What becomes of φ and the landmarks: "learn", or "hold" for those of `teacher` or else of `start`, so that f_Geo
    says what it said while the pictures are still poor; empty holds them where there is a teacher."""
    architecture: str = ""
    """File of an architecture of the Reenactor, as train/lite/search.py writes them; empty is the variant's own."""
    teacher: str = ""
    """Checkpoint of a larger AMNet whose channels that weigh most the run starts from and whose pictures are targets
    too (distillation); empty has the true frames alone."""
    teaching: float = 0.5
    """Share of the teacher's pictures in L_C; 0 takes its weights alone, for machines that could hardly draw them."""

    @property
    def steps(self) -> int:
        return math.ceil(self.images / self.batch)


def holds(config: Config) -> bool:
    """Say whether φ and the landmarks stay what they are."""
    return config.fuser == "hold" or (config.fuser == "" and config.teacher != "")


def checked(config: Config) -> Architecture:
    """Return the architecture of a schedule's network; InputError where the schedule cannot be."""
    for name, known in (("variant", tuple(VARIANTS)), ("adversary", ("lsgan", "eq8"))):
        if (got := getattr(config, name)) not in known:
            raise InputError(f"{name}: got {got!r}, expected one of {', '.join(known)}")
    shares = ("adversarial_from", "neutral", "rare", "average", "teaching")
    weights = ("geometry", "content", "squared", "adversarial", "clock", "geometry_first", "warm")
    bounds = dict.fromkeys(shares, (0, 1)) | dict.fromkeys(weights, (0, math.inf))
    bounds |= dict.fromkeys(("batch", "images", "versions"), (1, math.inf)) | {"seed": (0, 2**32 - 1)}
    check_bounds(config, bounds, ("lr", "mouth", "eyes"))
    if not 0 < config.width <= 4 or (config.architecture and config.width != 1):
        raise InputError(f"width: got {config.width:g}, expected over 0 and at most 4, and 1 beside --architecture")
    architecture = read_architecture(config.architecture) if config.architecture else VARIANTS[config.variant]
    if config.width != 1:
        architecture = architecture.scaled(config.width)
    if config.size < SMALLEST or config.size % architecture.reduction:
        raise InputError(
            f"size: got {config.size}, expected a multiple of {architecture.reduction}, by which this architecture "
            f"reduces a picture, of {SMALLEST} or more; the bundled one was trained at --size 256"
        )
    if config.fuser not in ("", "learn", "hold") or (holds(config) and not config.start + config.teacher):
        raise InputError(f'fuser: got {config.fuser!r}, expected "learn", or "hold" with a start or teacher to keep')
    if holds(config) and config.geometry_first:
        raise InputError("geometry_first: it trains the fuser, which is held; leave it out or add --fuser learn")
    if config.heard and not config.geometry_first:
        raise InputError(
            f"heard: got {config.heard}, which the steps of --geometry-first hear; add some, or leave it out"
        )
    return architecture


def described(config: Config, data: str) -> dict[str, Any]:
    """Return what names a run on the data set called `data`: plain values, paths without their folders."""
    settings = asdict(config) | {"data": data, "architecture": checked(config).plain()}
    return settings | {name: Path(getattr(config, name)).name for name in ("heard", "start", "teacher")}


class AMNetRecipe:
    """One schedule of AMNet on one data set; see Recipe. Raises InputError where the schedule cannot be."""

    shown = "source, truth, generated"

    def __init__(self, config: Config, footage: Footage, compiled: bool = False):
        architecture = checked(config)
        torch.manual_seed(config.seed)
        self.settings, self.footage = config, footage
        processes = torchrun.worker()[1]
        if config.batch % processes:
            raise InputError(
                f"batch: got {config.batch} for {processes} processes, expected a multiple; change --batch or "
                "torchrun's --nproc-per-node"
            )
        self.share, self.runs = config.batch // processes, math.ceil(RUNS[0] / processes)
        self._steps: int | None = None  # of a schedule by the clock, as far as its last step could tell
        start, teacher = (load_checkpoint(path) if path else None for path in (config.start, config.teacher))
        self.heard = self._other_speech() or footage
        self._describe({"start": start, "teacher": teacher})
        self.network = AMNet(config.variant, (footage.spec.window, footage.spec.features), architecture)
        self._begin(start, teacher)
        self.teacher = Teacher(teacher, footage) if teacher and config.teaching > 0 else None
        self._make_optimisers()
        self.elapsed = torch.zeros((), dtype=torch.float64)  # seconds in steps, over all slices
        self._generate: Any = torch.compile(self.network) if compiled else self.network
        if compiled:
            self.critic.judge = torch.compile(self.critic.judge)
        self.autocast = partial(autocast, footage.device, config.mixed)

    def _other_speech(self) -> Footage | None:
        """Return what the fuser hears in place of the pictures' own sound; None where nothing else was given."""
        config, footage = self.settings, self.footage
        if not config.heard:
            return None
        return Footage.load(
            config.heard,
            pictures=False,
            versions=config.versions,
            device=str(footage.device),
            seed=config.seed,
            spec=footage.spec,
        )

    def _describe(self, given: dict[str, Checkpoint | None]) -> None:
        """Note what the run is known by, and under what terms its data and the checkpoints given to it stand."""
        config, footage = self.settings, self.footage
        read = {name: checkpoint for name, checkpoint in given.items() if checkpoint}
        weights = {f"{name}_weights": digest(checkpoint.network) for name, checkpoint in read.items()}
        self.config = described(config, footage.name) | weights
        self.defaults = asdict(Config()) | weights  # before, only names were noted
        self.terms = joined(
            [footage.terms, self.heard.terms, *(checkpoint.training.get("terms", {}) for checkpoint in read.values())]
        )
        self.digest = footage.digest + (f" and {self.heard.digest}" if config.heard else "")

    def _begin(self, start: Checkpoint | None, teacher: Checkpoint | None) -> None:
        """Give the network its first weights, and move it to where it is trained."""
        hold = holds(self.settings)
        if start:
            self._begin_from(start)
        elif teacher:
            inherit(self.network.reenactor, teacher.network.reenactor)
        if teacher and (hold or not start):
            take_fuser(self.network, teacher.network)
        self.network = self.network.to(self.footage.device, memory_format=torch.channels_last)
        if hold:
            self.network.fuser.requires_grad_(False)
            self.network.landmark_layer.requires_grad_(False)

    def _make_optimisers(self) -> None:
        """Make the discriminator, the average of the weights, and what moves both networks."""
        config, device = self.settings, self.footage.device
        seen, judged = 6 if config.conditional else 3, scaled(64, config.width)
        self.critic: Any = PatchGAN(seen, judged, spectral=config.adversary == "eq8").to(device)
        self.average = Average(self.network, config.average)
        adam = dict(lr=config.lr, betas=(0.5, 0.999), fused=device.type == "cuda")
        self.adam = torch.optim.Adam([p for p in self.network.parameters() if p.requires_grad], **adam)
        self.critic_adam = torch.optim.Adam(self.critic.parameters(), **adam)

    def _begin_from(self, start: Checkpoint) -> None:
        """Take the weights of `start`; InputError where they are of another network."""
        if start.audio != self.footage.spec:
            raise InputError(
                f"start: got a network that hears {start.audio}, expected {self.footage.spec}, as {self.footage.name}"
            )
        try:
            self.network.load_state_dict(start.network.state_dict())
        except RuntimeError as error:
            raise InputError(
                f"start: {self.settings.start} is of another architecture than this run's; give it the --variant, "
                "--width or --architecture that the run there had"
            ) from error

    @property
    def steps(self) -> int:
        """Steps of the whole schedule; 0 where no step was taken yet and a run by the clock that is resumed is over."""
        if not self.settings.clock:
            return self.settings.geometry_first + self.settings.steps
        if self._steps is None:
            return 10**9 if self._progress(0) < 1 else 0
        return self._steps

    def _progress(self, number: int) -> float:
        """Return how much of the schedule is behind this step, 0 to 1."""
        if self.settings.clock:
            return min(1.0, float(self.elapsed) / (60 * self.settings.clock))
        return max(0, number - self.settings.geometry_first) / self.settings.steps

    def step(self, number: int) -> dict[str, Tensor]:
        start = time.monotonic()
        first = number < self.settings.geometry_first
        losses = self._geometry_step(number) if first else self._picture_step(number)
        if self.settings.clock and not first:
            self.elapsed += min(20.0, torchrun.agreed(time.monotonic() - start))  # compilation is not training
            self._steps = self._end(number)
        return losses

    def _end(self, number: int) -> int:
        """Return the steps of the whole schedule as far as the clock can tell after step `number`."""
        before = self.settings.geometry_first
        return before + steps_in_all(number + 1 - before, self._progress(number))

    def _geometry_step(self, number: int) -> dict[str, Tensor]:
        """Train φ on landmarks alone (Eq. 6)."""
        rng = torchrun.generator(self.settings.seed, number)
        footage = self.heard
        index, version = footage.draw_runs(footage.train, self.runs, RUNS[1], rng)
        self._set_rate(number, number / self.settings.geometry_first)
        with self.autocast():
            heard = footage.overlapping(index, version)
            f_geo = self.network.fuser.overlapping(*heard, footage.pose[index], footage.blink[index])
            landmarks = self.network.landmarks(f_geo)
        loss = geometry_loss(landmarks, footage.landmarks[index])
        self.adam.zero_grad()
        loss.backward()
        torchrun.average_gradients(self.network.parameters())
        self.adam.step()
        self.average.update(number)
        return {"L_G": loss}

    def _set_rate(self, number: int, progress: float) -> None:
        """Set the rate of the step of this number among its like: it rises, stays, and falls over the second half."""
        config = self.settings
        for adam in (self.adam, self.critic_adam):
            set_rate(adam, config.lr * risen(number, config.warm) * linear(progress))

    def _picture_step(self, number: int) -> dict[str, Tensor]:
        """Train everything (Eq. 5)."""
        config, progress = self.settings, self._progress(number)
        rng = torchrun.generator(config.seed, number)
        batch = self.footage.draw(self.footage.train, self.share, rng, config.neutral, config.rare)
        self._set_rate(number - config.geometry_first, progress)
        with self.autocast():
            made, landmarks = self._generate(batch.source, batch.mel, batch.pose, batch.blink)
        losses: dict[str, Tensor] = {}
        opposed = config.adversarial > 0 and progress >= config.adversarial_from
        if opposed:
            self.critic_adam.zero_grad()
            with self.autocast():
                losses["D"] = discriminator_loss(config.adversary, self.critic, made, batch.true, batch.source)
            losses["D"].backward()
            torchrun.average_gradients(self.critic.parameters())
            self.critic_adam.step()
        stress = None
        if (config.mouth, config.eyes) != (1.0, 1.0):
            stress = region_weight(batch.landmarks, config.size, config.mouth, config.eyes)
        losses["L_C"] = content = content_loss(made, batch.true, stress, config.squared)
        if self.teacher is not None:
            with self.autocast():
                shown = self.teacher.draw(batch.index)
            losses["L_T"] = content_loss(made, shown, stress, config.squared)
            content = torch.lerp(content, losses["L_T"], config.teaching)
        losses["L_G"] = geometry_loss(landmarks, batch.landmarks)
        total = config.content * content + config.geometry * losses["L_G"]
        if opposed:
            self.critic.requires_grad_(False)
            with self.autocast():
                losses["L_Adv"] = adversarial_loss(config.adversary, self.critic, made, batch.source)
            total = total + config.adversarial * losses["L_Adv"]
        self.adam.zero_grad()
        total.backward()
        self.critic.requires_grad_(True)
        torchrun.average_gradients(self.network.parameters())
        self.adam.step()
        self.average.update(number - config.geometry_first)  # or its first weights would stay long in what is new now
        return losses

    def tensors(self) -> dict[str, Tensor]:
        parts = {"network": self.network, "critic": self.critic, "average": self.average}
        clock = {"elapsed": self.elapsed} if self.settings.clock else {}
        return tensors_of(**parts, adam=self.adam, critic_adam=self.critic_adam) | clock

    def averaged(self) -> AMNet:
        """Return a copy of the network with the averaged weights, on the same device."""
        spec, architecture = self.footage.spec, self.network.reenactor.architecture
        network = AMNet(self.settings.variant, (spec.window, spec.features), architecture)
        network.load_state_dict(self.average.tensors(), strict=False)
        return network.to(self.footage.device).eval()

    @torch.no_grad()
    def sheet(self, path: Path) -> dict[str, float]:
        """Write source, truth and picture of two held-out frames of up to six persons, side by side.

        Returns the SSIM of HELD_OUT such frames, and how far their landmarks are off in pixels of a 256 frame.
        """
        network, similar, away = self.averaged(), [], []
        for parts in zip(*(tensor.split(12) for tensor in self.footage.examples(HELD_OUT)), strict=True):
            some = Batch(*parts)
            with self.autocast():
                made, landmarks = network(some.source, some.mel, some.pose, some.blink)
            similar.append(ssim((made.float() + 1) / 2, (some.true + 1) / 2))
            away.append(landmark_error(landmarks.float(), some.landmarks))
        batch = self.footage.examples(12)
        with self.autocast():
            made = network(batch.source, batch.mel, batch.pose, batch.blink)[0]
        rows = [torch.cat(list(t.float()), 2) for t in (batch.source, batch.true, made)]
        write_picture(path, as_bytes(torch.cat(rows, 1)).permute(1, 2, 0).cpu().numpy())
        means = (float(torch.cat(values).mean()) for values in (similar, away))
        return dict(zip(("held-out SSIM", "held-out landmarks px"), means, strict=True))

    def checkpoint(self, run: Path, step: int) -> None:
        """Write `save_checkpoint`'s file as run/amnet.safetensors."""
        seen = max(0, step - self.settings.geometry_first) * self.settings.batch
        self.save_checkpoint(run / "amnet.safetensors", images_seen=seen)

    def save_checkpoint(self, path: Path, **record: Any) -> None:
        """Write the averaged weights in half precision, the persons' neutral pictures and what was trained."""
        turned = self.footage.pose[self.footage.train.to(self.footage.device)]
        limits = {"pose": [round(angle, 3) for angle in turned.abs().amax(0).tolist()]}
        terms = {"terms": self.terms} if self.terms else {}
        tensors = {name: tensor.half() for name, tensor in self.average.tensors().items()}
        pictures, trained = self.footage.neutral_pictures(), self.footage.trained
        count = min(KEPT, len(trained))
        kept = [trained[i * len(trained) // count] for i in range(count)]
        for number in kept:
            tensors[f"source.{self.footage.persons[number]}"] = pictures[number]
        save_checkpoint(
            path,
            tensors,
            variant=self.settings.variant,
            architecture=self.network.reenactor.architecture.plain(),
            size=self.settings.size,
            audio=asdict(self.footage.spec),
            persons=[self.footage.persons[number] for number in kept],
            training=self.config | {"limits": limits, "people": len(trained)} | terms | record,
        )


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `edgetalk train amnet`: one per field of Config, and where to read and write."""
    parser.add_argument("--data", type=Path, required=True, help="folder of: edgetalk data announcers, or filmed")
    parser.add_argument(
        "-o", "--output", dest="out", type=Path, required=True, help="folder of the run; the same command resumes it"
    )
    parser.add_argument("--minutes", type=float, help="stop after so many minutes; call again to go on")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--compile", action="store_true", help="compile the network first: minutes, then faster")
    add_fields(parser, Config)


def run(args: argparse.Namespace) -> None:
    """Train, or go on, and write the checkpoint OUT/amnet.safetensors."""
    config = Config(**{field.name: getattr(args, field.name) for field in fields(Config)})
    checked(config)  # before the data, which takes a while to load
    check_bounds(args, {}, ["minutes"])
    settings = dict(size=config.size, versions=config.versions, device=args.device, seed=config.seed)
    with torchrun.first_before_others():  # which find the pictures decoded
        footage = Footage.load(args.data, **settings)
    recipe = AMNetRecipe(config, footage, args.compile)
    reached = loop.train(recipe, args.out, minutes=args.minutes)
    if torchrun.worker()[0] == 0 and not reached:  # and no file
        print(f"{args.out}: no step in {args.minutes:g} minutes; give the same command with more --minutes")
    elif torchrun.worker()[0] == 0:
        whole = max(reached, recipe.steps)
        print(f"{args.out / 'amnet.safetensors'}: {reached} of {whole} steps; see {args.out / 'index.html'}")
