"""What a model file says about itself: read as it was written, and refused in one sentence where it makes no sense."""

from __future__ import annotations

import html
import json
import re

import pytest

from edgetalk.backends import plan
from edgetalk.bundled import MODELS
from edgetalk.errors import ModelError
from edgetalk.metadata import AudioSpec, Metadata


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.xml")), ids=lambda path: path.stem)
def test_bundled_models_are_read_as_they_were_written(path):
    written = json.loads(html.unescape(re.findall(r'<edgetalk value="([^"]*)"', path.read_text())[0]))
    read = Metadata.from_json(json.dumps(written), path.name)
    assert json.loads(read.to_json()) == written
    assert read.audio is None or (read.audio.sample_rate, read.audio.window) in {(16000, 32), (16000, 16)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"family": None},
        {"fps": 25},
        {"fps": "0"},
        {"fps": "0.5"},
        {"fps": "241"},
        {"fps": "1e99999999"},
        {"fps": "25/0"},
        {"precision": 8},
        {"persons": "ada"},
        {"units": ["pose"]},
        {"units": {"pose": 5}},
        {"limits": 0.5},
        {"limits": {"pose": 0.5}},
        {"limits": {"pose": "abc"}},
        {"limits": {"pose": [0.1, 0.2]}},
        {"limits": {"pose": [0.1, 0.2, "0.3"]}},
        {"limits": {"pose": [0.1, 0.2, -0.3]}},
        {"limits": {"pose": [0.1, 0.2, float("nan")]}},
        {"engine": "OpenVINO"},
        {"audio": []},
        {"audio": {"hop": 0}},
        {"audio": {"hop": "200"}},
        {"audio": {"unheard": 1}},
        {"audio": {"kind": "spectrum"}},
        {"audio": {"kind": "mfcc"}},
        {"audio": {"sample_rate": 1_000_001}},
        {"audio": {"n_fft": 1, "hop": 1}},
        {"audio": {"n_fft": 16385}},
        {"audio": {"hop": True}},
        {"audio": {"hop": 801}},
        {"audio": {"n_mels": 513}},
        {"audio": {"fmin": -1}},
        {"audio": {"fmax": 1e7}},
        {"audio": {"fmin": 7600}},
        {"audio": {"fmin": 7599.5}},
        {"audio": {"preemphasis": 1.5}},
        {"audio": {"n_mfcc": 513}},
        {"audio": {"window": 4097}},
        {"audio": {"offset": float("nan")}},
        {"audio": {"offset": float("-inf")}},
        {"audio": {"offset": 4097}},
        {"persons": ["ada", 3]},
    ],
    ids=json.dumps,
)
def test_metadata_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ModelError, match="a.xml has edgetalk metadata that is damaged"):
        Metadata.from_json(json.dumps({"format": 1, "family": "amnet"} | wrong), "a.xml")


def test_front_ends_at_the_bounds_are_read():
    """And that of the published AMNet and APB2Face."""
    low = {"sample_rate": 1, "n_fft": 2, "hop": 1, "n_mels": 1, "fmin": 0, "fmax": 1, "preemphasis": -1, "window": 1}
    high = {"sample_rate": 1_000_000, "n_fft": 16384, "hop": 16384, "n_mels": 512, "fmin": 0.0, "fmax": 1e6}
    published = {"sample_rate": 44100, "n_fft": 2048, "hop": 512, "n_mels": 128, "fmin": 0.0, "fmax": 22050.0}
    for audio in (
        low | {"offset": -4096},
        low | {"offset": 0.1 + 0.2 - 23.7},  # computed: as many digits as a float has
        high | {"preemphasis": 1.0, "window": 4096, "offset": 4096.0},
        published | {"kind": "mfcc", "preemphasis": 0.0, "n_mfcc": 20, "window": 64, "offset": -32.0},
    ):
        text = json.dumps({"format": 1, "family": "amnet", "audio": audio})
        assert Metadata.from_json(text, "a.xml").audio == AudioSpec(**audio)


@pytest.mark.parametrize("inner", ["[" * 100_000, '{"a":' * 100_000])
def test_metadata_nested_without_end_is_damaged(inner):
    with pytest.raises(ModelError, match="a.xml has edgetalk metadata that is damaged"):
        Metadata.from_json('{"format":1,"family":' + inner, "a.xml")


def test_a_plan_of_nested_metadata_has_none(tmp_path):
    path = tmp_path / "amnet.plan"
    path.write_bytes(b"ftrt".ljust(64, b"\0") + b'{"format":' + b"[" * 10_000)
    with pytest.raises(ModelError, match="amnet.plan has no edgetalk metadata"):
        plan.read(path)
    text = Metadata("amnet", engine={"compute_capability": ["8.9"]}).to_json()
    with path.open("ab") as file:
        file.write(text.encode())
    assert plan.read(path).text == text


def test_whole_numbers_serve_as_real_ones():
    text = json.dumps({"format": 1, "family": "amnet", "audio": {"fmin": 0, "offset": -23}})
    assert Metadata.from_json(text, "a.xml").audio == AudioSpec(fmin=0.0, offset=-23.0)


@pytest.mark.parametrize("built", ["8.9", [8.9], []])
def test_a_plan_that_names_no_devices(tmp_path, built):
    text = Metadata("amnet", engine={"compute_capability": built}).to_json()
    path = tmp_path / "amnet.plan"
    path.write_bytes(b"ftrt".ljust(64, b"\0") + text.encode())
    with pytest.raises(ModelError, match="does not say for which device it was built"):
        plan.read(path)


@pytest.mark.parametrize("cuda", ["newest", "²", 12])
def test_a_plan_whose_cuda_is_no_version(tmp_path, cuda):
    read = Metadata("amnet", engine={"compute_capability": ["8.9"], "cuda": cuda})
    plan.Plan(tmp_path / "amnet.plan", "TensorRT", "10.3", "", read).check("10.3", "8.9", "12.6")
