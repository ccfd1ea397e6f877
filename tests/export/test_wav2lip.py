"""Published Wav2Lip checkpoints through export and engine, against plain functional calls on their names."""

import hashlib

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from edgetalk import Session
from edgetalk.backends import open_engine
from edgetalk.cli import main
from edgetalk.engines import build
from edgetalk.errors import InputError, ModelError
from edgetalk.export import to_onnx
from edgetalk.metadata import AudioSpec

from . import by_name
from .conftest import assert_plan, assert_same, metadata_of, onnx_run


@pytest.fixture(scope="module")
def weights():
    tensors = by_name.weights(by_name.wav2lip_shapes(0.5))
    tensors["output_block.1.weight"] *= 0.01  # soft pictures: the sigmoid hides errors at its ends
    return tensors


@pytest.fixture(scope="module")
def checkpoint(weights, tmp_path_factory):
    """As the authors save it, from several GPUs."""
    path = tmp_path_factory.mktemp("wav2lip") / "wav2lip_gan.pth"
    torch.save(
        {
            "state_dict": {f"module.{name}": value for name, value in weights.items()},
            "optimizer": None,
            "global_step": 3,
            "global_epoch": 1,
        },
        path,
    )
    return path


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    to_onnx(checkpoint, folder / "wav2lip.onnx", family="wav2lip")
    return folder


@pytest.fixture(scope="module")
def feeds():
    random = np.random.default_rng(5)
    return {
        "target": random.integers(0, 256, (1, 96, 96, 3), np.uint8),
        "mel": random.uniform(-4, 4, (1, 16, 80)).astype(np.float32),
    }


def test_names_and_shapes_are_the_published_ones():
    shapes = by_name.wav2lip_shapes()
    counted = sum(int(np.prod(shape)) for name, shape in shapes.items() if "running" not in name and "num_" not in name)
    assert counted == 36_298_035  # the 36.3 M that are published
    from edgetalk.train.networks.wav2lip import Wav2Lip

    with torch.device("meta"):
        assert {name: tuple(value.shape) for name, value in Wav2Lip().state_dict().items()} == shapes


def test_split_graphs_are_the_network(weights, exported, feeds):
    made = onnx_run(exported / "wav2lip.onnx", feeds | onnx_run(exported / "wav2lip-source.onnx", feeds))
    assert_same(made["frame"], by_name.wav2lip(weights, **feeds))


def test_whole_graph_is_the_network(weights, checkpoint, feeds, tmp_path):
    written = to_onnx(checkpoint, tmp_path / "wav2lip.onnx", family="wav2lip", whole=True)
    assert [path.name for path in written] == ["wav2lip.onnx"]
    assert_same(onnx_run(tmp_path / "wav2lip.onnx", feeds)["frame"], by_name.wav2lip(weights, **feeds))


def test_any_batch(weights, checkpoint, feeds, tmp_path):
    to_onnx(checkpoint, tmp_path / "wav2lip.onnx", family="wav2lip", batch=0, whole=True)
    three = {name: np.concatenate([value, value[::-1] * 0, value]) for name, value in feeds.items()}
    assert_same(onnx_run(tmp_path / "wav2lip.onnx", three)["frame"], by_name.wav2lip(weights, **three))


def test_engines_make_the_same_frames(weights, exported, feeds, tmp_path):
    build(exported / "wav2lip.onnx", tmp_path / "wav2lip.xml")
    source, step = open_engine(tmp_path / "wav2lip-source.xml"), open_engine(tmp_path / "wav2lip.xml")
    features = {name: value.copy() for name, value in source.run({"target": feeds["target"]}).items()}
    frame = step.run(features | {"mel": feeds["mel"]})["frame"].copy()
    source.close()
    step.close()
    assert_same(frame, by_name.wav2lip(weights, **feeds))


def test_plans_are_built(exported):
    assert_plan(exported / "wav2lip.onnx")
    assert (exported / "wav2lip-source.plan").is_file()


