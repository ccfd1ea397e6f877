"""Wav2Lip's published expert through export and engine, against plain functional calls on its names."""

import numpy as np
import pytest
import torch

from edgetalk.backends import open_engine
from edgetalk.engines import build
from edgetalk.errors import InputError
from edgetalk.export import to_onnx

from . import by_name
from .conftest import assert_plan, metadata_of, onnx_run


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("syncnet")
    tensors = by_name.weights(by_name.syncnet_shapes(0.25))
    torch.save({"state_dict": tensors, "global_step": 1}, folder / "lipsync_expert.pth")
    to_onnx(folder / "lipsync_expert.pth", folder / "syncnet.onnx", family="syncnet")
    random = np.random.default_rng(7)
    given = {
        "frames": random.integers(0, 256, (1, 5, 96, 96, 3), np.uint8),
        "mel": random.uniform(-4, 4, (1, 16, 80)).astype(np.float32),
    }
    return folder, given, by_name.syncnet(tensors, given["frames"], given["mel"])


def test_names_and_shapes_are_the_published_ones():
    from edgetalk.train.networks.syncnet import SyncNet

    with torch.device("meta"):
        ours = {name: tuple(value.shape) for name, value in SyncNet().state_dict().items()}
    assert ours == by_name.syncnet_shapes()


def test_graph_and_engine_are_the_network(model):
    folder, given, (mouth, sound) = model
    build(folder / "syncnet.onnx", folder / "syncnet.xml")
    engine = open_engine(folder / "syncnet.xml")
    for made in (onnx_run(folder / "syncnet.onnx", given), engine.run(given)):
        np.testing.assert_allclose(made["mouth"], mouth, atol=1e-5)
        np.testing.assert_allclose(made["sound"], sound, atol=1e-5)
    engine.close()
    assert mouth.shape == sound.shape == (1, 128) and np.ptp(mouth) > 0.05


def test_plan_is_built(model):
    assert_plan(model[0] / "syncnet.onnx")


def test_frames_keep_their_order_and_colours(model):
    folder, given, (mouth, _) = model
    for other in (given["frames"][:, ::-1], given["frames"][..., ::-1]):
        made = onnx_run(folder / "syncnet.onnx", given | {"frames": np.ascontiguousarray(other)})["mouth"]
        assert np.abs(made - mouth).max() > 1e-3
    upper = given["frames"].copy()
    upper[:, :, :48] = 0  # which the expert does not look at
    assert np.abs(onnx_run(folder / "syncnet.onnx", given | {"frames": upper})["mouth"] - mouth).max() < 1e-5


def test_metadata_and_size(model, tmp_path):
    folder = model[0]
    metadata = metadata_of(folder / "syncnet.onnx")
    assert (metadata.family, metadata.role, metadata.use) == ("syncnet", "sync", "non-commercial")
    with pytest.raises(InputError, match="SyncNet has 96 alone"):
        to_onnx(folder / "lipsync_expert.pth", tmp_path / "s.onnx", family="syncnet", size=64)
