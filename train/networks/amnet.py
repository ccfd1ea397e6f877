"""AMNet: audio, head pose and eye blink move a source face ("Real-Time Audio-Guided Multi-Face Reenactment").

Fuser φ (audio, pose, blink → f_Geo → landmarks) and Reenactor ψ (source picture + f_Geo → picture), joined by the
Geometric Controller, a convolution whose weights are predicted from f_Geo. The Reenactor's layers are an
`Architecture`; the paper's text leaves its channels open, so the default is the authors' released, searched network.
Left out: losses and the discriminator (train/amnet/losses.py, train/networks/patchgan.py) and what turns uint8 frames
into tensors (export/amnet.py).

Variants:
    amnet        k = 1, groups = channels: the released network, 4.085 M parameters in ψ (Table II), the default
    amnet-k3     k = 3, groups = channels: the paper's text (§III), 6.848 M parameters in ψ
    amnet-adain  the rival of Table IV: instance normalisation before the predicted scale and shift
    amnet-lite   its cells at half the size, 0.4 of the time per frame: found by train/lite/search.py
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import scaled

GEOMETRY = 256  # width of f_Geo
LANDMARKS = 106  # points


def in_float32(layer: Callable[..., Tensor], *given: Tensor) -> Tensor:
    """Return what `layer` makes of `given`, in float32 even where autocast would compute in less."""
    with torch.autocast(given[0].device.type, enabled=False):
        return layer(*(x.float() for x in given))


def as_bytes(pictures: Tensor) -> Tensor:
    """Return pictures in [-1, 1] of any shape as they leave the network for the screen, uint8."""
    return ((pictures.float() + 1) * 127.5).round().clamp(0, 255).byte()


def from_bytes(pictures: Tensor) -> Tensor:
    """Return uint8 pictures of any shape as networks take them, float32 in [-1, 1]."""
    return pictures.float() / 127.5 - 1


class Convolution(nn.Sequential):
    """Convolution, instance norm without affine, ReLU unless it ends a residual branch."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.InstanceNorm2d(outputs),
            *([nn.ReLU()] if relu else []),
        )


