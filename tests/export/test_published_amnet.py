"""The authors' AMNet checkpoints through export, engine and session, against plain functional calls on their names."""

import numpy as np
import pytest
import torch

from edgetalk import Session
from edgetalk.backends import open_engine
from edgetalk.engines import build
from edgetalk.errors import InputError, ModelError
from edgetalk.export import to_onnx

from . import by_name
from .conftest import assert_plan, metadata_of, onnx_run

TERMS = "as agreed with the authors"


@pytest.fixture(scope="module")
def halves():
    generator, audio = by_name.amnet_shapes()
    assert sum(int(np.prod(shape)) for shape in generator.values()) == 4_085_200  # Table II: 4.085 M
    generator, audio = by_name.weights(generator), by_name.weights(audio, seed=1)
    audio["trans_cat2.0.bias"] += 128  # landmarks are pixels of a crop of 256
    return generator, audio


@pytest.fixture(scope="module")
def model(halves, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    generator, audio = halves
    torch.save(
        {"netG": {f"module.{name}": value for name, value in generator.items()}, "netA": audio, "epoch": 110},
        folder / "latest_256_G.pth",
    )
    to_onnx(folder / "latest_256_G.pth", folder / "amnet.onnx", size=64, licence=TERMS)
    random = np.random.default_rng(10)
    given = {
        "source": random.integers(0, 256, (1, 64, 64, 3), np.uint8),
        "mel": (20 * random.normal(size=(1, 64, 60))).astype(np.float32),
        "pose": np.array([[-0.5, 0.1, 0.6]], np.float32),
        "blink": np.array([[-0.9, 0.4]], np.float32),
    }
    return folder, given, by_name.amnet(generator, audio, **given)


def assert_same(made, wanted):
    frame, points = wanted
    assert made["frame"].dtype == np.uint8 and made["frame"].shape == frame.shape
    assert np.abs(made["frame"].astype(int) - frame).max() <= 1
    assert frame.std() > 5
    np.testing.assert_allclose(made["landmarks"], points / 256, atol=1e-5)


def test_split_graphs_are_the_network(model):
    folder, given, wanted = model
    assert_same(onnx_run(folder / "amnet.onnx", given | onnx_run(folder / "amnet-source.onnx", given)), wanted)


def test_engines_make_the_same_frames(model):
    folder, given, wanted = model
    build(folder / "amnet.onnx", folder / "amnet.xml")
    source, step = open_engine(folder / "amnet-source.xml"), open_engine(folder / "amnet.xml")
    features = source.run({"source": given["source"]})["appearance"].copy()
    made = {
        k: v.copy()
        for k, v in step.run({"appearance": features, **{k: given[k] for k in step.inputs if k in given}}).items()
    }
    source.close()
    step.close()
    assert_same(made, wanted)


def test_plans_are_built(model):
    assert_plan(model[0] / "amnet.onnx")


def test_controls_reach_the_network_unchanged(model):
    """A session takes the authors' numbers, which are no radians and none of its own ranges."""
    folder, given, (frame, _) = model
    with Session(folder / "amnet.onnx", source=given["source"][0]) as session:
        made = session.step(given["mel"][0], given["pose"][0], given["blink"][0])
        assert np.abs(made.astype(int) - frame[0]).mean() < 1  # the avatar's features are in half precision
        frames = list(session.talk(0.1 * np.random.default_rng(0).normal(size=3200).astype(np.float32), motion="still"))
        assert len(frames) == 5


def test_metadata(model):
    metadata = metadata_of(model[0] / "amnet.onnx")
    assert (metadata.family, metadata.variant, metadata.licence, metadata.use) == (
        "amnet",
        "amnet",
        TERMS,
        "non-commercial",
    )
    audio = metadata.audio
    assert (audio.kind, audio.sample_rate, audio.n_fft, audio.hop, audio.window, audio.features) == (
        "mfcc",
        44100,
        2048,
        512,
        64,
        60,
    )
    assert audio.offset == -32  # half of the window before the frame's start
    assert "AnnVI" in metadata.units["pose"]


def test_a_licence_is_asked_for(model, tmp_path):
    with pytest.raises(InputError, match="latest_256_G.pth is published without one that we know"):
        to_onnx(model[0] / "latest_256_G.pth", tmp_path / "amnet.onnx", size=64)


def test_files_that_are_not_both_halves(halves, tmp_path):
    generator, audio = halves
    torch.save({"netG": generator, "epoch": 1}, tmp_path / "no_audio.pth")
    torch.save(generator, tmp_path / "bare.pth")
    torch.save({"netD": {"a": torch.zeros(1)}}, tmp_path / "latest_256_D.pth")
    short = {name: value for name, value in audio.items() if not name.startswith("trans_eye")}
    torch.save({"netG": generator | {"stem.0._op.conv.weight": torch.zeros(2)}, "netA": short}, tmp_path / "short.pth")
    torch.save(by_name.weights(by_name.iresnet_shapes((1, 1, 1, 1), 0.125)), tmp_path / "arcface.pth")
    for name, message in (
        ("no_audio", "no_audio.pth has netG of AMNet alone, expected netG and netA"),
        ("bare", "bare.pth has neither half of AMNet, expected netG and netA"),
        ("latest_256_D", "latest_256_D.pth holds netD, expected the weights of amnet"),
        (
            "short",
            r"6 missing \(netA.trans_eye.0.weight, .* and 3 more\); 1 of another shape "
            r"\(netG.stem.0._op.conv.weight \(2,\) for \(24, 3, 7, 7\)\)",
        ),
        ("arcface", "is a checkpoint of arcface .* expected amnet"),
    ):
        with pytest.raises(ModelError, match=message):
            to_onnx(tmp_path / f"{name}.pth", tmp_path / "amnet.onnx", licence=TERMS)
