"""A .plan file is judged by its bytes: real TensorRT-RTX plans, cut, patched and renamed, before TensorRT sees them."""

import argparse
import dataclasses
import functools
import importlib
import re
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import pytest

from edgetalk.backends import cuda, open_engine, preflight
from edgetalk.backends import plan as plans
from edgetalk.backends import tensorrt as backend
from edgetalk.cli import main
from edgetalk.errors import BackendError, InputError, ModelError
from edgetalk.metadata import AudioSpec, Metadata

from . import tensorrt_double as double

METADATA = Metadata(family="amnet", audio=AudioSpec(), engine={"compute_capability": ["8.7"]})
REBUILD = "edgetalk build amnet.onnx -o amnet.plan"
AGAIN = f"{REBUILD} --precision f32 --compute-capability 8.9,12.0"


@pytest.fixture(scope="module")
def bytes_of_plans():
    """Real plans for 8.9 and 12.0, with our metadata and without, built by the vendor's own calls."""
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install 'edgetalk[rtx]'")
    told = dataclasses.replace(METADATA, engine={"compute_capability": ["8.9", "12.0"]}).to_json()
    built = []
    for name in (told, "somebody's network"):
        builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        x = network.add_input("x", trt.float32, (1, 8))
        network.mark_output(network.add_activation(x, trt.ActivationType.RELU).get_output(0))
        network.name = name
        config = builder.create_builder_config()
        config.num_compute_capabilities = 2
        config.set_compute_capability(trt.ComputeCapability.SM89, 0)
        config.set_compute_capability(trt.ComputeCapability.SM120, 1)
        built.append(bytes(builder.build_serialized_network(network, config)))
    return built


@pytest.fixture
def write(tmp_path):
    def file(content):
        (tmp_path / "amnet.plan").write_bytes(content)
        return tmp_path / "amnet.plan"

    return file


@pytest.fixture
def never_deserialised(monkeypatch):
    """TensorRT-RTX's Runtime must not even be made."""
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")

    def made(*_):
        pytest.fail("the plan reached TensorRT")

    monkeypatch.setattr(trt, "Runtime", made)


def refused(path, error=ModelError):
    """What opening and preflight say, which is the same, in one line."""
    told = set()
    for call in (open_engine, preflight):
        with pytest.raises(error) as caught:
            call(path)
        told.add(str(caught.value))
    assert len(told) == 1
    message = told.pop()
    assert "\n" not in message
    return message


def test_reads_header_and_metadata_of_a_real_plan(bytes_of_plans, write):
    import tensorrt_rtx

    plan = plans.read(write(bytes_of_plans[0]))
    assert (plan.product, plan.version) == ("TensorRT-RTX", tensorrt_rtx.__version__)
    assert plan.capabilities == ("8.9", "12.0") and plan.metadata.audio == AudioSpec()


def test_truncated(bytes_of_plans, write, never_deserialised):
    whole = bytes_of_plans[0]
    for size in (65, len(whole) // 2, len(whole) - 1):
        message = refused(write(whole[:size]))
        assert message == f"amnet.plan is truncated at {size} of {len(whole)} bytes; copy it again"
    assert refused(write(whole[:40])) == "amnet.plan is truncated at 40 bytes; copy it again"


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"hello, this is a text\n", "begins with b'hello, t'"), (b"", "is empty"), (b"PK\x03\x04", "begins with b'PK")],
)
def test_no_plan_at_all(write, never_deserialised, content, what):
    message = refused(write(content))
    assert message.startswith(f"amnet.plan is no TensorRT plan, it {what}")
    assert message.endswith(f"; build one with: {REBUILD}")


def test_no_metadata(bytes_of_plans, write, never_deserialised):
    assert refused(write(bytes_of_plans[1])) == f"amnet.plan has no edgetalk metadata; build it with: {REBUILD}"


