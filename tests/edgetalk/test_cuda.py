"""The GPU tests of the CUDA module, rehearsed on a stub of NVIDIA's driver library that says it is no GPU.

So they, the calls that edgetalk makes through cuda-bindings, and the record that bench/gpu.py keeps of them are tried
where no driver is. PyCUDA has to be compiled against a real one.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COMPILER = shutil.which("cc") or shutil.which("gcc")


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
def test_gpu_tests_of_the_cuda_module_on_a_stub_of_the_driver(tmp_path):
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")
    library = tmp_path / "libcuda.so.1"
    flags = ["-std=gnu11", "-O1", "-Wall", "-Werror", "-shared", "-fPIC"]
    subprocess.run([COMPILER, *flags, "-o", library, HERE.parent / "c/libcuda_stub.c", "-ldl"], check=True)
    page = tmp_path / "page.md"
    shutil.copyfile(ROOT / "docs/performance.md", page)
    before, _, rest = page.read_text().partition("<!-- bench.gpu begins -->")
    old, _, behind = rest.partition("<!-- bench.gpu ends -->")
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "PYTEST_ADDOPTS": "-k cuda-bindings"}
    told = subprocess.run(
        [sys.executable, "-m", "bench.gpu", "--page", page],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert int(re.search(r"(\d+) passed", told.stdout)[1]) >= 12
    assert "a stub, no GPU, compute capability 9.0" in told.stdout
    assert "stub: 0 bytes left on the device" in told.stderr
    record = page.read_text()
    assert record.startswith(before) and record.endswith(behind) and behind and old not in record
    assert re.search(r"^[0-9-]{10}, Python 3\.\S+, .*cuda-bindings [0-9.]+: (\d+) passed", record, re.MULTILINE)
    assert "\n- cuda-bindings: a stub, no GPU, compute capability 9.0" in record
    assert len(re.findall(r"^- cuda-bindings, CUDA graph (?:on|off): .*p50 \d+ us, p99", record, re.MULTILINE)) == 2


def test_a_page_without_the_marks_is_told_before_anything_is_measured(tmp_path):
    (tmp_path / "page.md").write_text("# Speed\n")
    command = [sys.executable, "-m", "bench.gpu", "--page", tmp_path / "page.md"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert told.returncode == 1 and told.stdout == ""
    assert "page.md has no <!-- bench.gpu begins -->" in told.stderr