class Upsampling(nn.Sequential):
    """Transposed 3×3 convolution that doubles the size, instance norm, ReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(
            nn.ConvTranspose2d(inputs, outputs, 3, 2, padding=1, output_padding=1, bias=False),
            nn.InstanceNorm2d(outputs),
            nn.ReLU(),
        )


class Header(nn.Sequential):
    """Upsamplings and the last convolution; the last two layers compute in float32.

    Their gradients are sums over all pixels that nearly cancel once the picture is about right. In bfloat16 the last
    convolution's pointed elsewhere (cosine with float32's on the same pictures 0.57, so 0.97); pictures stayed soft.
    """

    def forward(self, x: Tensor) -> Tensor:
        for left, layer in zip(range(len(self), 0, -1), self, strict=True):
            x = in_float32(layer, x) if left <= 2 else layer(x)
        return x


class Residual(nn.Module):
    """ReLU(body(x) + skip(x)); the skip is a 1×1 convolution with norm where the channels change."""

    def __init__(self, body: nn.Module, inputs: int, outputs: int):
        super().__init__()
        self.body = body
        self.skip = nn.Identity() if inputs == outputs else Convolution(inputs, outputs, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


def basic_cell(inputs: int, inner: int, outputs: int) -> Residual:
    """Two 3×3 convolutions with a residual connection."""
    body = nn.Sequential(Convolution(inputs, inner, 3), Convolution(inner, outputs, 3, relu=False))
    return Residual(body, inputs, outputs)


def separable_cell(inputs: int, inner: int, outputs: int) -> Residual:
    """1×1 expansion, depthwise 3×3, 1×1 projection, with a residual connection."""
    body = nn.Sequential(
        Convolution(inputs, inner, 1),
        Convolution(inner, inner, 3, groups=inner),
        Convolution(inner, outputs, 1, relu=False),
    )
    return Residual(body, inputs, outputs)


def pointwise_cell(inputs: int, inner: int, outputs: int) -> Convolution:
    """One 1×1 convolution."""
    return Convolution(inputs, outputs, 1)


CELLS = {"basic": basic_cell, "separable": separable_cell, "pointwise": pointwise_cell}


class Cell(NamedTuple):
    """One cell of the Reenactor."""

    kind: str
    """One of CELLS."""
    channels: int
    """That it makes."""
    inner: int = 0
    """Channels between its convolutions; a pointwise cell has none."""


@dataclass(frozen=True)
class Architecture:
    """The layers of the Reenactor; the default is the released network."""

    stem: tuple[int, ...] = (24, 40, 88)
    """Channels of its convolutions: 7×7, then 3×3 that each halve the size."""
    cells: tuple[Cell, ...] = (
        Cell("separable", 152, 352),
        *[Cell("basic", 152, 152)] * 4,
        Cell("separable", 152, 608),
        *[Cell("pointwise", 152)] * 2,
        Cell("pointwise", 128),
    )
    """The first belongs to the source, each is followed by a Geometric Controller."""
    header: tuple[int, ...] = (104, 24)
    """Channels of the convolutions that each double the size."""
    last: int = 7
    """Kernel of the last convolution."""
    shuffle: int = 1
    """The last convolution makes shuffle × shuffle pixels at each place."""
    kernel: int = 1
    """Of the predicted convolution, whose groups are the channels."""
    normalised: bool = False
    """Whether the map is normalised before the predicted convolution."""

    def __post_init__(self) -> None:
        if self.reduction != self.shuffle * 2 ** len(self.header) or not self.cells:
            raise ValueError(f"{self}: the header does not undo the stem's reduction by {self.reduction}")
        if unknown := {cell.kind for cell in self.cells} - CELLS.keys():
            raise ValueError(f"no cell {min(unknown)!r}; one of {', '.join(CELLS)}")

    @property
    def reduction(self) -> int:
        """How many times smaller than the picture the appearance is, per side."""
        return int(2 ** (len(self.stem) - 1))

    def scaled(self, width: float) -> Architecture:
        """Return the same layers with `width` times the channels, rounded to multiples of 8."""
        cells = tuple(
            Cell(c.kind, scaled(c.channels, width), scaled(c.inner, width) if c.inner else 0) for c in self.cells
        )
        stem, header = (tuple(scaled(c, width) for c in channels) for channels in (self.stem, self.header))
        return dataclasses.replace(self, stem=stem, cells=cells, header=header)

    def plain(self) -> dict[str, Any]:
        """Return it as plain values for JSON; `of` reads them."""
        return dataclasses.asdict(self) | {"cells": [list(cell) for cell in self.cells]}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Architecture:
        """Return what `plain` wrote; raises TypeError or ValueError where these are not its values."""
        lists = {"stem": tuple(plain["stem"]), "header": tuple(plain["header"])}
        return cls(**plain | lists | {"cells": tuple(Cell(*cell) for cell in plain["cells"])})


VARIANTS = {
    "amnet": Architecture(),
    "amnet-k3": Architecture(kernel=3),
    "amnet-adain": Architecture(normalised=True),
    "amnet-lite": Architecture(
        stem=(24, 40, 88, 152),
        cells=(Cell("separable", 152, 352), *[Cell("basic", 152, 152)] * 4, Cell("pointwise", 128)),
        header=(128, 64, 24),
    ),
}


def _ignores_bias(cell: nn.Module) -> bool:
    """Whether all that the cell does with its input is a 1×1 convolution with instance norm."""
    return isinstance(cell, Convolution) and cell[0].kernel_size == (1, 1)


class GeometricController(nn.Module):
    """A convolution whose weights and bias are predicted from f_Geo (§III, Eq. 4; Fig. 2).

    W has `channels` × (channels // groups × kernel² + 1) values per sample; weights and bias are predicted by two
    linear layers each, with a ReLU between. With kernel 1 and groups = channels it is a scale and a shift.

    `biased=False` leaves the bias out of the sum, though its parameters stay: in front of a convolution without
    margin and its instance norm it is a constant of each channel, which that norm takes out again. Its gradient
    would be rounding noise, of which Adam makes steps of full size, and its size would take int8's range.
    """

    def __init__(
        self,
        channels: int,
        kernel: int = 1,
        groups: int | None = None,
        geometry: int = GEOMETRY,
        *,
        biased: bool = True,
    ):
        super().__init__()
        groups = channels if groups is None else groups
        if kernel % 2 == 0 or channels % groups:
            raise ValueError(f"kernel {kernel} must be odd and groups {groups} must divide channels {channels}")
        self.channels, self.kernel, self.groups, self.biased = channels, kernel, groups, biased
        per_group = channels // groups
        self.weight = nn.Sequential(
            nn.Linear(geometry, geometry), nn.ReLU(), nn.Linear(geometry, channels * per_group * kernel**2)
        )
        self.bias = nn.Sequential(nn.Linear(geometry, geometry), nn.ReLU(), nn.Linear(geometry, channels))
        # Start near the identity: each output channel passes its own input channel.
        identity = torch.zeros(channels, per_group, kernel, kernel)
        own = torch.arange(channels)
        identity[own, own % per_group, kernel // 2, kernel // 2] = 1.0
        with torch.no_grad():
            self.weight[2].bias.copy_(identity.flatten())
            self.bias[2].bias.zero_()

    def predict(self, f_geo: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return weights (B, channels, channels // groups, kernel, kernel) and bias (B, channels) from (B, 256).

        The bias is None where it is left out.
        """
        shape = (-1, self.channels, self.channels // self.groups, self.kernel, self.kernel)
        return self.weight(f_geo).view(shape), self.bias(f_geo) if self.biased else None

    def forward(self, x: Tensor, f_geo: Tensor) -> Tensor:
        """Convolve each sample of (B, channels, H, W) with its own weights; same shape out."""
        weight, bias = self.predict(f_geo)
        if self.kernel == 1 and self.groups == self.channels:
            scaled = x * weight.view(-1, self.channels, 1, 1)
            return scaled if bias is None else scaled + bias[:, :, None, None]
        return self.convolve(x, weight, bias)

    @staticmethod
    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve each sample of x with its own weight and bias, as `predict` returns them; zeros lie around x.

        The export may put another form of the same in its place.
        """
        batch, channels, height, width = x.shape
        folded = F.conv2d(  # the batch becomes part of the groups: one call for all samples
            x.reshape(1, batch * channels, height, width),
            weight.flatten(0, 1),
            None if bias is None else bias.flatten(),
            padding=weight.shape[-1] // 2,
            groups=batch * channels // weight.shape[2],
        )
        return folded.view(batch, channels, height, width)


class NormalisedController(GeometricController):
    """AdaIN: the Geometric Controller with kernel 1 behind an instance normalisation (Table IV's rival)."""

    def forward(self, x: Tensor, f_geo: Tensor) -> Tensor:
        return super().forward(F.instance_norm(x), f_geo)


class Fuser(nn.Module):
    """φ: the drive signals become the geometric representation f_Geo (§III, Eq. 2).

    `audio` is the shape (T, F) of a mel window; T is a power of two of at least 16.
    """

    def __init__(self, audio: tuple[int, int] = (32, 80)):
        super().__init__()
        frames, features = audio
        widths = (1, 72, 108, 162, 243, 256)
        self.audio_features = nn.Sequential()  # five convolutions over the features of each time
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            self.audio_features += nn.Sequential(nn.Conv2d(inputs, outputs, (1, 3), (1, 2), (0, 1)), nn.ReLU())
            features = (features + 1) // 2
        self.audio_time = nn.Sequential()  # five convolutions over time
        for left in range(4, 0, -1):
            stride = 2 if frames >= 2 ** (left + 2) else 1
            self.audio_time += nn.Sequential(nn.Conv2d(256, 256, (3, 1), (stride, 1), (1, 0)), nn.ReLU())
            frames //= stride
        self.audio_time += nn.Sequential(nn.Conv2d(256, 256, (frames, 1)), nn.ReLU())
        self.audio = nn.Linear(256 * features, 256)
        self.pose = self._perceptron(3, 64)
        self.blink = self._perceptron(2, 64)
        self.fusion = self._perceptron(256 + 64 + 64, GEOMETRY)

    @staticmethod
    def _perceptron(inputs: int, width: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )

    def forward(self, mel: Tensor, pose: Tensor, blink: Tensor) -> Tensor:
        """Return f_Geo (B, 256), of mean 0 and variance 1 per sample, from (B, T, F), (B, 3) and (B, 2).

        In float32, as the landmarks are: half a pixel is a step of bfloat16, and all of this costs little.
        """

        def fused(mel: Tensor, *others: Tensor) -> Tensor:
            return self._fused(self.audio_features(mel[:, None]), *others)

        return in_float32(fused, mel, pose, blink)

    def overlapping(self, mel: Tensor, rows: Tensor, pose: Tensor, blink: Tensor) -> Tensor:
        """Return what `forward` makes of the windows mel[rows], of mel (R, F) and rows (B, T) int64.

        The layers over features see each row once, however many windows it is in.
        """

        def fused(mel: Tensor, *others: Tensor) -> Tensor:
            seen = self.audio_features(mel[None, None])[0].permute(1, 2, 0)  # (R, features, 256)
            return self._fused(seen[rows].permute(0, 3, 1, 2), *others)

        return in_float32(fused, mel, pose, blink)

    def _fused(self, heard: Tensor, pose: Tensor, blink: Tensor) -> Tensor:
        audio = self.audio(self.audio_time(heard).flatten(1))
        fused = self.fusion(torch.cat([audio, self.pose(pose), self.blink(blink)], 1))
        return F.layer_norm(fused, (GEOMETRY,))


class Reenactor(nn.Module):
    """ψ: encoder, cells each followed by a Geometric Controller, decoder (§III, Eq. 3; nine cells, L = 9, as released).

    It is cut behind the first cell: `source` sees the picture alone, once per source; `step` runs per frame.
    """

    def __init__(self, architecture: Architecture = VARIANTS["amnet"]):
        super().__init__()
        self.architecture = architecture
        first, *halving = architecture.stem
        self.stem = nn.Sequential(Convolution(3, first, 7))
        for inputs, outputs in zip(architecture.stem, halving, strict=False):
            self.stem.append(Convolution(inputs, outputs, 3, 2))
        self.cells, channels = nn.ModuleList(), architecture.stem[-1]
        for cell in architecture.cells:
            self.cells.append(CELLS[cell.kind](channels, cell.inner, cell.channels))
            channels = cell.channels
        controller = NormalisedController if architecture.normalised else GeometricController
        behind = [_ignores_bias(cell) for cell in self.cells[1:]] + [False]  # the header does not
        self.controllers = nn.ModuleList(
            controller(cell.channels, architecture.kernel, biased=not ignored)
            for cell, ignored in zip(architecture.cells, behind, strict=True)
        )
        self.header = Header()
        for outputs in architecture.header:
            self.header.append(Upsampling(channels, outputs))
            channels = outputs
        pixels, last = 3 * architecture.shuffle**2, architecture.last
        self.header.append(nn.Conv2d(channels, pixels, last, padding=last // 2, bias=False))

    def source(self, picture: Tensor) -> Tensor:
        """Return the appearance (B, 152, S/4, S/4) of pictures (B, 3, S, S) in [-1, 1].

        Channels and size are those of the released network; others have their first cell's and `reduction`.
        """
        return self.cells[0](self.stem(picture))

    def step(self, appearance: Tensor, f_geo: Tensor) -> Tensor:
        """Return pictures (B, 3, S, S) in [-1, 1] from the appearance and f_Geo (B, 256)."""
        x = self.controllers[0](appearance, f_geo)
        for cell, controller in zip(self.cells[1:], self.controllers[1:], strict=True):
            x = controller(cell(x), f_geo)
        x = torch.tanh(self.header(x))
        return F.pixel_shuffle(x, self.architecture.shuffle) if self.architecture.shuffle > 1 else x


class AMNet(nn.Module):
    """Fuser and Reenactor; `audio` is the (T, F) of the mel window, `architecture` another one than the variant's."""

    def __init__(
        self, variant: str = "amnet", audio: tuple[int, int] = (32, 80), architecture: Architecture | None = None
    ):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"no variant {variant!r} of AMNet; one of {', '.join(VARIANTS)}")
        self.variant = variant
        self.fuser = Fuser(audio)
        self.reenactor = Reenactor(architecture or VARIANTS[variant])
        self.landmark_layer = nn.Linear(GEOMETRY, 2 * LANDMARKS)

    def landmarks(self, f_geo: Tensor) -> Tensor:
        """Return landmarks (B, 106, 2), fractions of width and height, from f_Geo (B, 256) (Eq. 6, W_Geo f_Geo)."""
        return in_float32(self.landmark_layer, f_geo).view(-1, LANDMARKS, 2)

    def forward(self, source: Tensor, mel: Tensor, pose: Tensor, blink: Tensor) -> tuple[Tensor, Tensor]:
        """Return pictures (B, 3, S, S) in [-1, 1] and landmarks (B, 106, 2).

        Takes source (B, 3, S, S) in [-1, 1], mel (B, T, F), pose (B, 3) in radians and blink (B, 2) in [0, 1].
        """
        f_geo = self.fuser(mel, pose, blink)
        return self.reenactor.step(self.reenactor.source(source), f_geo), self.landmarks(f_geo)
