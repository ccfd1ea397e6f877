"""WavSyncSwap for export: our own checkpoint and the identity extractor it was trained with, cut into three graphs.

The source graph holds what depends on target frame, reference and identity: face encoder, ID blocks, skips, and the
face's share of the decoder's first convolution, which is linear in face and sound. The step is audio encoder and
decoder. The identity graph cuts the face out of an aligned portrait as the extractor's training did. Batch norms are
folded, and transposed convolutions of stride 1 are written as the convolutions that they are. Left out: avatars, since
these need a film (edgetalk avatar).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgetalk.errors import InputError, ModelError
from edgetalk.files import sha256
from edgetalk.metadata import Metadata
from edgetalk.train.networks import ears, store
from edgetalk.train.networks.arcface import CROP, ArcFace
from edgetalk.train.networks.blocks import Conv, Transposed
from edgetalk.train.networks.wavsyncswap import WavSyncSwap

from . import published
from .graph import Export, Graph
from .onnx_file import from_pixels, to_pixels

UNITS = {"identity": "unit vector", "portrait": "aligned as the target frames"}
PORTRAIT = 96
"""Side of the aligned picture that the extractor's training cut its faces out of."""


class Source(nn.Module):
    """target, reference uint8 (B, S, S, 3), identity (B, D) -> face (B, 12, 12, C), skip0 …, channels last.

    With a matte `kept`, the target with its hidden part filled, comes last.
    """

    def __init__(self, network: WavSyncSwap):
        super().__init__()
        self.network = network
        self.share, _ = _halves(network)

    def forward(self, target: Tensor, reference: Tensor, identity: Tensor) -> tuple[Tensor, ...]:
        pictures = (from_pixels(x, 255.0, 0.0) for x in (target, reference))
        face, *skips = self.network.prepare(*pictures, identity)
        return tuple(x.permute(0, 2, 3, 1) for x in (self.share(face), *skips))


class Step(nn.Module):
    """face, skip0 … as Source makes them and mel (B, 16, 80) -> frame uint8 (B, S, S, 3)."""

    def __init__(self, network: WavSyncSwap):
        super().__init__()
        self.network = network
        _, self.share = _halves(network)

    def forward(self, *inputs: Tensor) -> Tensor:
        *features, mel = inputs
        face, *rest = (x.permute(0, 3, 1, 2) for x in features)
        network = self.network
        f = torch.relu(face + self.share(network.audio_map(network.hear(mel))))
        return to_pixels(network.mix(network.paint(f, tuple(rest)), (face, *rest)), 255.0, 0.0)


class Whole(nn.Module):
    """The network as it was trained, uint8 pictures in and out."""

    def __init__(self, network: WavSyncSwap):
        super().__init__()
        self.network = network

    def forward(self, target: Tensor, reference: Tensor, identity: Tensor, mel: Tensor) -> Tensor:
        pictures = (from_pixels(x, 255.0, 0.0) for x in (target, reference))
        return to_pixels(self.network(*pictures, identity, mel), 255.0, 0.0)


class Identity(nn.Module):
    """portrait uint8 (B, 96, 96, 3), aligned as target frames are -> identity (B, D), L2-normalised."""

    rows: Tensor
    columns: Tensor

    def __init__(self, network: ArcFace, crop: tuple[float, float]):
        super().__init__()
        self.network = network
        side, lower = crop
        self.register_buffer("rows", _resampling(PORTRAIT, network.config.size, side, lower))
        self.register_buffer("columns", _resampling(PORTRAIT, network.config.size, side, 0.0).T)

    def forward(self, portrait: Tensor) -> Tensor:
        return self.network(self.rows @ from_pixels(portrait, 255.0, 0.0) @ self.columns)


class AdaIn(nn.Module):
    """networks.wavsyncswap.AdaIn with its statistics as one instance normalisation, for which engines have kernels."""

    def __init__(self, layer: Any):
        super().__init__()
        self.plain, self.style = layer.plain, layer.style

    def forward(self, f: Tensor, v: Tensor) -> Tensor:
        sigma, mu = self.style(v)[:, :, None, None].chunk(2, 1)
        styled = sigma * F.instance_norm(f[:, self.plain :], eps=1e-5) + mu
        return torch.cat([f[:, : self.plain], styled], 1) if self.plain else styled


class Grow(nn.Module):
    """A k×k transposed convolution of a single pixel: a 1×1 convolution that makes all k×k pixels as channels."""

    def __init__(self, layer: nn.ConvTranspose2d):
        super().__init__()
        inputs, outputs, k, _ = layer.weight.shape
        self.conv, self.k = nn.Conv2d(inputs, outputs * k * k, 1), k
        self.conv.weight = nn.Parameter(layer.weight.permute(1, 2, 3, 0).reshape(-1, inputs, 1, 1))
        assert layer.bias is not None  # no norm was left to take its part
        self.conv.bias = nn.Parameter(layer.bias.repeat_interleave(k * k))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(F.pixel_shuffle(self.conv(x), self.k))


