"""Published checkpoints all the way: export, build and dub, as docs/dub.md says, on random weights."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from edgetalk.backends import open_engine
from edgetalk.cli import main
from edgetalk.face import Face, write_track
from edgetalk.preprocess import TEMPLATES, align, crop_matrix
from edgetalk.reader import Reader
from edgetalk.writer import Writer

from . import by_name

POINTS = (TEMPLATES["arcface"] * 70 + (45, 25)).astype(np.float32)
PERSON = Face(np.float32([40, 20, 120, 110]), POINTS, 1.0, None, np.zeros(3, np.float32), np.zeros(2, np.float32))


def run(command: str) -> None:
    assert main(command.split()) == 0, command


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Checkpoints in their published layouts, a film, its track, a portrait and a sound."""
    import cv2

    folder = tmp_path_factory.mktemp("published")
    lips = by_name.weights(by_name.wav2lip_shapes(0.5))
    torch.save({"state_dict": {f"module.{name}": value for name, value in lips.items()}}, folder / "wav2lip_gan.pth")
    torch.save(by_name.weights(by_name.simswap_shapes(0.25, blocks=2)), folder / "latest_net_G.pth")
    torch.save(by_name.weights(by_name.simswap_arcface_shapes((1, 1, 1, 1), 0.25)), folder / "arcface.pth")
    y, x = np.mgrid[:120, :160] / 120
    picture = np.stack([127 + 100 * np.sin(5 * x + 3 * y), 255 * y, 190 - 100 * x], -1).astype(np.uint8)
    with Writer(folder / "v.mp4", (160, 120), Fraction(25)) as writer:
        for _ in range(8):
            writer.write(picture)
    write_track(folder / "v.track.npz", [PERSON] * 8, Fraction(25))
    cv2.imwrite(str(folder / "p.png"), picture[..., ::-1])
    write_track(folder / "p.track.npz", [PERSON], Fraction(25))
    soundfile.write(folder / "a.wav", np.random.default_rng(0).normal(0, 0.1, 5120), 16000)
    return folder


def test_the_documented_path(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    run("export wav2lip --checkpoint wav2lip_gan.pth -o wav2lip.onnx")
    run("build wav2lip.onnx -o wav2lip.xml")
    run("dub wav2lip.xml --video v.mp4 --audio a.wav -o out.mp4")
    before, after = next(iter(Reader("v.mp4"))).astype(int), list(Reader("out.mp4"))
    assert len(after) == 8
    changed = np.abs(after[4] - before).max(2) > 40
    assert changed[70:95, 70:90].mean() > 0.5, "around the mouth"
    assert not changed[:50].any() and not changed[:, :30].any() and not changed[:, 135:].any()
    assert main("dub wav2lip.xml --video v.mp4 --audio a.wav -o b.mp4 --use commercial".split()) == 1
    assert "wav2lip.xml is for non-commercial use" in capsys.readouterr().err

    run("export simswap --checkpoint latest_net_G.pth -o simswap.onnx")
    run("export arcface --checkpoint arcface.pth -o arcface.onnx --licence test")
    run("build simswap.onnx -o simswap.xml")
    run("build arcface.onnx -o arcface.xml")
    for order in ("wav2lip.xml simswap.xml", "simswap.xml wav2lip.xml"):
        run(f"dub {order} --video v.mp4 --audio a.wav --portrait p.png -o cascade.mp4")
        swapped = list(Reader("cascade.mp4"))
        assert len(swapped) == 8 and (np.abs(swapped[4] - before).max(2) > 20)[45:95, 55:105].mean() > 0.5


def test_simswaps_portrait_is_cut_as_its_extractor_was_trained(folder, monkeypatch):
    """The extractor that SimSwap was trained with sees the crop of SimSwap, not that of ArcFace."""
    from edgetalk.picture import read_picture
    from edgetalk.portrait import identity

    monkeypatch.chdir(folder)
    run("export arcface --checkpoint arcface.pth -o own.onnx --licence test")
    picture = read_picture("p.png")
    backend = open_engine(Path("own.onnx"))
    cut = {name: align(picture, crop_matrix(name, POINTS, 112), 112) for name in ("simswap", "arcface")}
    vectors = {name: backend.run({"portrait": crop[None]})["identity"].copy() for name, crop in cut.items()}
    found = identity("own.onnx", "p.png")
    np.testing.assert_allclose(found, vectors["simswap"], atol=1e-5)
    assert np.abs(found - vectors["arcface"]).max() > 1e-3