def test_the_lower_half_reaches_the_network_as_reference_alone(weights, exported, feeds):
    """What is below the middle of the target is masked in the first three channels, and seen in the last three."""
    spoilt = dict(weights)
    first = "face_encoder_blocks.0.0.conv_block.0.weight"
    spoilt[first] = weights[first].clone()
    spoilt[first][:, :3, :, :] = 0  # of what is masked nothing arrives
    other = feeds["target"].copy()
    other[:, :40] = 255 - other[:, :40]
    seen = [by_name.wav2lip(w, target, feeds["mel"]) for w in (weights, spoilt) for target in (feeds["target"], other)]
    assert np.abs(seen[0].astype(int) - seen[2]).max() > 8  # the upper half matters
    made = onnx_run(exported / "wav2lip.onnx", feeds | onnx_run(exported / "wav2lip-source.onnx", {"target": other}))[
        "frame"
    ]
    assert_same(made, seen[1])


def test_casts_come_first_and_last(exported):
    source, step = onnx.load(exported / "wav2lip-source.onnx"), onnx.load(exported / "wav2lip.onnx")
    assert [node.op_type for node in source.graph.node if "target" in node.input] == ["Cast"]
    assert [node.op_type for node in step.graph.node if "frame" in node.output] == ["Cast"]


def test_metadata(exported, checkpoint):
    step, source = metadata_of(exported / "wav2lip.onnx"), metadata_of(exported / "wav2lip-source.onnx")
    assert (step.family, step.role, source.role) == ("wav2lip", "step", "source")
    assert step.audio == AudioSpec(window=16, offset=0.0)
    assert step.checkpoint == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert step.source == hashlib.sha256((exported / "wav2lip-source.onnx").read_bytes()).hexdigest()


def test_its_weights_are_not_for_commerce(checkpoint, exported, tmp_path):
    for name in ("wav2lip", "wav2lip-source"):
        metadata = metadata_of(exported / f"{name}.onnx")
        assert metadata.use == "non-commercial" and "Wav2Lip" in metadata.licence
    with pytest.raises(ModelError, match="wav2lip.onnx is for non-commercial use .*commercial use was asked for"):
        Session(exported / "wav2lip.onnx", use="commercial")
    with pytest.raises(InputError, match="is for non-commercial use .* name the licence that allows it"):
        to_onnx(checkpoint, tmp_path / "w.onnx", family="wav2lip", use="any")
    to_onnx(checkpoint, tmp_path / "w.onnx", family="wav2lip", use="any", licence="bought on 2026-01-01", whole=True)
    bought = metadata_of(tmp_path / "w.onnx")
    assert (bought.licence, bought.use) == ("bought on 2026-01-01", "any")


def test_other_containers_are_the_same_weights(weights, feeds, tmp_path):
    halves = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    save_file(halves, tmp_path / "half.safetensors")
    torch.save(halves, tmp_path / "half.pth", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": {k: v for k, v in halves.items() if "num_batches" not in k}}, tmp_path / "old.pth")
    wanted = by_name.wav2lip({name: value.float() for name, value in halves.items()}, **feeds)
    for name in ("half.safetensors", "half.pth", "old.pth"):
        to_onnx(tmp_path / name, tmp_path / "w.onnx", family="wav2lip", whole=True)
        assert_same(onnx_run(tmp_path / "w.onnx", feeds)["frame"], wanted)


def test_there_is_one_size(checkpoint, tmp_path):
    with pytest.raises(InputError, match="size: got 192, Wav2Lip has 96 alone"):
        to_onnx(checkpoint, tmp_path / "w.onnx", family="wav2lip", size=192)


def test_command_line(checkpoint, tmp_path, capsys):
    arguments = ["export", "wav2lip", "--checkpoint", str(checkpoint), "-o", str(tmp_path / "wav2lip.onnx")]
    assert main(arguments) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wav2lip-source.onnx", "wav2lip.onnx"]
    assert main(["build", str(tmp_path / "wav2lip.onnx"), "-o", str(tmp_path / "wav2lip.xml")]) == 0
    assert "against f32" in capsys.readouterr().out