def test_metadata_without_a_device_newer_or_damaged(write, never_deserialised):
    text = dataclasses.replace(METADATA, engine={}).to_json()
    assert "does not say for which device it was built; rebuild it" in refused(write(double.header(metadata=text)))
    newer = METADATA.to_json().replace('"format":1', '"format":9')
    assert "has metadata of format 9" in refused(write(double.header(metadata=newer)))
    damaged = METADATA.to_json().replace('"family":"amnet"', '"family":"amnet')
    assert "has no edgetalk metadata" in refused(write(double.header(metadata=damaged)))


def test_metadata_is_found_behind_the_same_characters(write):
    text = METADATA.to_json()
    path = write(double.header(metadata='{"format":' + "\x80\xff" * 9 + text))
    assert plans.read(path).text == text


def test_unknown_layout(bytes_of_plans, write, never_deserialised):
    changed = bytearray(bytes_of_plans[0])
    changed[4] = 1
    assert "has a plan header of layout 1, expected 0; rebuild it" in refused(write(changed))


def test_wrong_version(bytes_of_plans, write, never_deserialised):
    import tensorrt_rtx

    changed = bytearray(bytes_of_plans[0])
    changed[24:28] = 1, 6, 0, 5
    message = refused(write(changed))
    assert re.fullmatch(
        r"amnet.plan was built for 8.9 and 12.0 with TensorRT-RTX 1.6.0.5, this (machine is|device is .*) with "
        rf"TensorRT-RTX {re.escape(tensorrt_rtx.__version__)}; rebuild it here: {AGAIN}",
        message,
    )


def test_wrong_compute_capability(bytes_of_plans, write, never_deserialised, monkeypatch):
    import tensorrt_rtx

    monkeypatch.setattr(backend, "open_device", lambda *_: double.Device())  # of 8.6; on a real one: -m gpu
    assert refused(write(bytes_of_plans[0])) == (
        f"amnet.plan was built for 8.9 and 12.0 with TensorRT-RTX {tensorrt_rtx.__version__}, this device is 8.6 with "
        f"TensorRT-RTX {tensorrt_rtx.__version__}; rebuild it here: {AGAIN},8.6"
    )


def test_plan_of_tensorrt_for_another_board(write, monkeypatch):
    monkeypatch.setattr(backend, "open_device", lambda *_: double.Device())
    path = write(double.header(b"ftrt", (10, 3, 0, 26), METADATA.to_json()))
    assert refused(path).startswith("amnet.plan was built for 8.7 with TensorRT 10.3.0.26, this device is 8.6")


def test_driver_older_than_the_cuda_of_the_plan(write, monkeypatch):
    monkeypatch.setattr(backend, "open_device", lambda *_: double.Device())  # its driver supports up to 13.0
    text = dataclasses.replace(METADATA, engine={"compute_capability": ["8.6"], "cuda": "13.2"}).to_json()
    later = write(double.header(b"ftrt", metadata=text))
    assert "with CUDA" not in refused(later, (BackendError, ModelError))  # drivers run all of their major version
    text = dataclasses.replace(METADATA, engine={"compute_capability": ["8.6"], "cuda": "14"}).to_json()
    message = refused(write(double.header(b"ftrt", metadata=text)))
    assert message.startswith("amnet.plan was built with CUDA 14, this driver supports up to 13.0; update the driver")


