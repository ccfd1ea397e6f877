"""ArcFace for export: an aligned portrait in, its identity as a unit vector out.

Reads the residual networks that InsightFace publishes (iresnet18 to iresnet200, told by their names), the state dict
of the extractor that SimSwap was trained with, and ONNX files of InsightFace's kind (arcface_onnx.py). Left out:
finding and aligning faces.
"""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from edgetalk.errors import InputError
from edgetalk.files import sha256
from edgetalk.metadata import Metadata
from edgetalk.train.networks.arcface import ArcFace, Config
from edgetalk.train.networks.simswap_arcface import SimSwapArcFace

from . import published
from .arcface_onnx import example, load_onnx
from .graph import Export, Graph
from .onnx_file import from_pixels

VARIANTS: dict[tuple[int, ...], str] = {
    (2, 2, 2, 2): "iresnet18",
    (3, 4, 6, 3): "iresnet34",
    (3, 4, 14, 3): "iresnet50",
    (3, 13, 30, 3): "iresnet100",
    (6, 26, 60, 6): "iresnet200",
}
"""Blocks of the four stages to the published name."""
UNITS = {"portrait": "aligned as for ArcFace", "identity": "unit vector"}
RULES = (
    (r"stem\.0\.", "conv1."),
    (r"stem\.1\.", "bn1."),
    (r"stem\.2\.", "prelu."),
    (r"stages\.(\S+)\.body\.0\.", r"\1.bn1."),
    (r"stages\.(\S+)\.body\.1\.", r"\1.conv1."),
    (r"stages\.(\S+)\.body\.2\.", r"\1.bn2."),
    (r"stages\.(\S+)\.body\.3\.", r"\1.prelu."),
    (r"stages\.(\S+)\.body\.4\.", r"\1.conv2."),
    (r"stages\.(\S+)\.body\.5\.", r"\1.bn3."),
    (r"stages\.(\S+)\.shortcut\.", r"\1.downsample."),
    (r"norm\.", "bn2."),
    (r"project\.", "fc."),
    (r"project_norm\.", "features."),
)
"""Our names to the published ones; our stages are one list, theirs four."""


class Identity(nn.Module):
    """portrait uint8 (B, 112, 112, 3) RGB -> identity (B, 512), L2-normalised."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, portrait: Tensor) -> Tensor:
        return self.network(from_pixels(portrait, 255.0, 0.0))


def load(checkpoint: str | Path) -> tuple[nn.Module, str, int]:
    """Read a state dict of InsightFace's or SimSwap's names; return the network, which of theirs it is, and its size.

    Raises FileNotFoundError, and ModelError where the file is damaged or no such network.
    """
    tensors = published.state_dict(checkpoint, "arcface")
    stages = [len({name.split(".")[1] for name in tensors if name.startswith(f"layer{i}.")}) for i in range(1, 5)]
    blocks = tuple(max(1, count) for count in stages)
    if "layer1.0.bn0.weight" in tensors:
        with torch.device("meta"):
            other = SimSwapArcFace(blocks, published.width(tensors, "layer4.0.conv2.weight", 512))
        return published.fill(other, tensors, checkpoint), "simswap", 112
    width = published.width(tensors, "layer4.0.conv1.weight", 512)
    fc = tensors.get("fc.weight", torch.empty(512, round(512 * width) * 49))
    identity, flat = fc.shape if fc.ndim == 2 else (512, round(512 * width) * 49)
    side = max(1, round((flat / (512 * width)) ** 0.5))
    with torch.device("meta"):
        network = ArcFace(Config(width, blocks, 16 * side, identity, mask=False, dropout=0.0))
        network.project = nn.Linear(network.project.in_features, identity)  # ours has no bias
    del network.ellipse  # of our own extractor; these see the whole picture
    flat_names = [f"layer{stage + 1}.{i}" for stage, count in enumerate(blocks) for i in range(count)]
    names = {name: _published(name, flat_names) for name in network.state_dict()}
    published.fill(network, tensors, checkpoint, names)
    return network, VARIANTS.get(blocks, ""), network.config.size


def _published(name: str, blocks: list[str]) -> str:
    name = re.sub(r"^stages\.(\d+)", lambda found: f"stages.{blocks[int(found[1])]}", name)
    for pattern, theirs in RULES:
        if re.match(pattern, name):
            return re.sub(pattern, theirs, name)
    raise KeyError(name)


def prepare(checkpoint: Path, *, whole: bool, size: int | None, batch: int) -> Export:
    """Return the one graph of a published extractor."""
    model: onnx.ModelProto | None = None
    module: nn.Module
    variant = ""
    if checkpoint.suffix == ".onnx":
        if not checkpoint.is_file():
            raise FileNotFoundError(f"no checkpoint at {checkpoint}")
        model, module, side = load_onnx(checkpoint)
    else:
        network, variant, side = load(checkpoint)
        module = Identity(network)
    if size not in (None, side):
        raise InputError(f"size: got {size}, this extractor has {side} alone")
    if model is not None and batch != 1:
        raise InputError("batch: an ONNX file is exported for a batch of 1; leave --batch out")
    metadata = Metadata(family="arcface", variant=variant, units=UNITS, checkpoint=sha256(checkpoint))
    graph = Graph("identity", module, {"portrait": example(side, batch)}, ["identity"], model)
    return Export(metadata, [graph], {}, published.LICENCES["arcface"])
