"""The landmark judge: a small network that measures a face's landmarks, pose and blink on a picture.

It is no part of AMNet: it is trained on drawn frames with exact labels (`edgetalk.train.experts.landmarks`) and then
measures generated frames, so that scores do not rest on what the generator believes about itself. It expects
the tight, stabilised crop of our data sets; it finds no faces in wide pictures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgetalk.errors import ModelError, word

from .tensors import write_tensors

FORMAT = "1"
SIDE = 128
"""Side of the picture that the convolutions see; every input is resized to it."""
WIDTHS = (32, 64, 128, 192)
LANDMARKS = 106
INNER_LIP = ((99, 105), (100, 104), (101, 103))
"""Pairs of inner-lip landmarks, upper and lower; the middle pair is the opening that we report."""


class Measured(NamedTuple):
    """What the judge reads off a batch of pictures."""

    landmarks: Tensor
    """(B, 106, 2) fractions of width and height."""
    pose: Tensor
    """(B, 3) yaw, pitch, roll in radians."""
    blink: Tensor
    """(B, 2) the subject's left and right eye; 0 open, 1 closed."""


def inner_opening(landmarks):
    """Inner-lip opening, |y(104) − y(100)|, as a fraction of the height, of landmarks (..., 106, 2)."""
    return abs(landmarks[..., 104, 1] - landmarks[..., 100, 1])


def resized(images: Tensor, side: int) -> Tensor:
    """Resize square pictures (B, C, S, S): area average downwards, bilinear upwards."""
    if images.shape[-1] == side:
        return images
    if images.shape[-1] > side:
        return F.interpolate(images, side, mode="area")
    return F.interpolate(images, side, mode="bilinear", align_corners=False)


class Residual(nn.Module):
    """Two 3×3 convolutions beside an identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x), inplace=True)


class LandmarkNet(nn.Module):
    """Residual network over 128×128 whose head keeps the 8×8 grid, so that places survive until the end.

    Landmarks are predicted as offsets from `mean`, the mean shape of the training labels.
    """

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, WIDTHS[0], 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(WIDTHS[0]),
            nn.ReLU(inplace=True),
        ]
        for narrow, wide in zip(WIDTHS[:-1], WIDTHS[1:], strict=True):
            layers += [
                nn.Conv2d(narrow, wide, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU(inplace=True),
                Residual(wide),
            ]
        self.body = nn.Sequential(*layers)
        grid = SIDE // 2 ** len(WIDTHS)
        self.head = nn.Sequential(
            nn.Conv2d(WIDTHS[-1], 48, 1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(48 * grid * grid, 256),
            nn.ReLU(inplace=True),
            nn.Linear(256, 2 * LANDMARKS + 3 + 2),
        )
        nn.init.zeros_(self.head[-1].weight)  # begins with the mean shape, eyes open, looking ahead
        nn.init.zeros_(self.head[-1].bias)
        self.register_buffer("mean", torch.full((LANDMARKS, 2), 0.5))

    def grid(self, images: Tensor) -> Tensor:
        """Last feature map, (B, 192, 8, 8), of pictures (B, 3, S, S) in [-1, 1]."""
        return self.body(resized(images, SIDE))

    def read(self, grid: Tensor) -> Measured:
        """Turn the last feature map into landmarks, pose and blink."""
        out = self.head(grid).float()
        points, pose, blink = out.split([2 * LANDMARKS, 3, 2], dim=1)
        return Measured(self.mean + 0.1 * points.unflatten(1, (LANDMARKS, 2)), pose, blink)

    def forward(self, images: Tensor) -> Measured:
        return self.read(self.grid(images))

    def measure(self, images: Tensor) -> tuple[Measured, Tensor]:
        """Measure pictures (B, 3, S, S) in [-1, 1]; also the pooled features (B, 192) of a Fréchet distance."""
        grid = self.grid(images)
        return self.read(grid), grid.float().mean(dim=(2, 3))


def stored(name: str, tensor: Tensor) -> Tensor:
    """A tensor as it lies in the file: weights in half precision, all else as it is."""
    return tensor.half() if tensor.dim() > 1 and name != "mean" else tensor


def save(path: str | Path, network: LandmarkNet, record: dict) -> None:
    """Write the judge, its weights in half precision, and how it was trained; whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: stored(name, tensor).detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_tensors(path, tensors, {"format": FORMAT, "family": "landmarks", "record": json.dumps(record)})


def load(path: str | Path, device: str | torch.device = "cpu") -> tuple[LandmarkNet, dict]:
    """Read a judge: the network in evaluation mode, and the record of its training and its own error.

    Raises ModelError where the file is no judge, FileNotFoundError where it is missing.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    command = f"python -m edgetalk.train.experts.landmarks --data DIR --seconds 60 -o {word(path)}"
    if not path.is_file():
        raise FileNotFoundError(f"no landmark judge {path}; train it with: {command}")
    network = LandmarkNet()
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            if header.get("family") != "landmarks" or header.get("format") != FORMAT:
                raise ModelError(f"{path} is no landmark judge of format {FORMAT}; train one with: {command}")
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(f"{path} is a damaged landmark judge; train it again ({error})") from None
    return network.eval().to(device), json.loads(header["record"])