@pytest.mark.parametrize(
    ("product", "precision", "engine"),
    [
        (b"vtrt", "fp16", {"compute_capability": ["8.9"]}),
        (b"vtrt", "int8", {"compute_capability": ["8.9", "12.0"]}),
        (b"ftrt", "fp16", {"compute_capability": ["8.7"], "hardware": "ampere+", "version_compatible": True}),
    ],
)
def test_the_command_that_is_told_builds_the_same_plan(write, monkeypatch, product, precision, engine):
    """Read by the parser of `edgetalk build` itself, it asks for what the plan says of itself."""
    command = importlib.import_module("edgetalk.engines.command")
    parser = argparse.ArgumentParser()
    command.configure(parser)
    text = dataclasses.replace(METADATA, precision=precision, engine=engine).to_json()
    plan = plans.read(write(double.header(product, metadata=text)))
    args = parser.parse_args(plan.rebuild().split()[2:])
    assert (str(args.model), str(args.out), args.precision) == ("amnet.onnx", "amnet.plan", precision)
    assert args.calibration == (Path("FILE.npz") if precision == "int8" else None)
    assert args.compute_capability == (tuple(engine["compute_capability"]) if product == b"vtrt" else None)
    assert args.hardware == engine.get("hardware") and args.version_compatible == engine.get("version_compatible")
    with pytest.raises(InputError, match="build another: .* --precision bf16"):
        backend.open(plan.path, device="auto", precision="bf16", threads=None, streams=1)


@pytest.mark.parametrize(
    ("built", "here", "compatible", "fits"),
    [
        ("10.3.0.26", "10.3.0.26", False, True),
        ("10.3.0.26", "10.3.0", False, True),  # as JetPack's package calls itself
        ("10.3.0.26", "10.3.0.30", False, False),
        ("10.3.0.26", "10.7.0", False, False),
        ("10.3.0.26", "10.7.0.23", True, True),
        ("10.3.0.26", "11.4.1.2", True, True),
        ("10.7.0.23", "10.3.0.26", True, False),
        ("11.4.0.1", "12.0.0.1", True, False),
    ],
)
def test_versions_that_fit(write, built, here, compatible, fits):
    text = dataclasses.replace(METADATA, engine=METADATA.engine | {"version_compatible": compatible}).to_json()
    plan = plans.read(write(double.header(b"ftrt", tuple(map(int, built.split("."))), text)))
    assert plan.fits_version(here) == fits


def test_devices_that_fit(write):
    engine = {"compute_capability": ["8.6"], "hardware": "ampere+"}
    plan = plans.read(write(double.header(b"ftrt", metadata=dataclasses.replace(METADATA, engine=engine).to_json())))
    assert [plan.fits_capability(c) for c in ("7.5", "8.0", "8.9", "10.0", "12.0")] == [False, True, True, True, True]
    plan = plans.read(write(double.header(b"ftrt", metadata=METADATA.to_json())))
    assert [plan.fits_capability(c) for c in ("8.6", "8.7")] == [False, True]


def test_a_plan_that_fits_is_described(bytes_of_plans, write, monkeypatch):
    import tensorrt_rtx

    device = double.Device()
    device.capability = "8.9"
    monkeypatch.setattr(backend, "open_device", lambda *_: device)
    told = dict(preflight(write(bytes_of_plans[0])))
    version = tensorrt_rtx.__version__
    assert told["engine"] == f"TensorRT-RTX {version} for 8.9 and 12.0; {version} is here"
    assert told["device"] == "recording double (8.9), 3.0 of 4.0 GiB free"
    assert told["driver"] == "CUDA 13.0 through double"
    assert told["graph"].startswith(f"CUDA graph o{'n' if cuda.can_capture() else 'ff'}")


@pytest.mark.parametrize(
    ("product", "extra", "captures", "state"),
    [
        ("TensorRT", "tensorrt", True, "on"),
        ("TensorRT", "tensorrt", False, "off"),
        ("TensorRT-RTX", "rtx", False, "off"),
    ],
)
def test_doctor_tells_whether_steps_are_graphs(write, monkeypatch, capsys, product, extra, captures, state):
    """On a device and a package that are doubles."""
    magic, version = (b"ftrt", "10.3.0.26") if product == "TensorRT" else (b"vtrt", "1.7.1.116")
    package, device = types.ModuleType("double"), double.Device()
    package.__version__, device.capability = version, "8.7"
    monkeypatch.setitem(sys.modules, plans.PACKAGES[product], package)
    monkeypatch.setattr(backend, "open_device", lambda *_: device)
    monkeypatch.setattr(backend, "can_capture", lambda: captures)
    path = write(double.header(magic, tuple(map(int, version.split("."))), METADATA.to_json()))
    assert main(["doctor", str(path)]) == 0
    told = capsys.readouterr().out.splitlines()
    hint = "" if captures else f', it needs: pip install "edgetalk[{extra}]"'
    assert f"graph         CUDA graph {state}{hint}" in told
    assert told[-1] == "fits          this machine can run it"


