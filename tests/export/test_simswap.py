"""Published SimSwap generators through export and engine, against plain functional calls on their names."""

import numpy as np
import pytest
import torch

from edgetalk.backends import open_engine
from edgetalk.engines import build
from edgetalk.errors import InputError
from edgetalk.export import simswap, to_onnx

from . import by_name
from .conftest import assert_plan, assert_same, metadata_of, onnx_run


def save(path, **arrangement):
    tensors = by_name.weights(by_name.simswap_shapes(0.25, **arrangement))
    tensors["last_layer.1.weight"] *= 0.1
    torch.save(tensors, path)
    return tensors


def feeds(size, identity=512):
    random = np.random.default_rng(6)
    vector = random.normal(size=(1, identity))
    return {
        "target": random.integers(0, 256, (1, size, size, 3), np.uint8),
        "identity": (vector / np.linalg.norm(vector)).astype(np.float32),
    }


def test_names_and_shapes_are_the_published_ones():
    from edgetalk.train.networks.simswap import SimSwap

    for arrangement in ({}, {"deep": True}, {"high": True}):
        with torch.device("meta"):
            ours = {name: tuple(value.shape) for name, value in SimSwap(**arrangement).state_dict().items()}
        assert ours == by_name.simswap_shapes(**arrangement)


def test_224_through_both_files(tmp_path):
    tensors, given = save(tmp_path / "latest_net_G.pth"), feeds(224)
    to_onnx(tmp_path / "latest_net_G.pth", tmp_path / "simswap.onnx", family="simswap")
    wanted = by_name.simswap(tensors, **given)
    assert_same(onnx_run(tmp_path / "simswap.onnx", given)["frame"], wanted)
    build(tmp_path / "simswap.onnx", tmp_path / "simswap.xml")
    engine = open_engine(tmp_path / "simswap.xml")
    frame = engine.run(given)["frame"].copy()
    engine.close()
    assert_same(frame, wanted)
    other = by_name.simswap(tensors, given["target"], -given["identity"])
    assert np.abs(other.astype(int) - wanted).max() > 8  # the identity matters
    metadata = metadata_of(tmp_path / "simswap.onnx")
    assert (metadata.family, metadata.role, metadata.licence, metadata.use) == (
        "simswap",
        "step",
        "CC BY-NC 4.0",
        "non-commercial",
    )


@pytest.mark.parametrize("arrangement", [{"deep": True}, {"high": True}])
def test_the_forms_for_512(arrangement, tmp_path):
    tensors, given = save(tmp_path / "net_G.pth", blocks=2, **arrangement), feeds(128)
    to_onnx(tmp_path / "net_G.pth", tmp_path / "small.onnx", family="simswap", size=128)
    assert_same(onnx_run(tmp_path / "small.onnx", given)["frame"], by_name.simswap(tensors, **given))
    assert_plan(tmp_path / "small.onnx", "fp16")
    assert simswap.prepare(tmp_path / "net_G.pth", whole=False, size=None, batch=1).graphs[0].inputs[
        "target"
    ].shape == (1, 512, 512, 3)
    with pytest.raises(InputError, match="size: got 232, expected a multiple of 16"):
        to_onnx(tmp_path / "net_G.pth", tmp_path / "s.onnx", family="simswap", size=232)
