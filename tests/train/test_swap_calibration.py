"""Calibration samples of WavSyncSwap: drawn people who speak, unseen ones for the judge, the same every time."""

import numpy as np
import pytest

from edgetalk.cli import main
from edgetalk.train.announcers import identity, speech
from edgetalk.train.swap import calibration as swap_calibration


@pytest.fixture(scope="module")
def folder(swaps, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    swaps.write(folder)
    return folder


@pytest.fixture(scope="module")
def asked():
    """What was drawn and said while `written` was written."""
    return {"persons": [], "said": []}


@pytest.fixture(scope="module")
def written(folder, asked):
    persons, say = identity.random_identity, speech.synthesize
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swap_calibration, "random_identity", lambda n: asked["persons"].append(n) or persons(n))
        patch.setattr(speech, "synthesize", lambda *what: asked["said"].append(what) or say(*what))
        command = ["data", "calibration", "--checkpoint", str(folder / "wavsyncswap.safetensors"), "--samples", "6"]
        assert main([*command, "-o", str(folder / "c.npz")]) == 0
    with np.load(folder / "c.npz") as file:
        return dict(file)


def test_samples_are_drawn_people_and_speech(written, asked):
    assert {name: (array.dtype.name, array.shape) for name, array in written.items()} == {
        "target": ("uint8", (6, 96, 96, 3)),
        "reference": ("uint8", (6, 96, 96, 3)),
        "identity": ("float32", (6, 32)),
        "mel": ("float16", (6, 16, 80)),
    }
    np.testing.assert_allclose(np.linalg.norm(written["identity"], axis=1), 1, atol=1e-5)
    assert written["mel"].min() >= -4 and written["mel"].std() > 0.5
    pictures = written["target"].astype(int)
    apart = np.abs(pictures - written["reference"]).mean((1, 2, 3))
    others = np.abs(pictures - np.roll(pictures, 1, 0)).mean((1, 2, 3))
    assert (apart > 0.5).all() and (apart < others).all()  # the same person at another moment
    assert len(set(asked["persons"])) == len(asked["persons"]) == 12
    for i, person in enumerate(asked["persons"]):
        assert (person >= 1_000_000) == (i // 2 % 5 == 0)
    assert not {voice for _, voice in asked["said"]} & set(speech.HELD_OUT_VOICES)


def test_an_engine_is_built_with_them(folder, written, tmp_path):
    from edgetalk.engines import build, gate
    from edgetalk.export import to_onnx

    to_onnx(folder / "wavsyncswap.safetensors", tmp_path / "w.onnx", family="wavsyncswap")
    with pytest.MonkeyPatch.context() as patch:  # how well random weights quantise says nothing
        patch.setitem(gate.FLOORS, "int8", {"ssim": 0.8})
        built = build(tmp_path / "w.onnx", tmp_path / "w.xml", precision="int8", calibration=folder / "c.npz")
    assert built.gate["samples"] == "held out" and built.gate["frames"] == 2


def test_same_seed_same_sample():
    one, two, other = (swap_calibration.sample(3, 96, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[0], other[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--samples", "4"], "samples: got 4, expected at least 5"),
        (["--seed", "-1"], "seed: got -1, expected 0 or more; change --seed"),
        (["--checkpoint", "nowhere"], "no checkpoint at nowhere"),
        (["--identity", "nowhere"], "no identity extractor at nowhere"),
    ],
)
def test_what_is_refused_is_one_line(folder, options, message, tmp_path, capsys):
    command = ["data", "calibration", "--checkpoint", str(folder / "wavsyncswap.safetensors")]
    assert main([*command, "-o", str(tmp_path / "c.npz"), *options]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0], lines
    assert list(tmp_path.iterdir()) == []
