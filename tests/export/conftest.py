"""Checkpoints with random weights, and runs of the ONNX files that come of them."""

from dataclasses import asdict

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from edgetalk.metadata import AudioSpec, Metadata
from edgetalk.train.networks.amnet import AMNet
from edgetalk.train.networks.checkpoint import save_checkpoint

SIZE = 64


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


def write_checkpoint(path, variant, size=SIZE, people=2):
    torch.manual_seed(7)
    tensors = AMNet(variant).state_dict()
    for name, colour in (("ada", 40), ("dan", 200)):
        tensors[f"source.{name}"] = torch.full((size, size, 3), colour, dtype=torch.uint8)
    save_checkpoint(
        path,
        tensors,
        variant=variant,
        size=size,
        audio=asdict(AudioSpec()),
        persons=["ada", "dan"],
        training={"limits": {"pose": [0.4, 0.2, 0.1]}, "people": people},
    )
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("amnet") / "amnet.safetensors", "amnet")


@pytest.fixture(scope="session")
def checkpoint_k3(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("k3") / "amnet-k3.safetensors", "amnet-k3")


@pytest.fixture(scope="session")
def drive():
    """Seeded inputs, three samples."""
    random = np.random.default_rng(3)
    return {
        "source": random.integers(0, 256, (3, SIZE, SIZE, 3), np.uint8),
        "mel": random.uniform(-4, 4, (3, 32, 80)).astype(np.float32),
        "pose": random.uniform(-0.4, 0.4, (3, 3)).astype(np.float32),
        "blink": random.uniform(0, 1, (3, 2)).astype(np.float32),
    }


def spoil(checkpoint, path, change):
    """Write the checkpoint with other tensors or another header."""
    with safe_open(checkpoint, "pt") as file:
        header = dict(file.metadata())
    tensors = load_file(checkpoint)
    change(tensors, header)
    save_file(tensors, path, header)
    return path


def onnx_run(path, feeds):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = {x.name for x in session.get_inputs()}
    values = session.run(None, {name: value for name, value in feeds.items() if name in wanted})
    return {x.name: value for x, value in zip(session.get_outputs(), values, strict=True)}


def metadata_of(path):
    properties = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert set(properties) == {"edgetalk"}
    return Metadata.from_json(properties["edgetalk"], path.name)


def assert_same(frame, wanted):
    assert frame.dtype == np.uint8 and frame.shape == wanted.shape
    assert np.abs(frame.astype(int) - wanted).max() <= 1
    assert ((wanted > 2) & (wanted < 253)).mean() > 0.9 and wanted.std() > 5  # pictures in which an error would show


def assert_plan(path, precision="f32"):
    """Build the plan of a graph for a card that is not here; what runs it is checked where there is one."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install 'edgetalk[rtx]'")
    from edgetalk.engines import build

    metadata = build(path, path.with_suffix(".plan"), precision=precision, compute_capability=["8.6"])
    assert path.with_suffix(".plan").stat().st_size > 10_000
    assert (metadata.engine["name"], metadata.precision) == ("TensorRT-RTX", precision)
    assert metadata.family == metadata_of(path).family
