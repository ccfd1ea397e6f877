"""Wav2Lip (Prajwal et al., 2020) on our drawn faces: the lip-sync half of the cascade.

The data, experts, trainer and width of WavSyncSwap, the losses of Wav2Lip §4.2: L1, the frozen lip-sync expert as
−log P, a GAN, with the published weights 0.9, 0.03 and 0.07. Leaves out its second stage: the GAN comes in half-way.
"""

from __future__ import annotations

import argparse
from typing import Any

from edgetalk.train.networks.wav2lip import Wav2Lip

from .recipe import Batch, Made, SwapRecipe, configure_generator, run_generator
from .schedule import Config

PRESET = Config(skips=(), hidden=(), matte=False, swaps=False, pixel=0.9, identity=0.0, sync=0.03, feature=0.0,
                adversarial=0.07, log_sync=True, structure=0.0, mouth=1.0, shape=0.0)  # fmt: skip


class Wav2LipRecipe(SwapRecipe):
    """One schedule of Wav2Lip; see SwapRecipe."""

    family = "wav2lip"

    def arrangement(self) -> dict[str, Any]:
        return {"width": self.settings.width}

    def build(self) -> Wav2Lip:
        return Wav2Lip(**self.network_config)

    def make(self, network: Wav2Lip, batch: Batch) -> Made:
        return Made(network(batch.target, batch.reference, batch.mel))


def configure(parser: argparse.ArgumentParser) -> None:
    configure_generator(parser, PRESET)


def run(args: argparse.Namespace) -> None:
    run_generator(args, Wav2LipRecipe, PRESET)
