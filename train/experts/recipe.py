"""What the recipes of identity and lip-sync experts share: a step, what a resumed run needs, a checkpoint."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgetalk.train import torchrun
from edgetalk.train.networks import store
from edgetalk.train.rates import cosine, set_rate
from edgetalk.train.state import tensors_of
from edgetalk.train.stretch import Stretch
from edgetalk.train.swap.data import Swaps

LOOK = 30.0
"""Seconds between two looks for what has been drawn meanwhile."""


def rate(peak: float, progress: float) -> float:
    """Return a learning rate: linear to `peak` in the first 5 % of the time, then half a cosine down to a fiftieth."""
    share = progress / 0.05 if progress < 0.05 else cosine((progress - 0.05) / 0.95, floor=0.02)
    return peak * max(share, 0.02)


class ExpertRecipe:
    """One training of an expert on a growing set of drawn faces; see Recipe. A kind of expert adds its losses.

    What a step does is a function of the seed, its number, the share of the stretch that is over and the faces there
    are. InputError where torchrun has started several processes.
    """

    family: str
    """A family of networks/store.py."""
    shown: str
    peak: float
    """The highest learning rate."""
    decay: float
    """Of AdamW's weights."""
    growing: float
    """Share of the stretch in which what is drawn meanwhile is taken in."""

    def __init__(
        self,
        data: Swaps,
        stretch: Stretch,
        seed: int,
        network: nn.Module,
        head: nn.Module,
        network_config: Any,
        config: dict[str, Any],
    ) -> None:
        torchrun.refuse_several()
        self.data, self.stretch, self.seed, self.network_config = data, stretch, seed, network_config
        self.terms = data.terms
        """Of the filmed people that it learns from; empty of drawn ones."""
        self.digest = data.digest
        self.defaults: dict[str, Any] = {}
        self.config = {"family": self.family, "seed": seed, **config}
        self.network = network.to(data.device, memory_format=torch.channels_last)
        self.head = head.to(data.device)  # thrown away in the end
        self.weights = [*self.network.parameters(), *self.head.parameters()]
        fused = data.device.startswith("cuda")
        self.optimiser = torch.optim.AdamW(self.weights, self.peak, weight_decay=self.decay, fused=fused)
        self.looked = time.monotonic()

    @property
    def steps(self) -> int:
        return self.stretch.steps

    @property
    def record(self) -> dict[str, Any]:
        """What a checkpoint says of its training."""
        seconds, steps = self.stretch.spent.tolist()
        terms = {"terms": self.terms} if self.terms else {}
        return {"seed": self.seed, "seconds": round(seconds, 1), "steps": int(steps), **terms}

    def losses(self, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch and what it is made of, by name."""
        raise NotImplementedError

    def step(self, number: int) -> dict[str, Tensor]:
        torch.manual_seed(torchrun.generator(self.seed, number).initial_seed())
        self.stretch.begin()
        progress = self.stretch.progress
        self._look(progress)
        set_rate(self.optimiser, rate(self.peak, progress))
        self.network.train()
        total, named = self.losses(progress)
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 5.0)
        self.optimiser.step()
        self.stretch.end()
        return named

    def _look(self, progress: float) -> None:
        """Take in what was drawn meanwhile, now and then."""
        if progress < self.growing and time.monotonic() - self.looked > LOOK:
            if new := self.data.refresh():
                print(f"{self.data.folder}: {new} new files", flush=True)
            self.looked = time.monotonic()

    def tensors(self) -> dict[str, Tensor]:
        parts = tensors_of(network=self.network, head=self.head, optimiser=self.optimiser)
        return parts | {"spent": self.stretch.spent} | self.data.order

    def checkpoint(self, run: Path, step: int) -> None:
        """Write run/FAMILY.safetensors, an expert without scores, which nothing is trained against."""
        self.write(run / f"{self.family}.safetensors", {})

    def write(self, path: Path, scores: dict[str, float]) -> None:
        """Write the expert with its held-out `scores`, none where it has not been scored."""
        store.save(path, self.family, self.network, self.network_config, scores=scores, **self.record)
