"""The GPU tests of the CUDA module, rehearsed on a stub of NVIDIA's driver library that says it is no GPU.

So they, and the calls that edgetalk makes through cuda-bindings, are tried where no driver is. PyCUDA has to be
compiled against a real one.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMPILER = shutil.which("cc") or shutil.which("gcc")


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
def test_gpu_tests_of_the_cuda_module_on_a_stub_of_the_driver(tmp_path):
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")
    library = tmp_path / "libcuda.so.1"
    flags = ["-std=gnu11", "-O1", "-Wall", "-Werror", "-shared", "-fPIC"]
    subprocess.run([COMPILER, *flags, "-o", library, HERE.parent / "c/libcuda_stub.c", "-ldl"], check=True)
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-k", "cuda-bindings", "-p", "no:cacheprovider", "-q"]
    told = subprocess.run(
        [*command, HERE / "test_tensorrt_gpu.py"],
        cwd=HERE.parents[1],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert told.returncode == 0, told.stdout
    assert int(re.search(r"(\d+) passed", told.stdout)[1]) >= 12
    assert "a stub, no GPU, compute capability 9.0" in told.stdout
    assert "stub: 0 bytes left on the device" in told.stderr
