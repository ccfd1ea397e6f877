"""AMNet for export: reads checkpoints, ours and the authors', and cuts the network into a source and a step graph.

The source graph holds what sees the picture alone (stem and first cell); the step graph holds the rest, so that a
face that stays costs nothing. How the authors' names map onto ours is in published_amnet.py.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from edgetalk.errors import InputError
from edgetalk.metadata import Metadata
from edgetalk.train.networks.amnet import AMNet
from edgetalk.train.networks.checkpoint import LARGEST, load_checkpoint

from . import dynamic_conv, published, published_amnet
from .graph import Export, Graph
from .onnx_file import from_pixels, to_pixels

UNITS = {
    "pose": "rad: yaw, pitch, roll",
    "blink": "0 open, 1 closed: subject's left, right",
    "landmarks": "fractions of width, height",
}


class Source(nn.Module):
    """source uint8 (B, S, S, 3) -> appearance (B, S/4, S/4, 152) as released, of other sizes in other architectures."""

    def __init__(self, network: AMNet):
        super().__init__()
        self.network = network

    def forward(self, source: Tensor) -> Tensor:
        return self.network.reenactor.source(from_pixels(source)).permute(0, 2, 3, 1)


class Step(nn.Module):
    """appearance, mel (B, T, F), pose (B, 3), blink (B, 2) -> frame uint8 (B, S, S, 3), landmarks (B, 106, 2).

    What passes between the graphs has its channels last, as pictures have: the layout of a CPU's convolutions, so
    that a step need not turn it round.
    """

    def __init__(self, network: AMNet):
        super().__init__()
        self.network = network

    def forward(self, appearance: Tensor, mel: Tensor, pose: Tensor, blink: Tensor) -> tuple[Tensor, Tensor]:
        f_geo = self.network.fuser(mel, pose, blink)
        appearance = appearance.permute(0, 3, 1, 2)
        return to_pixels(self.network.reenactor.step(appearance, f_geo)), self.network.landmarks(f_geo)


class Whole(nn.Module):
    """Source and Step in one graph."""

    def __init__(self, network: AMNet):
        super().__init__()
        self.source, self.step = Source(network), Step(network)

    def forward(self, source: Tensor, mel: Tensor, pose: Tensor, blink: Tensor) -> tuple[Tensor, Tensor]:
        return self.step(self.source(source), mel, pose, blink)


def prepare(checkpoint: Path, *, form: str, whole: bool, size: int | None, batch: int) -> Export:
    """Read a checkpoint of `edgetalk train amnet`, or the authors', and return its graphs, the source graph first.

    The examples have `batch` samples. Raises FileNotFoundError, ModelError where the file is no such checkpoint and
    InputError where the size does not fit the network.
    """
    terms: published.Licence | None
    if published.is_torch(checkpoint):
        read, units, terms = published_amnet.load(checkpoint), published_amnet.UNITS, published.LICENCES["amnet"]
        faces = ""
    else:
        read, units = load_checkpoint(checkpoint), UNITS
        agreed = read.training.get("terms", {})
        terms, faces = published.of_films(agreed), published.faces(agreed)
    network, audio = read.network, read.audio
    size = read.size if size is None else size
    reduction = network.reenactor.architecture.reduction
    if not 32 <= size <= LARGEST or size % reduction:
        raise InputError(f"size: got {size}, expected a multiple of {reduction} from 32 to {LARGEST}")
    if form == "shift":
        dynamic_conv.unroll(network)
    metadata = Metadata(
        family="amnet",
        variant=read.variant,
        audio=audio,
        units=units,
        limits=read.training.get("limits", {}),
        checkpoint=read.sha256,
        persons=read.persons,
        faces=faces,
    )
    generator = torch.Generator().manual_seed(0)

    def values(*shape: int, low: float, high: float) -> Tensor:
        return torch.rand(batch, *shape, generator=generator) * (high - low) + low

    source = values(size, size, 3, low=0, high=256).to(torch.uint8)
    drive = {
        "mel": values(audio.window, audio.features, low=-4, high=4),
        "pose": values(3, low=-0.4, high=0.4),
        "blink": values(2, low=0, high=1),
    }
    if whole:
        graphs = [Graph("whole", Whole(network), {"source": source, **drive}, ["frame", "landmarks"])]
    else:
        with torch.no_grad():
            appearance = Source(network)(source)
        graphs = [
            Graph("source", Source(network), {"source": source}, ["appearance"]),
            Graph("step", Step(network), {"appearance": appearance, **drive}, ["frame", "landmarks"]),
        ]
    consent = read.training.get("terms", {}).get("consent", "")
    return Export(metadata, graphs, {name: picture.numpy() for name, picture in read.sources.items()}, terms, consent)
