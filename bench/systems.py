"""Every system of AMNet's Table II and WavSyncSwap's Table 3 as a network with the inputs of one frame.

Weights are random: speed and size do not depend on them. Pictures are floats in and out, and what surrounds the
networks (front ends, drawing, finding and pasting faces, video) is left out for all alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgetalk.train.networks.amnet import AMNet
from edgetalk.train.networks.simswap import SimSwap
from edgetalk.train.networks.wav2lip import Wav2Lip
from edgetalk.train.networks.wavsyncswap import WavSyncSwap

from .peers import PEERS

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class System:
    """One row of a table."""

    table: str
    """"II" or "3"."""
    name: str
    millions: float
    """Parameters, counted as the paper counts them."""
    network: nn.Module
    inputs: Inputs
    """Of one frame, in the order of `network.forward`."""
    step: tuple[nn.Module, Inputs] | None = None
    """What is left per frame once the face is prepared, where the network allows that."""
    paper: dict[str, str] = field(default_factory=dict)
    """What the paper gives for it, by column."""


class AMNetStep(nn.Module):
    """Everything behind the appearance of the source."""

    def __init__(self, network: AMNet):
        super().__init__()
        self.network = network

    def forward(self, appearance: Tensor, mel: Tensor, pose: Tensor, blink: Tensor) -> tuple[Tensor, Tensor]:
        f_geo = self.network.fuser(mel, pose, blink)
        return self.network.reenactor.step(appearance, f_geo), self.network.landmarks(f_geo)


class Cascade(nn.Module):
    """Wav2Lip's face of 96, brought to SimSwap's size where that is another, then SimSwap."""

    def __init__(self, lips: Wav2Lip, swap: SimSwap, size: int):
        super().__init__()
        self.lips, self.swap, self.size = lips, swap, size

    def after(self, picture: Tensor, identity: Tensor) -> Tensor:
        if self.size != picture.shape[-1]:
            picture = F.interpolate(picture, (self.size, self.size), mode="bilinear")
        return self.swap(picture, identity)

    def forward(self, target: Tensor, mel: Tensor, identity: Tensor) -> Tensor:
        return self.after(self.lips(target, target, mel), identity)


class CascadeStep(nn.Module):
    """The cascade behind Wav2Lip's face encoder."""

    def __init__(self, cascade: Cascade):
        super().__init__()
        self.cascade = cascade

    def forward(self, *inputs: Tensor) -> Tensor:
        *face, mel, identity = inputs
        return self.cascade.after(self.cascade.lips.step(tuple(face), mel), identity)


class SwapStep(nn.Module):
    """WavSyncSwap behind its face encoder and ID blocks."""

    def __init__(self, network: WavSyncSwap):
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        *face, mel = inputs
        return self.network.step(tuple(face), mel)


def parameters(*networks: nn.Module) -> float:
    """Millions of parameters."""
    return sum(p.numel() for network in networks for p in network.parameters()) / 1e6


def _peers(generator: torch.Generator) -> list[System]:
    told = {
        "Wav2Pix": ("24.771", "29.8", "275.7"),
        "MakeItTalk": ("74.828", "8.7", "65.6"),
        "APB2Face": ("16.696", "8.5", "200.4"),
    }  # AMNet, Table II
    rows = []
    for name, peer in PEERS.items():
        network = peer.network()
        paper = dict(zip(("params", "cpu", "gpu"), told[name], strict=True))
        rows.append(
            System(
                "II",
                f"{name}, {peer.SIZE}×{peer.SIZE}",
                peer.counted(network) / 1e6,
                network,
                peer.inputs(generator),
                paper=paper,
            )
        )
    return rows


@torch.no_grad()
def _amnet(size: int, network: AMNet, generator: torch.Generator) -> System:
    drive = {
        "mel": torch.rand(1, 32, 80, generator=generator) * 8 - 4,
        "pose": torch.rand(1, 3, generator=generator),
        "blink": torch.rand(1, 2, generator=generator),
    }
    source = torch.rand(1, 3, size, size, generator=generator) * 2 - 1
    appearance = network.reenactor.source(source)
    return System(
        "II",
        f"AMNet, {size}×{size}",
        parameters(network.reenactor),
        network,
        {"source": source, **drive},
        (AMNetStep(network), {"appearance": appearance, **drive}),
        {"params": "4.085", "cpu": "33.8", "gpu": "158.9"},
    )


@torch.no_grad()
def _cascade(size: int, lips: Wav2Lip, swap: SimSwap, generator: torch.Generator) -> System:
    target, mel = torch.rand(1, 3, 96, 96, generator=generator), torch.rand(1, 16, 80, generator=generator) * 8 - 4
    identity = F.normalize(torch.randn(1, 512, generator=generator))
    face = {f"face{i}": value for i, value in enumerate(lips.prepare(target, target))}
    cascade = Cascade(lips, swap, size).eval()
    return System(
        "3",
        f"Wav2Lip 96 → SimSwap {size}",
        parameters(lips, swap),
        cascade,
        {"target": target, "mel": mel, "identity": identity},
        (CascadeStep(cascade), {**face, "mel": mel, "identity": identity}),
        {"rtf": "0.2005 ± 0.0239"},
    )


@torch.no_grad()
def _wavsyncswap(network: WavSyncSwap, generator: torch.Generator) -> System:
    target, reference = (torch.rand(1, 3, 96, 96, generator=generator) for _ in range(2))
    identity = F.normalize(torch.randn(1, 512, generator=generator))
    mel = torch.rand(1, 16, 80, generator=generator) * 8 - 4
    face = {f"face{i}": value for i, value in enumerate(network.prepare(target, reference, identity))}
    return System(
        "3",
        "WavSyncSwap 96",
        parameters(network),
        network,
        {"target": target, "reference": reference, "identity": identity, "mel": mel},
        (SwapStep(network), {**face, "mel": mel}),
        {"rtf": "0.1024 ± 0.0168"},
    )


def all_systems() -> list[System]:
    """Return the rows of both tables, the same networks in each call."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    rows = _peers(generator)
    amnet = AMNet("amnet").eval()
    rows += [_amnet(size, amnet, generator) for size in (256, 128)]
    lips, swap = Wav2Lip().eval(), SimSwap().eval()
    rows += [_cascade(size, lips, swap, generator) for size in (96, 224)]
    rows.append(_wavsyncswap(WavSyncSwap().eval(), generator))
    return rows


def outputs(network: Callable[..., Tensor | tuple[Tensor, ...]], inputs: Inputs) -> list[str]:
    """Return a name for each thing that the network makes."""
    with torch.inference_mode():
        made = network(*inputs.values())
    return [f"out{i}" for i in range(len(made) if isinstance(made, tuple) else 1)]
