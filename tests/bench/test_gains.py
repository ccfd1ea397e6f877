"""What each rewrite gains: which engines that takes, and that a planted loss comes out as it was planted."""

import contextlib

import numpy as np
import pytest
import torch
from torch import nn

from edgetalk.export.onnx_file import trace
from edgetalk.metadata import Metadata


@pytest.fixture
def gains(root):
    from bench import gains

    return gains


class Pixels(nn.Module):
    """A last stage as AMNet's is: three of the rewrites find something in it."""

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(5, 8, 3, 2, padding=1, output_padding=1, bias=False)
        self.norm, self.last = nn.InstanceNorm2d(8), nn.Conv2d(8, 3, 7, padding=3)

    def forward(self, x):
        made = torch.tanh(self.last(torch.relu(self.norm(self.up(x)))))
        return ((made + 1) * 127.5).round().permute(0, 2, 3, 1).byte()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return trace(Pixels(), {"x": torch.randn(1, 5, 8, 8)}, ["frame"])


@pytest.fixture(scope="module")
def samples():
    return [{"x": np.random.default_rng(i).normal(size=(1, 5, 8, 8)).astype(np.float32)} for i in range(2)]


def test_only_rewrites_that_find_something_are_measured(gains, model, samples):
    assert gains.useful(model, samples) == ["sub_pixel", "phase_grid", "early_cast"]


def test_all_rewrites_of_a_build_have_words(gains):
    names = [rewrite.__name__ for rewrite in (*gains.BEFORE, gains.quantize_early, *gains.AFTER)]
    assert list(gains.REWRITES) == names


def test_an_engine_leaves_out_one_rewrite_and_what_needs_it(gains):
    there = ["sub_pixel", "phase_grid", "early_cast"]
    assert gains.without(there) == {
        "sub_pixel": ("sub_pixel", "phase_grid"),
        "phase_grid": ("phase_grid",),
        "early_cast": ("early_cast",),
    }
    assert gains.first(there) == [tuple(there), ("phase_grid", "early_cast"), ("early_cast",), ()]


def test_engines_are_equal_but_for_what_they_leave_out(gains, model, samples, tmp_path):
    wanted = [(), ("sub_pixel", "phase_grid"), ("phase_grid",), ("early_cast",)]
    paths = gains.engines(model, Metadata(family="bench"), samples, wanted, tmp_path)
    text = {left: path.read_text() for left, path in paths.items()}
    kinds = {
        left: [kind for kind in ("ConvolutionBackpropData", "DepthToSpace") if kind in t] for left, t in text.items()
    }
    assert kinds[("sub_pixel", "phase_grid")] == ["ConvolutionBackpropData"]
    assert [kinds[left] for left in wanted if left != wanted[1]] == [["DepthToSpace"]] * 3
    reference = [gains.Runner(model)(feeds) for feeds in samples]
    assert all(gains.kept(path, samples, reference) > 0.97 for path in paths.values())
    assert len(set(text.values())) == 4


def test_a_planted_loss_is_found(gains, model, samples, tmp_path, monkeypatch):
    """The engine without `early_cast` takes a quarter longer, the one without any twice as long; all of it wanders."""
    load, random = iter(np.random.default_rng(0).uniform(1, 3, 100_000)), np.random.default_rng(1)

    class Worker:
        def __init__(self, contestant, engine, threads):
            assert contestant == "step" and engine.with_suffix(".avatar").is_file() and threads == 2
            self.cost = {"without-early_cast": 1.25, "without-sub_pixel-phase_grid-early_cast": 2.0}.get(
                engine.parent.name, 1.0
            )

        def block(self, frames):
            slow = next(load) if random.random() < 0.1 else 1.0  # a neighbour, now and then
            return [0.01 * self.cost * slow] * frames

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(gains, "Worker", Worker)
    monkeypatch.setattr(gains, "read", lambda path: (model, Metadata(family="bench")))
    monkeypatch.setattr(gains, "load", lambda *_: samples * 5)
    (tmp_path / "amnet.avatar").write_bytes(b"face")
    page, out = tmp_path / "page.md", tmp_path / "gains.json"
    page.write_text("<!-- bench.gains begins -->\nold\n<!-- bench.gains ends -->\n")
    given = ["--models", str(tmp_path), "--threads", "2", "--output", str(out), "--write", str(page)]
    gains.main([*given, "--prepared", str(tmp_path / "kept")])
    text = page.read_text()
    assert "| `early_cast`: pixels made bytes before they are moved | 1.250 × (1." in text
    assert "and so without `phase_grid` | 1.000 × (1.000" in text
    assert "| none | 1.000 × (1.000–1.000) |" in text and "| and `early_cast` | 2.000 × (" in text
    assert "| and `phase_grid` | 1.600 × (" in text and "20.0 ms with none, 10.0 ms with all" in text
    page.write_text("<!-- bench.gains begins -->\n<!-- bench.gains ends -->\n")
    gains.main([*given, "--page"])
    assert page.read_text() == text
    with contextlib.suppress(SystemExit):
        gains.main([*given, "--turns", "3"])
        pytest.fail("three turns have no interval")
