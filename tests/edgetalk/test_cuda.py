"""The GPU tests, rehearsed where no driver is: a test that only a GPU can run is otherwise never run at all.

Those of the CUDA module run on a stub of NVIDIA's driver library that says it is no GPU, and with them the calls that
edgetalk makes through cuda-bindings and the record that bench/gpu.py keeps. PyCUDA has to be compiled against a real
one. Of those of plans a few run on doubles: real plans of TensorRT-RTX, never opened, whose network OpenVINO computes.
"""

import gc
import os
import re
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path
from unittest.mock import Mock

import pytest

from edgetalk.backends import cuda
from edgetalk.errors import BackendError

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


DOUBLES = """
import itertools
import sys
from pathlib import Path

import edgetalk
from edgetalk import windows
from edgetalk.backends import cuda, open_engine, tensorrt
from edgetalk.engines import tensorrt as engines

sys.path.insert(0, {folder!r})
import tensorrt_double as double

device = double.Device()
device.capability = "8.9"
for module in (cuda, tensorrt, engines):
    module.open_device = lambda *_: device
if {missing!r}:
    sys.modules[{missing!r}] = None
else:
    network = open_engine(Path(edgetalk.__file__).parent / "models/amnet.onnx", precision="f32")
    package = double.computing(network, device, version={version!r})
    tensorrt.load_package = lambda *_: package
    tensorrt.Graph = type("Graph", (double.Graph,), {{"device": device}})
    sound_windows = windows.sound_windows  # of which OpenVINO, in the card's place, computes every fifth for long
    windows.sound_windows = lambda *told: itertools.islice(sound_windows(*told), 20)
"""


@pytest.mark.parametrize(
    ("missing", "ends"), [("", "2 passed"), ("openvino", "2 skipped"), ("onnxruntime", "2 skipped")]
)
def test_gpu_tests_of_plans_on_doubles(tmp_path, missing, ends):
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install 'edgetalk[rtx]'")
    plugin = DOUBLES.format(folder=str(HERE), missing=missing, version=trt.__version__)
    (tmp_path / "doubles.py").write_text(plugin)
    command = [sys.executable, "-m", "pytest", "-p", "doubles", "-p", "no:cacheprovider", "-m", "gpu", "-q", "-rs"]
    told = subprocess.run(
        [*command, HERE / "test_tensorrt_gpu.py", "-k", "(session_on and fp16) or doctor_of"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert re.search(rf"^{ends}, ", told.stdout, re.MULTILINE), told.stdout
    assert not missing or f"{missing} is not installed; plans are built and compared with it" in told.stdout


@pytest.fixture
def recording(monkeypatch):
    """A driver that records everything."""
    driver = Mock()
    for name in ("cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate"):
        getattr(driver, name).return_value = (0, 1)
    monkeypatch.setattr(cuda, "bindings", lambda: driver)
    monkeypatch.setattr(cuda, "checked", lambda driver, result: result[-1])


@pytest.mark.usefixtures("recording")
def test_nothing_is_collected_while_a_graph_is_recorded():
    """What the collector frees then breaks the recording."""
    seen = []
    cuda.Graph(7, lambda: seen.append(gc.isenabled()))
    with pytest.raises(ZeroDivisionError):
        cuda.Graph(7, lambda: 1 / 0)
    assert not any(seen) and gc.isenabled()


@pytest.mark.usefixtures("recording")
def test_nothing_is_collected_while_another_thread_ends_its_recording():
    seen, second_is_there, first_has_ended = [], threading.Event(), threading.Event()

    def first():
        second_is_there.wait(0.3)  # which has to wait for this one, and is not

    def second():
        second_is_there.set()
        first_has_ended.wait(10)
        seen.append(gc.isenabled())

    others = threading.Thread(target=cuda.Graph, args=(2, second))
    begun = threading.Event()
    ours = threading.Thread(target=lambda: (cuda.Graph(1, lambda: (begun.set(), first())), first_has_ended.set()))
    ours.start()
    assert begun.wait(10)
    others.start()
    for thread in (ours, others):
        thread.join()
    assert seen == [False] and gc.isenabled()


@pytest.mark.parametrize("text", ['Function "cuGraphLaunch" not found', "function cuGraphLaunch is not found"])
def test_a_driver_older_than_cuda_bindings_is_one_line(monkeypatch, text):
    """On a module that is made up, in the wheel's own words."""

    def absent(*_):
        raise RuntimeError(text)

    def broken(*_):
        raise RuntimeError("another error")

    made_up = types.SimpleNamespace(cuGraphLaunch=absent, cuInit=broken, CUresult=int)
    monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", types.SimpleNamespace(driver=made_up))
    monkeypatch.setattr(cuda, "_shared_driver", cuda._Driver)  # a namespace has no hash
    driver = cuda.bindings()
    with pytest.raises(BackendError) as caught:
        driver.cuGraphLaunch(1, 2)
    assert str(caught.value) == (
        f"cuda-bindings asks for what this NVIDIA driver does not have ({text}); update the driver, "
        "or: pip install 'cuda-bindings<13'"
    )
    with pytest.raises(RuntimeError, match="^another error$"):
        driver.cuInit(0)
    assert driver.CUresult is int


@pytest.mark.parametrize("provider", [cuda.Bindings, cuda.PyCuda])
def test_a_device_is_of_the_process_that_opened_it(monkeypatch, provider):
    """On a driver that is made up, whose calls fail the test."""
    device = object.__new__(provider)
    cuda.Owned.__init__(device)
    device.name, device._driver, device._context, device._objects = "a card", Mock(), Mock(), {}
    monkeypatch.setattr(cuda.os, "getpid", lambda: device._pid + 1)
    with pytest.raises(BackendError) as caught, device.current():
        pass
    assert str(caught.value) == "a card was opened before this process was forked; start it with 'spawn'"
    allocation = Mock()
    device._unpin(allocation)
    assert not device._driver.mock_calls and not device._context.mock_calls and not allocation.mock_calls
