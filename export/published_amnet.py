"""The authors' AMNet checkpoints: {"netG", "netA", "epoch"}, their searched generator and their audio network.

Their predictors of the Geometric Controller are 1×1 convolutions, which are our linear layers. Their front end is
MFCC (64, 60) at 44.1 kHz. mel, pose and blink mean what their data set means by them and pass unchanged; landmarks
were trained in pixels of a 256×256 crop and come out as fractions of it, in their order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from edgetalk.errors import ModelError
from edgetalk.files import sha256
from edgetalk.metadata import AudioSpec
from edgetalk.train.networks.amnet import AMNet
from edgetalk.train.networks.checkpoint import Checkpoint

from . import published

SIZE = 256
"""Pixels of the crops that they trained on, and the unit of their landmarks."""
AUDIO = AudioSpec(
    kind="mfcc",
    sample_rate=44100,
    n_fft=2048,
    hop=512,
    n_mels=128,
    fmin=0.0,
    fmax=22050.0,
    preemphasis=0.0,
    n_mfcc=20,
    window=64,
    offset=-32.0,
)
UNITS = {
    "pose": "as in AnnVI: pitch, roll, yaw, about -0.6 to 0.6",
    "blink": "as in AnnVI: left, right, about -1 to 1",
    "landmarks": "fractions of width, height, in the order of AnnVI",
}
RULES = (
    (r"reenactor\.stem\.(\d)\.0\.", r"netG.stem.\1._op.conv."),
    (r"reenactor\.cells\.(\d)\.body\.0\.0\.", r"netG.cells.\1._op.conv1."),
    (r"reenactor\.cells\.(\d)\.body\.1\.0\.", r"netG.cells.\1._op.conv2."),
    (r"reenactor\.cells\.(\d)\.body\.2\.0\.", r"netG.cells.\1._op.conv3."),
    (r"reenactor\.cells\.(\d)\.skip\.0\.", r"netG.cells.\1._op.skip."),
    (r"reenactor\.cells\.(\d)\.0\.", r"netG.cells.\1._op.conv."),
    (r"reenactor\.controllers\.(\d)\.(weight|bias)\.", r"netG.ada_convs.\1.\2_conv."),
    (r"reenactor\.header\.(\d)\.(?:0\.)?", r"netG.header.\1._op.conv."),
    (r"fuser\.audio_features\.", "netA.audio1."),
    (r"fuser\.audio_time\.", "netA.audio2."),
    (r"fuser\.audio\.", "netA.trans_audio.0."),
    (r"fuser\.pose\.", "netA.trans_pose."),
    (r"fuser\.blink\.", "netA.trans_eye."),
    (r"fuser\.fusion\.", "netA.trans_cat1."),
    (r"landmark_layer\.", "netA.trans_cat2.0."),
)
"""Our names, of which the first that fits counts, to theirs."""


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint of the authors on the CPU.

    Raises FileNotFoundError, and ModelError where the file is damaged, runs code or is none of this layout.
    """
    path = Path(path)
    held = published.read(path)
    parts = [part for part in ("netG", "netA") if isinstance(held, Mapping) and isinstance(held.get(part), Mapping)]
    if not parts:
        published.state_dict(path, "amnet")  # says what else the file may be
    if len(parts) < 2:
        got = f"{parts[0]} of AMNet alone" if parts else "neither half of AMNet"
        raise ModelError(
            f"{path.name} has {got}, expected netG and netA as its authors save them; "
            "give their file that ends in _G.pth"
        )
    halves = {part: published.clean(held[part], path) for part in ("netG", "netA")}
    tensors = {f"{part}.{name}": value for part, half in halves.items() for name, value in half.items()}
    for name, value in tensors.items():
        if "_conv." in name and value.shape[2:] == (1, 1):
            tensors[name] = value.flatten(1)
        elif name.startswith("netA.trans_cat2"):
            tensors[name] = value / SIZE
    with torch.device("meta"):
        network = AMNet("amnet", (AUDIO.window, AUDIO.features))
    names = {name: _published(name) for name in network.state_dict()}
    published.fill(network, tensors, path, names)
    training = {"epoch": held.get("epoch")}
    return Checkpoint(network, "amnet", SIZE, AUDIO, (), {}, training, sha256(path))


def _published(name: str) -> str:
    for pattern, theirs in RULES:
        if re.match(pattern, name):
            return re.sub(pattern, theirs, name)
    raise KeyError(name)
