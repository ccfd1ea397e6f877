"""doctor: what it says of this machine and of avatars, and its exit status for engines that fit and that do not."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from edgetalk import avatar, cli, timing
from edgetalk.bundled import MODELS
from edgetalk.commands import doctor


def test_machine(edgetalk_cli):
    import openvino

    result = edgetalk_cli("doctor")
    assert result.returncode == 0 and result.stderr == ""
    assert platform.python_version() in result.stdout
    assert f"openvino      {openvino.__version__.split('-')[0]}" in result.stdout
    assert "device        CPU " in result.stdout
    assert f"{len(os.sched_getaffinity(0))} cores" in result.stdout


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="reads x86 flags of Linux")
def test_features_agree_with_what_openvino_finds():
    import openvino

    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    found = doctor.features()
    assert any("bf16" in feature for feature in found) == ("BF16" in capabilities)
    assert ("avx512" in found) == ("WINOGRAD" in capabilities or "BF16" in capabilities)


@pytest.mark.parametrize(
    ("flags", "slow"),
    [("fma avx2", True), ("avx2 avx_vnni", False), ("avx2 avx512f", True), ("avx2 avx512f avx512_vnni", False)],
)
def test_a_processor_for_which_int8_gains_less_is_told(tmp_path, monkeypatch, flags, slow):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
    monkeypatch.setattr(doctor, "PROC", tmp_path)
    told = dict(doctor.machine())["cpu"]
    assert ("no vnni" in told and "amnet-lite" in told) == slow


def test_memory_is_that_of_the_system():
    memory = doctor._meminfo()
    assert memory["MemTotal"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < memory["MemAvailable"] <= memory["MemTotal"]


def test_systems_that_tell_less_are_told_of_less(zoo, tmp_path, monkeypatch):
    """macOS and Windows have no /proc."""
    whole, engine = doctor.machine(), doctor.engine(str(zoo.root / "f32/amnet.xml"))
    monkeypatch.setattr(doctor, "PROC", tmp_path)
    monkeypatch.setattr(timing, "STATUS", tmp_path / "status")
    assert [label for label, _ in doctor.machine()] == [label for label, _ in whole if label != "memory"]
    assert doctor.engine(str(zoo.root / "f32/amnet.xml"))[1:] == engine[1:]
    assert timing.memory("VmRSS") == 0
    (tmp_path / "meminfo").write_text("MemTotal: 10 kB\nMemFree: 5 kB\n")  # as sandboxes have them
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t100 kB\n")
    assert not any("free" in text for _, text in (*doctor.machine(), *doctor.engine(str(zoo.root / "f32/amnet.xml"))))
    assert (timing.memory("VmRSS"), timing.memory("VmHWM")) == (102400, 0)


def test_a_device_whose_driver_is_broken_is_told_with_its_reason(monkeypatch):
    class Core:
        available_devices = ("CPU", "NPU")

        def get_property(self, device, name):
            if device == "NPU":
                raise RuntimeError("Exception from plugin.cpp:\nZE_RESULT_ERROR_UNINITIALIZED")
            return "a processor"

    monkeypatch.setattr("edgetalk.backends.openvino.shared_core", Core)
    assert doctor._devices()[:2] == [
        "CPU a processor (OpenVINO)",
        "NPU cannot be used: Exception from plugin.cpp: ZE_RESULT_ERROR_UNINITIALIZED (OpenVINO)",
    ]


@pytest.mark.parametrize("name", ["f32/amnet.xml", "int8/amnet.xml", "onnx/amnet.onnx", "onnx/amnet-source.onnx"])
def test_an_engine_that_fits(zoo, edgetalk_cli, name):
    result = edgetalk_cli("doctor", zoo.root / name)
    assert result.returncode == 0 and result.stderr == ""
    for told in ("OpenVINO", "amnet tiny", "25 per second", "this machine can run it"):
        assert told in result.stdout


def test_an_avatar_tells_whom_it_shows_and_on_what_terms(tmp_path, capsys):
    boxes = np.zeros((1, 4), np.float32)
    picture = avatar.Avatar(np.zeros((8, 8, 3), np.uint8), {}, boxes, "amnet", "0123456789abcdef")
    avatar.save_avatar(picture, tmp_path / "NOBODY.AVATAR")
    shapes = [((5, 8, 8, 3), np.uint8), ((5, 2, 3), np.float32), ((5,), np.float32), ((1, 4), np.float32)]
    film = replace(
        picture,
        boxes=boxes.repeat(5, 0),
        film=avatar.Film(*(np.zeros(*shape) for shape in shapes), (640, 360), Fraction(30)),
        name="ada",
        licence="CC BY-NC 4.0",
        use="non-commercial",
        consent="ada, on paper",
    )
    avatar.save_avatar(film, tmp_path / "ada.avatar")
    assert cli.main(["doctor", str(tmp_path / "NOBODY.AVATAR")]) == 0
    told = capsys.readouterr().out
    assert "nobody named, a picture, 8×8" in told and "any use, licence not stated" in told
    assert "amnet with source weights 0123456789ab\n" in told and "consent       not stated" in told
    assert cli.main(["doctor", str(tmp_path / "ada.avatar")]) == 0
    told = capsys.readouterr().out
    assert (
        "ada, 5 frames of a film of 640×360, 8×8, crops alone\n" in told and "non-commercial use, CC BY-NC 4.0" in told
    )
    assert "consent       ada, on paper" in told
    kept = replace(film, film=replace(film.film, pictures=np.zeros((5, 2), np.uint8)))
    avatar.save_avatar(kept, tmp_path / "ada.avatar")
    assert cli.main(["doctor", str(tmp_path / "ada.avatar")]) == 0
    assert "of 640×360, 8×8, the film's pictures\n" in capsys.readouterr().out


def test_a_bare_name_is_a_bundled_engine_or_else_a_bundled_face(capsys):
    assert cli.main(["doctor", "finn"]) == 0
    assert "shows         finn, a picture, 256×256\n" in capsys.readouterr().out
    assert cli.main(["doctor", "amnet"]) == 0  # of both, the engine
    assert "fits          this machine can run it" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["amnet", "amnet-lite", "wavsyncswap"])
def test_what_the_gate_measured_is_told_as_the_docs_say(name, capsys):
    model = MODELS / f"{name}.xml"
    entry = re.search(r'<edgetalk value="([^"]*)"', model.read_text())[1]
    gate = json.loads(entry.replace("&quot;", '"'))["gate"]
    assert cli.main(["doctor", name]) == 0
    told = f"SSIM {gate['ssim']:.4f}, {gate['psnr']:.1f} dB, at the mouth {gate['mouth_psnr']:.1f} dB"
    assert f"\ngate          {told}, against f32 on held-out frames\n" in capsys.readouterr().out
    if name == "wavsyncswap":
        text = " ".join((Path(__file__).parents[2] / "docs/performance.md").read_text().split())
        kept = f"SSIM {gate['ssim']:.4f}, {gate['psnr']:.1f} dB and {gate['mouth_psnr']:.1f} dB at the mouth in int8"
        assert kept in text


def test_of_an_engine_that_no_gate_has_seen_none_is_told(capsys):
    assert cli.main(["doctor", "amnet-source"]) == 0
    assert "gate" not in capsys.readouterr().out


def test_files_that_cannot_be_used(zoo, edgetalk_cli, tmp_path):
    (tmp_path / "amnet.xml").write_bytes((zoo.root / "f32/amnet.xml").read_bytes())
    (tmp_path / "amnet.plan").write_bytes(np.random.default_rng(0).bytes(1000))
    (tmp_path / "torn.avatar").write_bytes((zoo.root / "f32/amnet.xml").read_bytes()[:50])
    for name, told in (
        ("amnet.xml", "amnet.xml has no amnet.bin"),
        ("amnet.plan", "amnet.plan is no TensorRT plan"),
        ("none.xml", "none.xml"),
        (
            "amnet.bin",
            "amnet.bin is no engine that edgetalk knows by its suffix, nor an avatar; expected .xml, .onnx, .plan, "
            ".avatar\n",
        ),
        ("none.avatar", "none.avatar"),
        ("torn.avatar", "torn.avatar is truncated or no avatar"),
    ):
        result = edgetalk_cli("doctor", tmp_path / name)
        assert result.returncode == 1 and result.stdout == ""
        assert told in result.stderr and result.stderr.count("\n") == 1