def _resampling(size: int, wanted: int, side: float, lower: float) -> Tensor:
    """Return the matrix (wanted, size) that cuts `side` of an axis out, moved by `lower`, and scales it bilinearly."""
    at = ((torch.arange(wanted, dtype=torch.float64) + 0.5) / wanted - 0.5) * side + 0.5 + lower
    at = (at * size - 0.5).clamp(0, size - 1)
    left = at.floor().clamp(max=size - 2).long()
    rest, lines = at - left, torch.arange(wanted)
    matrix = torch.zeros(wanted, size, dtype=torch.float64)
    matrix[lines, left], matrix[lines, left + 1] = 1 - rest, rest
    return matrix.float()


def _halves(network: WavSyncSwap) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Return the decoder's first convolution as two, of the face (with the bias) and of the sound, to be added."""
    whole = network.decoder[0][0]
    faces = network.id_blocks[0].conv2.out_channels
    parts = []
    for weight, bias in ((whole.weight[:, :faces], whole.bias), (whole.weight[:, faces:], None)):
        part = nn.Conv2d(weight.shape[1], weight.shape[0], 3, 1, 1, bias=bias is not None)
        part.weight = nn.Parameter(weight)
        part.bias = None if bias is None else nn.Parameter(bias)
        parts.append(part)
    return parts[0], parts[1]


def _convolution(layer: nn.ConvTranspose2d) -> nn.Conv2d:
    """Return a transposed convolution of stride 1, k = 2 p + 1, as the convolution that it is."""
    inputs, outputs, k, _ = layer.weight.shape
    made = nn.Conv2d(inputs, outputs, k, 1, k // 2)
    made.weight, made.bias = nn.Parameter(layer.weight.flip(2, 3).transpose(0, 1)), layer.bias
    return made


def rewritten(network: WavSyncSwap) -> WavSyncSwap:
    """Return a copy that computes the same with batch norms folded and in forms that engines run fast."""
    network = copy.deepcopy(network).requires_grad_(False).eval()
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Conv):
                child.conv_block = fuse_conv_bn_eval(*child.conv_block)
            elif isinstance(child, Transposed):
                layer, norm = child.conv_block
                layer = fuse_conv_bn_eval(layer, norm, transpose=True)
                if layer.stride == (1, 1) and layer.padding != (0, 0):
                    layer = _convolution(layer)
                setattr(module, name, nn.Sequential(layer, nn.ReLU()) if layer.padding != (0, 0) else Grow(layer))
            elif hasattr(child, "adain"):
                child.adain = AdaIn(child.adain)
            elif hasattr(child, "adain1"):
                child.adain1, child.adain2 = AdaIn(child.adain1), AdaIn(child.adain2)
    return network.requires_grad_(False)


def prepare(checkpoint: Path, *, whole: bool, size: int | None, batch: int, identity: Path | None = None) -> Export:
    """Return the graphs of a checkpoint of `edgetalk train wavsyncswap`: source, step and identity, or the whole.

    `identity` is the file of the extractor that it was trained with (default: what lies beside it).
    Raises FileNotFoundError, ModelError where a file is no such checkpoint or the two do not fit, and InputError.
    """
    read, record = store.load(store.existing(checkpoint), "wavsyncswap")
    config, agreed = read.config, record.get("terms", {})
    terms = published.of_films(agreed)
    if size not in (None, config.size):
        raise InputError(f"size: got {size}, {checkpoint.name} was trained at {config.size} alone")
    network = rewritten(read)
    metadata = Metadata(
        family="wavsyncswap",
        variant="default" if config.skips else "paper",
        audio=ears.WAVSYNCSWAP,
        units=UNITS,
        checkpoint=sha256(checkpoint),
        faces=published.faces(agreed),
    )
    generator = torch.Generator().manual_seed(0)

    def picture(side: int) -> Tensor:
        return torch.randint(0, 256, (batch, side, side, 3), generator=generator, dtype=torch.uint8)

    vector = F.normalize(torch.randn(batch, config.identity, generator=generator))
    film = {"target": picture(config.size), "reference": picture(config.size), "identity": vector}
    mel = torch.rand(batch, ears.WAVSYNCSWAP.window, ears.WAVSYNCSWAP.features, generator=generator) * 8 - 4
    if whole:
        return Export(metadata, [Graph("whole", Whole(network), {**film, "mel": mel}, ["frame"])], {}, terms)
    source = Source(network)
    with torch.no_grad():
        made = source(*film.values())
    names = ["face", *(f"skip{i}" for i in range(len(network.skips))), *(["kept"] if config.matte else [])]
    features = dict(zip(names, made, strict=True))
    extractor, crop = _extractor(checkpoint, identity, config.identity)
    return Export(
        metadata,
        [
            Graph("identity", Identity(extractor, crop), {"portrait": picture(PORTRAIT)}, ["identity"]),
            Graph("source", source, film, list(features)),
            Graph("step", Step(network), {**features, "mel": mel}, ["frame"]),
        ],
        {},
        terms,
    )


def _extractor(checkpoint: Path, given: Path | None, width: int) -> tuple[ArcFace, tuple[float, float]]:
    """Return the identity extractor and its cut of an aligned picture."""
    path = store.extractor(checkpoint, given)
    network, record = store.load(path, "arcface")
    if network.config.identity != width:
        raise ModelError(
            f"{path.name} makes vectors of {network.config.identity} values, {checkpoint.name} takes {width}; "
            "give the extractor that it was trained with"
        )
    side, lower = record.get("crop", CROP)
    return network, (float(side), float(lower))
