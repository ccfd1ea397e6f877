"""WavSyncSwap (Bao et al., 2023): one network for lip-sync and identity swap; Fig. 1, §2.1–2.3.

Target frame (lower half masked), reference frame, identity vector and mel window in, frame out. What depends on
faces alone is `prepare` and runs once per avatar; `step` is the audio encoder and the decoder. Leaves out the identity
extractor (arcface.py), the lip-sync expert (syncnet.py) and the losses (train/swap/losses.py).

The text fixes: 14 audio blocks to 512-D, transposed blocks to 256×12×12, face encoder to 512×12×12, nine ID blocks,
768×12×12 into five transposed and three convolution blocks. The widths in between are ours, fields of `Config`: of the
audio blocks and the map that follows them, of the face encoder, of the decoder and the convolutions at its end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from edgetalk.errors import InputError

from .blocks import Conv, Transposed, audio_encoder, scaled
from .patchgan import PatchGAN

Face = tuple[torch.Tensor, ...]
"""f_tgt(v_src), the skips from the coarsest to the finest, and with a matte the filled target."""
SIZES = (96, 192)
"""Sides of a frame in pixels that the encoder halves, and the decoder doubles, to and from 12×12."""
COUNTS = {"encoder": 4, "audio_encoder": 4, "audio_map": 2, "decoder": 5, "head": 2}
"""Numbers of channels in each field of Config that has several."""
CELLS = 24
"""Cells along a side in which the hidden part of a target is filled."""
INNER = (0.28, 0.42)
"""Half-axes, as shares of the side, of the ellipse in which a target may show its face, which must fill nothing."""


@dataclass(frozen=True)
class Config:
    """Arrangement of a generator. The defaults follow the paper's text. Raises InputError where there can be none."""

    size: int = 96
    """Side of a frame in pixels: 96 or 192."""
    width: float = 1.0
    """Factor on every channel count below."""
    identity: int = 512
    """Length of the identity vector (not scaled)."""
    encoder: tuple[int, ...] = (64, 128, 256, 512)
    """Channels of the face encoder at size 96, from full resolution down to 12×12; 192 halves the first in front."""
    id_blocks: int = 9
    audio_encoder: tuple[int, ...] = (32, 64, 128, 256)
    """Channels of the audio encoder's four levels, Wav2Lip's; its feature has 512."""
    audio_map: tuple[int, ...] = (512, 256)
    """Channels after the first two of the three transposed convolutions that grow the audio feature to f_a."""
    audio: int = 256
    """Channels of f_a."""
    decoder: tuple[int, ...] = (384, 256, 192, 128, 64)
    """Channels after each of the five transposed convolutions."""
    head: tuple[int, ...] = (48, 32)
    """Channels after the first two of the three convolutions; the third gives the frame."""
    skips: tuple[int, ...] = ()
    """Channels of identity-conditioned skips at 24×24, 48×48, 96×96 …; empty as in the paper."""
    plain: float = 0.25
    """Share of a skip's channels that AdaIN leaves alone, since normalising them all loses absolute colour."""
    hidden: tuple[float, ...] = ()
    """Half-axes, across and down, of the ellipse about the frame's centre whose lower half is hidden from the network,
    as shares of the side; empty hides all of the lower half, as the paper does."""
    matte: bool = False
    """Fill the hidden part of the target from what lies around the face, and let the last convolution make a share of
    the target, too, by which it is mixed in."""

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise InputError(
                f"size: got {self.size}, expected 96 or 192, for which there are strides; scale the frames to one"
            )
        for name, count in COUNTS.items():
            if len(got := getattr(self, name)) != count:
                raise InputError(
                    f"{name}: got {len(got)} numbers of channels, expected {count}; give one for each block"
                )


def inside(size: int, half_axes: tuple[float, ...]) -> torch.Tensor:
    """Return (size, size) bool: the pixels of the ellipse about a frame's centre, its half-axes shares of the side."""
    axis = (torch.arange(size) + 0.5) / size - 0.5
    across, down = half_axes
    return (axis / across).square() + (axis[:, None] / down).square() < 1


