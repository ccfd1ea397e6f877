"""libedgetalk with TensorRT's own headers, of which EDGETALK_TENSORRT_INCLUDE names folders, separated by colons.

github.com/NVIDIA/TensorRT has them under include/, one tag per version. tests/c/test_tensorrt.cpp, run by ctest, tries
the same without them, against doubles of TensorRT and of the driver that say so.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgetalk.metadata import Metadata

from .test_c_library import ROOT

HEADERS = [folder for folder in os.environ.get("EDGETALK_TENSORRT_INCLUDE", "").split(":") if folder]

pytestmark = pytest.mark.skipif(not HEADERS, reason="needs TensorRT's headers: EDGETALK_TENSORRT_INCLUDE=FOLDER")


def plan_of_rtx(path):
    """A real plan of TensorRT-RTX, of a network that is not ours, with an avatar beside it."""
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install 'edgetalk[rtx]'")
    shutil.copy(ROOT / "edgetalk/models/amnet.avatar", path.with_suffix(".avatar"))
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    x = network.add_input("x", trt.float32, (1, 8))
    network.mark_output(network.add_activation(x, trt.ActivationType.RELU).get_output(0))
    # 9.0 is what the stub of the driver claims; TensorRT-RTX builds for no such device, and is told 8.6.
    network.name = Metadata(family="amnet", engine={"compute_capability": ["8.6", "9.0"]}).to_json()
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    path.write_bytes(bytes(builder.build_serialized_network(network, config)))


def build(folder, include, *targets):
    options = [f"-DEDGETALK_TENSORRT_INCLUDE={include}", "-DCMAKE_BUILD_TYPE=Release"]
    for command in (["-S", ROOT, "-B", folder, *options], ["--build", folder, "--target", *targets]):
        done = subprocess.run(["cmake", *command], capture_output=True, text=True)
        assert done.returncode == 0 and "warning:" not in done.stderr, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("include", HEADERS)
def test_calls_what_the_vendors_headers_declare(tmp_path, include):
    """The double of TensorRT's library, compiled with them, has its functions where they say."""
    build(tmp_path, include, "edgetalk", "test_tensorrt", "double_nvinfer", "double_cuda")
    done = subprocess.run(
        ["ctest", "--test-dir", tmp_path, "-R", "tensorrt", "--output-on-failure"], capture_output=True
    )
    assert done.returncode == 0 and b"tests passed" in done.stdout, done.stdout.decode()[-3000:]
    assert (tmp_path / "libedgetalk.so").stat().st_size < 300_000


def major(include):
    """TensorRT's major version; 0 for headers of TensorRT-RTX, which number theirs anew."""
    text = Path(include, "NvInferVersion.h").read_text()
    found = re.search(r"define (?:NV_TENSORRT_MAJOR|TRT_MAJOR_ENTERPRISE) (\d+)", text)
    return int(found[1]) if found else 0


def test_the_real_library_of_tensorrt_rtx_refuses_in_one_line(tmp_path):
    """Its headers come with NVIDIA's SDK alone; those of TensorRT 11 with its version numbers stand in for them.

    Runtime and logger, all that is reached without a GPU, have the same layout there as in TensorRT-RTX 1.7.
    """
    libraries = pytest.importorskip("tensorrt_rtx_libs", reason="TensorRT-RTX is not installed").__path__[0]
    newest = [include for include in HEADERS if major(include) == 11]
    if not newest:
        pytest.skip("needs the headers of TensorRT 11")
    include = tmp_path / "include"
    shutil.copytree(newest[-1], include)
    text = (include / "NvInferVersion.h").read_text().replace("_ENTERPRISE", "_RTX")
    for part, number in (("MAJOR", 1), ("MINOR", 7), ("PATCH", 1)):
        text = re.sub(rf"define TRT_{part}_RTX \d+", f"define TRT_{part}_RTX {number}", text)
    (include / "NvInferVersion.h").write_text(text)
    build(tmp_path / "b", include, "talk", "double_cuda")
    plan_of_rtx(tmp_path / "amnet.plan")
    soundfile.write(tmp_path / "s.wav", np.zeros(1600), 16000, subtype="PCM_16")

    def says(**environment):
        command = [tmp_path / "b/talk", tmp_path / "amnet.plan", tmp_path / "s.wav"]
        done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"], **environment})
        assert done.returncode == 1
        return done.stderr.splitlines()[0]

    stub, real = {"LD_LIBRARY_PATH": str(tmp_path / "b/tests/c/double")}, {"EDGETALK_TENSORRT": libraries}
    assert "amnet.plan needs TensorRT-RTX's libtensorrt_rtx.so.1 (" in says(**stub)
    refused = r"was refused by TensorRT-RTX 1\.\d+\.\d+ \(IRuntime::deserializeCudaEngine: .*cudaError.*\); rebuild"
    assert re.search(refused, says(**stub, **real))
    if not os.path.exists("/dev/nvidia0"):
        assert "amnet.plan cannot run: this machine has no NVIDIA driver (libcuda was not found)" in says(**real)
