"""Calibration samples: real windows of announcers' speech, held-out sentences for the judge, the same every time."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from edgetalk.cli import main
from edgetalk.metadata import AudioSpec
from edgetalk.train.amnet import calibration
from edgetalk.train.amnet.recipe import save_checkpoint
from edgetalk.train.announcers import sentences, speech
from edgetalk.train.networks.amnet import AMNet


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "amnet.safetensors"
    tensors = AMNet().state_dict() | {
        f"source.{name}": torch.full((64, 64, 3), 9, dtype=torch.uint8) for name in ("ada", "dan")
    }
    save_checkpoint(
        path, tensors, variant="amnet", size=64, audio=asdict(AudioSpec()), persons=["ada", "dan"], training={}
    )
    return path


def test_samples_are_speech_of_the_persons(checkpoint, tmp_path, monkeypatch):
    said = []
    real = speech.synthesize
    monkeypatch.setattr(speech, "synthesize", lambda text, voice: said.append((text, voice)) or real(text, voice))
    calibration.write(checkpoint, tmp_path / "c.npz", 6)
    with np.load(tmp_path / "c.npz") as file:
        arrays = dict(file)
    assert {name: array.shape for name, array in arrays.items()} == {
        "source": (2, 64, 64, 3),
        "mel": (6, 32, 80),
        "pose": (6, 3),
        "blink": (6, 2),
    }
    assert arrays["mel"].min() >= -4
    assert arrays["mel"].std() > 0.5
    assert np.abs(arrays["pose"]).max() < 0.6
    assert 0 <= arrays["blink"].min() <= arrays["blink"].max() <= 1
    for number, (text, voice) in enumerate(said):
        assert (text in sentences.held_out()) == (number % 5 == 0)
        assert speech.VOICES[voice].sex == "fm"[number % 2]
        assert voice not in speech.HELD_OUT_VOICES


def test_of_five_persons_not_one_alone_judges(tmp_path):
    """Every fifth sample is held out, and each shows its own person's picture."""
    path, names = tmp_path / "five.safetensors", ["ada", "bea", "cleo", "dan", "eli"]
    pictures = {f"source.{name}": torch.full((64, 64, 3), i, dtype=torch.uint8) for i, name in enumerate(names)}
    save_checkpoint(path, AMNet().state_dict() | pictures, variant="amnet", size=64, audio=asdict(AudioSpec()),
                    persons=names, training={})  # fmt: skip
    calibration.write(path, tmp_path / "c.npz", 15)
    with np.load(tmp_path / "c.npz") as file:
        shown, pose = file["source"][:, 0, 0, 0], file["pose"]
    assert shown.tolist() == [0, 1, 2, 3, 4, 1, 2, 3, 4, 0, 2, 3, 4, 0, 1]
    for number in (5, 14):
        drawn = calibration.sample(number, names[shown[number]], AudioSpec(), 0)
        np.testing.assert_array_equal(pose[number], drawn[1].astype(np.float32))


def test_same_seed_same_bytes(checkpoint, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        calibration.write(checkpoint, tmp_path / name, 6, seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--samples", "7"], "expected a multiple of its 2 persons"),
        (["--samples", "2"], "at least 5"),
        (["--seed", "-1"], "seed: got -1, expected 0 or more; change --seed"),
        (["--checkpoint", "nowhere"], "no checkpoint at nowhere"),
        (["-o", "c.txt"], "out: got c.txt, expected a name that ends in .npz"),
    ],
)
def test_what_is_refused_is_one_line(checkpoint, options, message, tmp_path, capfd):
    assert main(["data", "calibration", "--checkpoint", str(checkpoint), "-o", str(tmp_path / "c.npz"), *options]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert list(tmp_path.iterdir()) == []
