"""The curve's own part: engines in turns, frames in the order of the persons, table and plot."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from edgetalk.errors import InputError


@pytest.fixture(scope="module")
def curve():
    from bench import curve

    return curve


class Engine:
    """Answers with one colour, the sum of what it was fed last; counts its runs."""

    def __init__(self):
        self.runs, self.fed = 0, {}

    def run(self, feeds):
        self.runs += 1
        self.fed |= {name: value.sum() for name, value in feeds.items()}
        return {"frame": np.full((1, 4, 4, 3), round(float(sum(self.fed.values()))), np.uint8)}


def test_every_person_is_drawn_with_its_own_appearance(curve):
    puppets = curve.Puppets(Engine(), None, {3: np.full((1, 1), 100.0), 5: np.full((1, 1), 200.0)})
    mel, pose, blink = torch.ones(3, 2, 2), torch.zeros(3, 3), torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 0.0]])
    made = puppets.draw(torch.tensor([3, 5, 3]), mel, pose, blink)
    assert made.shape == (3, 3, 4, 4) and made.dtype == torch.uint8
    assert made[:, 0, 0, 0].tolist() == [105, 206, 104]


def test_losses_are_told_against_f32_of_the_same_faces(curve, tmp_path):
    gate = {"ssim": 0.99, "psnr": 42.0, "mouth_psnr": 40.0}
    row = {"ms": 10.0, "speed": 1.0, "gate": gate, "reference": None}
    rows = [
        row | {"name": "f32", "truth": {"mouth_psnr": 25.0, "lip_r": 0.9}},
        row | {"name": "int8", "truth": {"mouth_psnr": 24.9, "lip_r": 0.91}, "speed": 3.0},
        row
        | {
            "name": "folded",
            "truth": {"mouth_psnr": 20.0, "lip_r": 0.8},
            "reference": {"mouth_psnr": 20.25, "lip_r": 0.82},
            "gate": gate | {"folded_statistics": "7 of 16 norms, for ada.avatar"},
        },
    ]
    text = curve.markdown(rows, 240, "six", "2026-11-20")
    assert "| int8 | 10.0 | 3.00 | 0.9900 | 42.0 | 40.0 | +0.100 | -0.010 |" in text
    assert "| folded | 10.0 | 1.00 | 0.9900 | 42.0 | 40.0 | +0.250 | +0.020 |" in text
    assert "7 of 16 norms, for ada.avatar" in text
    curve.plot(rows, tmp_path / "curve.svg")
    first = (tmp_path / "curve.svg").read_bytes()
    curve.plot(rows, tmp_path / "curve.svg")
    assert (tmp_path / "curve.svg").read_bytes() == first and first.startswith(b"<?xml")


def test_frames_too_few_for_a_correlation_of_lips_are_refused(curve):
    person = torch.arange(6).repeat_interleave(50)
    footage = SimpleNamespace(name="six", person=person, held_out=lambda: torch.arange(300))
    told = "^--limit: got 90, which leaves a person of six 15 held-out frames, expected at least 20 of each of the 6; "
    with pytest.raises(InputError, match=told):
        curve.held_out(footage, 90)
    assert person[curve.held_out(footage, 120)].bincount().tolist() == [20] * 6
    assert curve.held_out(footage, 1000).tolist() == [*range(300)]