def seen(size: int, hidden: tuple[float, ...]) -> torch.Tensor:
    """Return (size, size) float: 1 where a target is seen, 0 where Config.hidden hides it."""
    lower = (torch.arange(size) >= size // 2)[:, None].expand(size, size)
    return (~(lower & inside(size, hidden) if hidden else lower)).float()


class Filling(nn.Module):
    """Makes a smooth picture of what is not `seen` (S, S) of a target from what is, by a fixed linear map.

    A cell takes the mean of all pixels that are seen outside of INNER, weighted by d⁻⁴ of their cells' distance. Rows
    count double in d: what stands beside a face goes on beside it.
    """

    def __init__(self, seen: torch.Tensor) -> None:
        super().__init__()
        self.cell = len(seen) // CELLS
        around = seen * ~inside(len(seen), INNER)
        place = torch.arange(CELLS, dtype=torch.float32)
        apart = (place[:, None] - place).square()
        squared = 4 * apart[:, None, :, None] + apart[None, :, None, :] + 0.1  # from cell y, x to cell v, u
        weight = squared.pow(-2).flatten(2).flatten(0, 1)
        share = F.avg_pool2d(around[None, None], self.cell).flatten()
        self.register_buffer("around", around, persistent=False)
        self.register_buffer("weight", (weight / (weight @ share)[:, None]).T.contiguous(), persistent=False)

    def forward(self, target: torch.Tensor) -> torch.Tensor:
        """Return the smooth picture (B, C, S, S) of `target`, whose hidden pixels count for nothing."""
        cells = F.avg_pool2d(target * self.around, self.cell).flatten(2) @ self.weight
        return F.interpolate(
            cells.unflatten(2, (CELLS, CELLS)), scale_factor=self.cell, mode="bilinear", align_corners=False
        )


class AdaIn(nn.Module):
    """Eq. 2: σ_src (f - μ(f)) / σ(f) + μ_src, σ_src and μ_src fully connected from the identity vector.

    The first `plain` channels pass unchanged.
    """

    def __init__(self, channels: int, identity: int, plain: int = 0) -> None:
        super().__init__()
        self.plain = plain
        self.style = nn.Linear(identity, 2 * (channels - plain))
        with torch.no_grad():
            self.style.bias[: channels - plain] = 1.0  # σ_src starts around one
            self.style.bias[channels - plain :] = 0.0

    def forward(self, f: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        rest = f[:, self.plain :]
        sigma, mu = self.style(v)[:, :, None, None].float().chunk(2, 1)
        variance, mean = torch.var_mean(rest.float(), (2, 3), correction=0, keepdim=True)
        gain = sigma * torch.rsqrt(variance + 1e-5)
        rest = rest * gain.to(f.dtype) + (mu - mean * gain).to(f.dtype)
        return torch.cat([f[:, : self.plain], rest], 1) if self.plain else rest


class IdBlock(nn.Module):
    """Residual block of two 3×3 convolutions with AdaIN and a ReLU between (§2.3)."""

    def __init__(self, channels: int, identity: int) -> None:
        super().__init__()
        self.conv1, self.adain1 = nn.Conv2d(channels, channels, 3, 1, 1), AdaIn(channels, identity)
        self.conv2, self.adain2 = nn.Conv2d(channels, channels, 3, 1, 1), AdaIn(channels, identity)

    def forward(self, f: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return f + self.adain2(self.conv2(F.relu(self.adain1(self.conv1(f), v))), v)


class Skip(nn.Module):
    """Encoder features narrowed by a 3×3 convolution and conditioned on the identity, for the decoder."""

    def __init__(self, cin: int, cout: int, identity: int, plain: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 3, 1, 1)
        self.adain = AdaIn(cout, identity, round(cout * plain))

    def forward(self, f: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.relu(self.adain(self.conv(f), v))


class WavSyncSwap(nn.Module):
    """The generator. Frames are (B, 3, size, size) RGB in [0, 1]."""

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Config()

        def wide(channels: int) -> int:
            return scaled(channels, config.width)

        levels = config.encoder if config.size == 96 else (config.encoder[0] // 2, *config.encoder)
        widths = [wide(n) for n in levels]
        self.stem = Conv(6 + config.matte, widths[0], 7, 1, 3)
        self.down = nn.ModuleList(
            nn.Sequential(Conv(cin, cout, 3, 2, 1), Conv(cout, cout, 3, 1, 1, residual=True))
            for cin, cout in zip(widths, widths[1:], strict=False)
        )
        self.id_blocks = nn.ModuleList(IdBlock(widths[-1], config.identity) for _ in range(config.id_blocks))
        self.skips = nn.ModuleList(
            Skip(cin, wide(cout), config.identity, config.plain)
            for cin, cout in zip(reversed(widths[:-1]), config.skips, strict=False)
        )

        self.audio_encoder = audio_encoder(config.width, channels=config.audio_encoder)
        f_a = wide(config.audio)
        first, second = (wide(n) for n in config.audio_map)
        self.audio_map = nn.Sequential(
            Transposed(wide(512), first, 3), Transposed(first, second, 4, 2, 1), Transposed(second, f_a, 4, 2, 1)
        )

        strides = (1, 2, 1, 2, 2) if config.size == 96 else (1, 2, 2, 2, 2)
        extra = [wide(n) for n in config.skips]
        blocks, cin, taken = [], widths[-1] + f_a, 0
        for channels, stride in zip(config.decoder, strides, strict=True):
            kernel = 4 if stride == 2 else 3  # a 4×4 kernel at stride 2 covers every pixel equally often
            blocks.append(Transposed(cin, wide(channels), kernel, stride, 1))
            cin = wide(channels)
            if stride == 2 and taken < len(extra):
                cin, taken = cin + extra[taken], taken + 1
        self.decoder = nn.ModuleList(blocks)
        self.strides = strides
        self.head = nn.Sequential(
            Conv(cin, wide(config.head[0]), 3, 1, 1), Conv(wide(config.head[0]), wide(config.head[1]), 3, 1, 1),
            nn.Conv2d(wide(config.head[1]), 4 if config.matte else 3, 3, 1, 1),
        )  # fmt: skip
        self.register_buffer("seen", seen(config.size, config.hidden), persistent=False)
        if config.matte:
            self.filling = Filling(self.seen)
            with torch.no_grad():
                self.head[-1].bias[3] = -1.0  # starts with more of the new than of the old

    def prepare(self, target: torch.Tensor, reference: torch.Tensor, identity: torch.Tensor) -> Face:
        """Return the face features: f_tgt(v_src) (B, C, 12, 12), then the skips, coarse to fine.

        `target` is hidden in part here (Config.hidden). With a matte the hidden part is filled, one more channel says
        which it is, and the filled target (B, 3, size, size) comes last. `identity` is (B, 512), L2-normalised.
        """
        v = identity * self.config.identity**0.5  # entries of unit size, as fully connected layers expect
        given = [target * self.seen, reference]
        if self.config.matte:
            filled = given[0] + self.filling(target) * (1 - self.seen)
            given = [filled, reference, self.seen.expand_as(target[:, :1])]
        f = self.stem(torch.cat(given, 1))
        levels = [f]
        for down in self.down:
            f = down(f)
            levels.append(f)
        for block in self.id_blocks:
            f = block(f, v)
        skips = [skip(level, v) for skip, level in zip(self.skips, reversed(levels[:-1]), strict=False)]
        return (f, *skips, given[0]) if self.config.matte else (f, *skips)

    def hear(self, mel: torch.Tensor) -> torch.Tensor:
        """Return the audio feature (B, 512 × width, 1, 1) of `mel` (B, 16, 80), time first."""
        return self.audio_encoder(mel.transpose(1, 2)[:, None])

    def step(self, face: Face, mel: torch.Tensor) -> torch.Tensor:
        """Return frames (B, 3, size, size) for face features as prepared and `mel` (B, 16, 80), time first."""
        return self.decode(face, self.hear(mel))

    def decode(self, face: Face, heard: torch.Tensor) -> torch.Tensor:
        """Return frames for face features as prepared and the audio feature of `hear`."""
        return self.mix(self.paint(self.first(face[0], heard), face[1:]), face)

    def first(self, f: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
        """Return what the decoder's first block makes of face and audio features."""
        return self.decoder[0](torch.cat([f, self.audio_map(heard)], 1))

    def paint(self, f: torch.Tensor, rest: Face) -> torch.Tensor:
        """Return the picture p (B, 3, size, size) for what the first block made and all face features but the first.

        With a matte a fourth channel is 1 − α, the share of the target.
        """
        skips = list(rest)
        for block, stride in zip(self.decoder[1:], self.strides[1:], strict=True):
            f = block(f)
            if stride == 2 and len(skips) > self.config.matte:
                f = torch.cat([f, skips.pop(0)], 1)
        return torch.sigmoid(self.head(f))

    def mix(self, painted: torch.Tensor, face: Face) -> torch.Tensor:
        """Return frames: the picture p, with a matte α p + (1 − α) t̂, t̂ the filled target.

        Nothing of the hidden mouth can come through.
        """
        if not self.config.matte:
            return painted
        picture, share = painted[:, :3], painted[:, 3:]
        return picture + share * (face[-1] - picture)

    def forward(
        self, target: torch.Tensor, reference: torch.Tensor, identity: torch.Tensor, mel: torch.Tensor
    ) -> torch.Tensor:
        return self.step(self.prepare(target, reference, identity), mel)


class Discriminator(nn.Module):
    """Multi-scale PatchGAN (§2.4): one PatchGAN on the picture, one on its half, and so on."""

    def __init__(self, width: int = 48, scales: int = 2) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchGAN(3, width) for _ in range(scales))

    def forward(self, picture: torch.Tensor) -> list[list[torch.Tensor]]:
        """Return, per scale, D^(1) … D^(M) of pictures in [0, 1]; the last is the map of patch scores."""
        x, out = picture * 2 - 1, []
        for scale in self.scales:
            features, y = [], x
            for layer in scale:
                y = layer(y)
                if isinstance(layer, nn.LeakyReLU):
                    features.append(y)
            out.append([*features, y])
            x = F.avg_pool2d(x, 2)
        return out
