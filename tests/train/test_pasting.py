"""How near a dubbed film is to the exact swap: the measures, the rows, the table."""

import shutil

import numpy as np
import pytest

from edgetalk.export import to_onnx
from edgetalk.painter import Painter
from edgetalk.planes import of_rgb, to_rgb
from edgetalk.postprocess import within_jaw
from edgetalk.train.reports import pasting

pytestmark = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")


@pytest.fixture(scope="module")
def engine(swaps, tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    swaps.write(folder)
    to_onnx(folder / "wavsyncswap.safetensors", folder / "w.onnx", family="wavsyncswap")
    return folder / "w.onnx"


def test_pictures_are_measured_where_they_are_compared():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    under = np.zeros((32, 32), bool)
    under[8:24, 8:24] = True
    other = np.where(under[..., None], truth, 0).astype(np.uint8)
    assert pasting.measured(truth, truth, under) == (1.0, 0.0, 1.0)
    assert pasting.measured(other, truth, under)[1] == 0
    shifted = np.clip(truth.astype(int) + 3, 0, 255).astype(np.uint8)
    expected = np.square((shifted.astype(float) - truth)[under]).mean()
    assert pasting.measured(shifted, truth, under)[1] == pytest.approx(expected)
    assert pasting.measured(truth // 2, truth, under)[2] == pytest.approx(0.5, abs=0.02)


def test_rows_differ_in_what_they_say(engine, monkeypatch):
    monkeypatch.setattr(pasting, "SIZE", 192)
    with Painter(engine) as painter:
        shot = next(pasting.shots(painter, 0, 9))
        rows = {row: pasting.pasted(painter, shot, row).astype(int) for row in pasting.ROWS}
        matrix = painter.matrix(shot.face.points)
        beside = within_jaw(shot.face.jaw @ matrix[:, :2].T + matrix[:, 2], 96) < 0.01
    film, truth = (to_rgb(of_rgb(picture)).astype(int) for picture in (shot.film, shot.truth))
    where = np.rint(np.argwhere(beside)[:, ::-1] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    x, y = np.clip(np.rint(where).astype(int), 0, 191).T
    kept, repainted = (np.abs(rows[row] - film)[y, x].max() for row in ("dubbed", "jaw"))
    assert kept <= 4 and repainted > 20
    assert (rows["crop"] != rows["jaw"]).any()
    wrong = {row: np.abs(picture - truth)[:96].mean() for row, picture in rows.items()}  # below, the jaw is the film's
    assert wrong["faultless"] < 0.3 * wrong["dubbed"]


def test_the_command_prints_a_row_for_each(engine, monkeypatch, capsys):
    monkeypatch.setattr(pasting, "SIZE", 96)
    pasting.main(["--engine", str(engine), "--pairs", "1", "--every", "60"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| 3 frames of 96×96 | SSIM | PSNR, dB | edges |" and len(lines) == 2 + len(pasting.ROWS)
    likeness = {line.split("|")[1].strip(): float(line.split("|")[2]) for line in lines[2:]}
    assert max(likeness, key=likeness.get) == pasting.ROWS["faultless"]
