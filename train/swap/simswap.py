"""SimSwap (Chen et al., 2020) on our drawn faces at 96×96: the swapping half of the cascade.

The data, extractor, trainer, truth and width of WavSyncSwap, and its λ's: SimSwap's own (identity 10, matching 10) gave
no faces within a short schedule. Leaves out the gradient penalty: the discriminator is WavSyncSwap's.
"""

from __future__ import annotations

import argparse
from typing import Any

from edgetalk.train.networks.simswap import SimSwap

from .recipe import Batch, Made, SwapRecipe, configure_generator, run_generator
from .schedule import Config

PRESET = Config(skips=(), hidden=(), matte=False, clips=0, sync=0.0, structure=0.0, mouth=1.0, shape=0.0)


class SimSwapRecipe(SwapRecipe):
    """One schedule of SimSwap; see SwapRecipe."""

    family = "simswap"

    def arrangement(self) -> dict[str, Any]:
        return {"width": self.settings.width}

    def build(self) -> SimSwap:
        return SimSwap(**self.network_config)

    def make(self, network: SimSwap, batch: Batch) -> Made:
        return Made(network(batch.target, batch.identity))


def configure(parser: argparse.ArgumentParser) -> None:
    configure_generator(parser, PRESET)


def run(args: argparse.Namespace) -> None:
    run_generator(args, SimSwapRecipe, PRESET)
