"""Exported AMNets with random weights and a calibration file for them."""

from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch

from edgetalk.export import to_onnx
from edgetalk.metadata import AudioSpec
from edgetalk.train.networks.amnet import VARIANTS, AMNet
from edgetalk.train.networks.checkpoint import save_checkpoint

SIZE, SAMPLES = 64, 6


def export(folder, width):
    """Write amnet.onnx, amnet-source.onnx and amnet.avatar at 64×64, of `width` times the channels."""
    architecture = VARIANTS["amnet"].scaled(width)
    torch.set_num_threads(1)
    torch.manual_seed(11)
    tensors = AMNet(architecture=architecture).state_dict()
    tensors["source.ada"] = torch.from_numpy(pictures(1)[0])
    save_checkpoint(
        folder / "amnet.safetensors",
        tensors,
        variant="amnet",
        architecture=architecture.plain(),
        size=SIZE,
        audio=asdict(AudioSpec()),
        persons=["ada"],
        training={},
    )
    to_onnx(folder / "amnet.safetensors", folder / "amnet.onnx")
    return folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Folder of an AMNet with all of its layers in an eighth of the width, which is built in half the time."""
    return export(tmp_path_factory.mktemp("exported"), 0.125)


@pytest.fixture(scope="session")
def full(tmp_path_factory):
    """Folder of an AMNet in its full width, for what depends on how many channels there are."""
    return export(tmp_path_factory.mktemp("full"), 1.0)


def pictures(count):
    """Seeded soft colours."""
    random = np.random.default_rng(5)
    soft = [cv2.GaussianBlur(random.normal(size=(SIZE, SIZE, 3)), (0, 0), 4) for _ in range(count)]
    return np.stack([np.clip(p / p.std() * 50 + 128, 0, 255).astype(np.uint8) for p in soft])


def samples(count=SAMPLES):
    """Arrays of a calibration file."""
    random = np.random.default_rng(6)
    return {
        "source": pictures(1),
        "mel": random.uniform(-4, 4, (count, 32, 80)).astype(np.float16),
        "pose": random.uniform(-0.3, 0.3, (count, 3)).astype(np.float32),
        "blink": random.uniform(0, 1, (count, 2)).astype(np.float64),
    }


@pytest.fixture(scope="session")
def calibration(tmp_path_factory):
    path = tmp_path_factory.mktemp("calibration") / "calibration.npz"
    np.savez_compressed(path, **samples())
    return path
