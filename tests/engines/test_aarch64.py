"""The CPU engine on aarch64, in an emulator: the frames must be those of this machine. It measures no speed.

Skips where tests/engines/aarch64.sh has laid nothing out; the emulated processor is a Cortex-A72 without SVE.
"""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import edgetalk

FOLDER = Path(os.environ.get("EDGETALK_AARCH64", "/nowhere"))
QEMU = shutil.which("qemu-aarch64-static")

pytestmark = [
    pytest.mark.skipif(QEMU is None, reason="needs an emulator: apt install qemu-user-static"),
    pytest.mark.skipif(
        not (FOLDER / "root").is_dir(),
        reason="needs the folder that tests/engines/aarch64.sh lays out, named in EDGETALK_AARCH64",
    ),
]

TALK = """
import platform, sys
import numpy as np
import edgetalk
pcm = np.load(sys.argv[2])
with edgetalk.Session(sys.argv[1]) as session:
    frames = np.stack(list(session.talk(pcm, motion="idle", seed=1)))
    print(platform.machine(), session.device)
np.save(sys.argv[3], frames)
"""
REFUSED = """
import sys
from edgetalk.backends import open_engine
from edgetalk.backends.tensorrt import load_package
from edgetalk.errors import BackendError
for call in (lambda: load_package("TensorRT", "amnet.plan"), lambda: load_package("TensorRT-RTX", "amnet.plan")):
    try:
        call()
    except BackendError as error:
        print(error)
"""


def emulate(code, *arguments):
    root = FOLDER / "root"
    python = next((root / "usr/bin").glob("python3.[0-9]*[0-9]"))
    paths = f"PYTHONPATH={FOLDER / 'site'}:{Path(edgetalk.__file__).parents[1]}"
    command = [QEMU, "-cpu", "cortex-a72", "-L", root, "-E", paths, python, "-c", code, *arguments]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_talks_like_this_machine(exported, tmp_path):
    pcm = np.random.default_rng(0).uniform(-0.5, 0.5, 16000 // 25 * 3).astype(np.float32)
    np.save(tmp_path / "pcm.npy", pcm)
    with edgetalk.Session(exported / "amnet.onnx") as session:
        expected = np.stack(list(session.talk(pcm, motion="idle", seed=1)))
    told = emulate(TALK, exported / "amnet.onnx", tmp_path / "pcm.npy", tmp_path / "frames.npy")
    assert told[0].startswith("aarch64 CPU ("), told
    frames = np.load(tmp_path / "frames.npy")
    assert frames.shape == expected.shape == (3, 64, 64, 3)
    assert np.abs(frames.astype(int) - expected).max() <= 1
    assert len(np.unique(expected)) > 50  # a flat picture would prove nothing


def test_names_what_a_jetson_needs():
    tensorrt, rtx = emulate(REFUSED)
    assert tensorrt == (
        "amnet.plan needs TensorRT (No module named 'tensorrt'): sudo apt install python3-libnvinfer (docs/jetson.md)"
    )
    assert rtx.endswith("(No module named 'tensorrt_rtx'): pip install \"edgetalk[rtx]\"")