@pytest.mark.parametrize(
    ("magic", "engine", "told"),
    [
        (b"ftrt", {"device": "NVIDIA T4"}, True),
        (b"ftrt", {"device": "NVIDIA T4", "hardware": "same"}, False),
        (b"ftrt", {"device": "recording double"}, False),
        (b"ftrt", {}, False),
        (b"vtrt", {"device": "NVIDIA T4"}, False),
    ],
)
def test_doctor_tells_that_a_plan_was_built_on_another_model_of_gpu(write, monkeypatch, capsys, magic, engine, told):
    """On a device and a package that are doubles."""
    package = types.ModuleType("double")
    package.__version__ = "1.7.1.116"
    monkeypatch.setattr(backend, "load_package", lambda *_: package)
    monkeypatch.setattr(backend, "open_device", lambda *_: double.Device())
    metadata = dataclasses.replace(METADATA, engine={"compute_capability": ["8.6"]} | engine)
    assert main(["doctor", str(write(double.header(magic, metadata=metadata.to_json())))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("other card")] == told * [
        "other card    it was built on NVIDIA T4, this is recording double: it may be slow or fail; "
        f"rebuild it here: {REBUILD} --precision f32"
    ]
    assert lines[-1] == "fits          this machine can run it"


@pytest.mark.parametrize(
    ("device", "visible", "begins"),
    [
        ("auto", None, ""),
        ("cuda:0", None, ""),
        ("cuda:1", None, "CUDA_VISIBLE_DEVICES=1 "),
        ("cuda:1", "4, 7", "CUDA_VISIBLE_DEVICES=7 "),
        ("cuda:0", "4,7", ""),
    ],
)
def test_a_rebuild_for_another_gpu_names_it(write, monkeypatch, device, visible, begins):
    """TensorRT builds on the first GPU that it sees; TensorRT-RTX for those that it is told."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(
        backend, "load_package", lambda *_: types.SimpleNamespace(__version__="1.7.1.116", __name__="d")
    )
    monkeypatch.setattr(backend, "open_device", lambda *_: double.Device())
    path = write(double.header(b"ftrt", metadata=METADATA.to_json()))
    with pytest.raises(ModelError, match=f"; rebuild it here: {begins}{REBUILD} --precision f32$"):
        open_engine(path, device=device)
    with pytest.raises(InputError, match=f"; build another: {begins}{REBUILD} --precision fp16$"):
        open_engine(path, device=device, precision="fp16")
    path = write(double.header(b"vtrt", metadata=METADATA.to_json()))
    with pytest.raises(ModelError, match=f"; rebuild it here: {REBUILD} "):
        open_engine(path, device=device)


def test_a_package_of_a_newer_cuda_than_the_drivers_is_told_before_it_is_tried(write, monkeypatch):
    """On a device and a package that are doubles."""
    package, device = types.ModuleType("tensorrt"), double.Device()
    package.__version__, device.driver = "11.4.1.2", "12.4"
    monkeypatch.setattr(backend, "load_package", lambda *_: package)
    monkeypatch.setattr(backend, "open_device", lambda *_: device)
    monkeypatch.setattr(plans, "toolkit", lambda _: "13")
    monkeypatch.setattr(plans.platform, "machine", lambda: "x86_64")
    metadata = dataclasses.replace(METADATA, engine={"compute_capability": ["8.6"], "cuda": "13"})
    path = write(double.header(b"ftrt", (11, 4, 1, 2), metadata.to_json()))
    assert refused(path, BackendError) == (
        "TensorRT 11.4.1.2 of CUDA 13 cannot start CUDA with this driver, which supports up to CUDA 12.4; "
        "update the driver, or install the package of its CUDA: pip install tensorrt-cu12"
    )
    monkeypatch.setattr(plans.platform, "machine", lambda: "aarch64")
    assert refused(path, BackendError).endswith(f"of its CUDA: {plans.JETPACK}")


@pytest.mark.parametrize(("product", "extra"), [("TensorRT", "tensorrt"), ("TensorRT-RTX", "rtx")])
def test_a_gpu_without_the_package_of_the_plan(write, monkeypatch, product, extra):
    device = double.Device()
    device.capability = "8.7"
    monkeypatch.setattr(backend, "open_device", lambda *_: device)
    monkeypatch.setitem(sys.modules, plans.PACKAGES[product], None)
    monkeypatch.setattr(plans.platform, "machine", lambda: "x86_64")
    path = write(double.header(b"ftrt" if product == "TensorRT" else b"vtrt", metadata=METADATA.to_json()))
    message = refused(path, BackendError)
    assert message.startswith(f"amnet.plan needs {product} (import of {plans.PACKAGES[product]} halted")
    assert message.endswith(f'pip install "edgetalk[{extra}]"')
    device.capability = "8.9"  # what is wrong with the file comes first
    assert refused(path).startswith("amnet.plan was built for 8.7")
    monkeypatch.setattr(plans.platform, "machine", lambda: "aarch64")
    assert plans.install("TensorRT") == "sudo apt install python3-libnvinfer (docs/jetson.md)"


@pytest.mark.usefixtures("no_gpu")
def test_no_driver_is_one_line_and_names_what_runs_here(bytes_of_plans, write, tmp_path, capsys):
    path = write(bytes_of_plans[0])
    start = "amnet.plan cannot run: this machine has no NVIDIA driver (libcuda was not found); install the driver, or"
    message = refused(path, BackendError)
    assert message.startswith(start)
    assert message.endswith("; for this CPU: edgetalk build amnet.onnx -o amnet.xml")
    (tmp_path / "amnet.xml").touch()
    assert refused(path, BackendError).endswith("; amnet.xml beside it runs on this CPU")
    assert main(["doctor", str(path)]) == 1
    assert start in capsys.readouterr().err


@pytest.mark.usefixtures("no_gpu")
def test_tensorrt_itself_refuses_in_one_line(bytes_of_plans, write):
    """What comes behind the preflight: the real Runtime, which returns None where it finds no driver."""
    import tensorrt_rtx

    with pytest.raises(ModelError) as caught:
        backend.Engine(plans.read(write(bytes_of_plans[0])), tensorrt_rtx, double.Device())
    assert re.fullmatch(
        r"amnet.plan was refused by TensorRT-RTX [0-9.]+ \(IRuntime::deserializeCudaEngine: .*cudaError 35: CUDA "
        rf"driver version is insufficient for CUDA runtime version.*\); rebuild it here: {AGAIN}",
        str(caught.value),
    )


BLOCKED = """
import sys
for name in ("tensorrt", "tensorrt_rtx", "pycuda", "cuda"):
    sys.modules[name] = None
from pathlib import Path
import edgetalk
from edgetalk.backends import cuda, open_engine, tensorrt
from edgetalk.errors import BackendError
cuda.has_driver = lambda: sys.argv[3] == "driver"
for call in (
    lambda: cuda.open_device(),
    lambda: cuda.open_device(0, "cuda-bindings"),
    lambda: cuda.open_device(0, "pycuda"),
    lambda: tensorrt.load_package("TensorRT", "amnet.plan"),
    lambda: tensorrt.load_package("TensorRT-RTX", "amnet.plan"),
    lambda: open_engine(sys.argv[1]),
):
    try:
        call()
    except BackendError as error:
        print(error)
engine = open_engine(sys.argv[2], precision="f32")
print(sorted(engine.run({})), tensorrt.graph_state("TensorRT"))
"""


@pytest.mark.parametrize("driver", ["driver", "none"])
def test_without_any_nvidia_package_a_plan_is_one_line_and_the_cpu_works(write, zoo, driver):
    """A missing driver comes before a missing package, which would not help."""
    path = write(double.header(metadata=METADATA.to_json()))
    command = [sys.executable, "-c", BLOCKED, str(path), str(zoo.root / "onnx" / "amnet.onnx"), driver]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 7
    package = "CUDA needs a Python package"
    start = package if driver == "driver" else "this machine has no NVIDIA driver (libcuda was not found); install the"
    assert lines[0].startswith(start)
    assert lines[1].startswith(package) and lines[1].endswith('or: pip install "edgetalk[tensorrt]"')
    assert lines[2].startswith("PyCUDA cannot be imported") and 'pip install "edgetalk[pycuda]"' in lines[2]
    assert lines[3].startswith("amnet.plan needs TensorRT (") and lines[3].endswith('pip install "edgetalk[tensorrt]"')
    assert lines[4].startswith("amnet.plan needs TensorRT-RTX (") and lines[4].endswith('pip install "edgetalk[rtx]"')
    assert lines[5].startswith(f"amnet.plan cannot run: {start}")
    assert lines[6] == "['frame', 'landmarks'] CUDA graph off, it needs: pip install \"edgetalk[tensorrt]\""


COMMANDS = """
import sys
for name in ("tensorrt", "tensorrt_rtx", "pycuda", "cuda"):
    sys.modules[name] = None
from edgetalk.cli import main
engine, picture, folder = sys.argv[1:]
for command in (
    ["doctor"],
    ["doctor", engine],
    ["bench", engine, "--seconds", "1"],
    ["avatar", engine, picture, "-o", folder + "/face.avatar"],
    ["build", engine, "-o", folder + "/amnet.xml"],
    ["doctor", folder + "/amnet.xml"],
):
    assert main(command) == 0, command
"""


def test_the_commands_of_a_cpu_need_no_nvidia_package(zoo, tmp_path):
    cv2.imwrite(str(tmp_path / "face.png"), zoo.face(96))
    engine = zoo.set("onnx", tmp_path / "model")
    command = [sys.executable, "-c", COMMANDS, engine, tmp_path / "face.png", tmp_path]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"face.avatar", "amnet.xml", "amnet.bin"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("importable", [True, False])
def test_pycuda_comes_before_cuda_bindings(monkeypatch, importable):
    """On modules and classes that are made up."""
    for name in ("pycuda", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name) if importable else None)
    for provider in cuda.PROVIDERS:
        monkeypatch.setitem(cuda.PROVIDERS, provider, functools.partial(opened, provider))
    monkeypatch.setattr(cuda, "_opened", {})
    monkeypatch.setattr(cuda, "has_driver", lambda: True)
    usual = "pycuda" if importable else "cuda-bindings"
    assert cuda.open_device(1) == [usual, 1] and cuda.open_device(2, "pycuda") == ["pycuda", 2]
    assert cuda.open_device(3, "cuda-bindings") == ["cuda-bindings", 3]
    with ThreadPoolExecutor(4) as threads:  # which would each open the engine of a device of their own
        devices = {id(device) for device in threads.map(lambda _: cuda.open_device(), range(4))}
    assert devices == {id(cuda.open_device(0, "auto"))} == {id(cuda.open_device(0, usual))}
    monkeypatch.setattr(cuda, "has_driver", lambda: False)
    with pytest.raises(BackendError, match="no NVIDIA driver"):
        cuda.open_device(0)


def opened(provider, index):
    time.sleep(0.05)  # as long as it takes for other threads to come
    return [provider, index]
