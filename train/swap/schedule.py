"""The schedules by which generators of swapped or spoken faces are trained (§2.4), and which of them can be.

Preset `paper` is Eq. 5 as printed. Preset `default` adds the exact truth of a swap, which drawn faces have and filmed
ones have not, a warm-up on pixels, skips conditioned on the identity and a reference other than the current frame.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

from edgetalk.errors import InputError
from edgetalk.train.networks import syncnet
from edgetalk.train.networks.wavsyncswap import Config as NetworkConfig
from edgetalk.train.options import check_bounds

from .data import CLIP_FRAMES, SIZE


@dataclass(frozen=True)
class Config:
    """One training schedule; the defaults are preset `default`."""

    width: float = 0.4375
    """Factor of the network's channels; 1 is the paper's."""
    skips: tuple[int, ...] = (64, 48, 32)
    hidden: tuple[float, ...] = (0.36, 0.42)
    """Half-axes of the half-ellipse of the target that is hidden, none for all of its lower half
    (NetworkConfig.hidden). 96 of 100 pixels of the lower faces of drawn training films lie within this one; what is
    seen of the rest are cheeks beside the ears."""
    matte: bool = True
    """Mix the target's background and hair into the frame (NetworkConfig.matte)."""
    keep: float = 2.0
    """Weight of painting over a target that is right already, where there is a matte."""
    images: int = 1_000_000
    """Training pictures of the whole schedule. A run that is resumed with more of them stretches its schedule."""
    singles: int = 128
    """Single frames per step, half with the target's own identity, half swapped; they carry pixels and identity."""
    clips: int = 20
    """Clips of five consecutive frames per step; they carry the sync loss. The bundled network had 4 and 24 singles."""
    swaps: bool = True
    """Half of the rows are of somebody else's face; without, all keep the target's."""
    truth: bool = True
    """Compare swapped frames with the exact drawing of the swap (no filmed data has it)."""
    alternate: bool = False
    """Whole steps of one kind, same identity and swapped in turn (§2.4), instead of half and half."""
    pixel: float = 10.0
    """λ_1."""
    structure: float = 2.0
    """Weight of one minus the structural similarity, where L_L1 is."""
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
    """Adam's learning rate of the generator where it is highest; it falls from there on."""
    critic_lr: float = 2e-4
    """That of the discriminator."""
    average: float = 0.999
    """Decay of the averaged weights, which are what a checkpoint holds."""
    seed: int = 0
    """Another seed, another course of chance."""


PRESETS = {
    "default": Config(),
    # λs were never published; these come from a short search at width ¼. SimSwap's (10, 10, 1) failed.
    "paper": Config(skips=(), hidden=(), matte=False, singles=0, clips=32, truth=False, alternate=True, identity=1.5,
                    sync=0.3, feature=4.0, adversarial=0.3, log_sync=True, structure=0.0, mouth=1.0, shape=0.0,
                    warm=0.0, adversary_from=0.0, far=0),
}  # fmt: skip


def checked(config: Config) -> Config:
    """Return a schedule that can be; InputError, which names the field, where it cannot."""
    anything, layers = math.inf, 4  # layers of a PatchGAN in front of its map of scores
    bounds = {"images": (1, anything), "singles": (0, anything), "clips": (0, anything), "far": (0, CLIP_FRAMES // 2),
              "feature_start": (1, layers), "warm": (0, 1), "adversary_from": (0, 1), "average": (0, 1),
              "seed": (0, 2**32 - 1)}  # fmt: skip
    weights = ("keep", "shape", "pixel", "structure", "identity", "sync", "feature", "adversarial")
    bounds |= {name: (0, anything) for name in weights}
    why = {"far": f", half of a clip's {CLIP_FRAMES} frames at most", "feature_start": ", a layer of the discriminator"}
    check_bounds(config, bounds, ("width", "lr", "critic_lr", "mouth"), why)
    alone = config.singles > 0 and (config.warm > 0 or not config.clips)  # some steps have no clips
    if (config.singles if alone else config.singles + syncnet.FRAMES * config.clips) < 2:  # batch norm wants two
        raise InputError(
            f"singles and clips: got {config.singles} and {config.clips}, expected two pictures in every step; give "
            "more --singles, or --clips of five frames each"
        )
    return config


def expert_losses(config: Config) -> list[str]:
    """Return the losses of a schedule that frozen experts give."""
    weights = {"L_Id": config.identity, "L_Sync": config.sync * config.clips}
    return [name for name, weight in weights.items() if weight]


def of_films(config: Config, folder: Path) -> Config:
    """Return a schedule for the filmed people in `folder`; InputError where it learns from what they lack."""
    cures = {"truth": "--no-truth"} if config.truth and config.swaps else {}
    cures |= {"shape": "--shape 0"} if config.shape else {}
    if cures:
        raise InputError(
            f"{folder}: holds filmed people, and the schedule's {' and '.join(cures)} would learn from drawings, which "
            f"they do not have; give {' '.join(cures.values())}, or --preset paper to wavsyncswap"
        )
    return config


def read_schedule(path: Path) -> Config:
    """Return the schedule of a JSON file of Config's fields; InputError where it holds none."""
    try:
        told = json.loads(path.read_text())
        lists = {"skips": tuple(map(int, told["skips"])), "hidden": tuple(map(float, told["hidden"]))}
        config = Config(**told | lists)
        for field in fields(Config):
            kind = type(field.default)
            if not isinstance(getattr(config, field.name), int | float if kind is float else kind):
                raise TypeError(f"{field.name} is no {kind.__name__}")
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path} holds no schedule ({error}), expected JSON of its fields, as in the config.json that "
            "`edgetalk train wavsyncswap` writes"
        ) from error
    return config


def arrangement(config: Config) -> NetworkConfig:
    """Return how a WavSyncSwap of a schedule is arranged."""
    return NetworkConfig(SIZE, config.width, skips=config.skips, hidden=config.hidden, matte=config.matte)


def chosen(args: argparse.Namespace, preset: Config) -> Config:
    """Return `preset` with what the options of add_fields say otherwise; InputError where that cannot be."""
    told = {f.name: v for f in fields(Config) if (v := getattr(args, f.name, None)) is not None}
    return checked(replace(preset, **told))
