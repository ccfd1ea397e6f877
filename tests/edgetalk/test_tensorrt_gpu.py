"""What only an NVIDIA GPU can show, measured and printed: `pytest -m gpu`, or `python -m bench.gpu` to keep the record.

The first part needs a driver and PyCUDA or cuda-bindings, and runs with each of them. The second part also needs
TensorRT or TensorRT-RTX, on a card that it supports, and the bundled model. What is missing is said and skipped.
"""

import dataclasses
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import edgetalk
from edgetalk.backends import cuda, open_engine, preflight
from edgetalk.backends import plan as plans
from edgetalk.backends import tensorrt as backend
from edgetalk.cli import main
from edgetalk.errors import BackendError, ModelError
from edgetalk.metadata import Metadata

from . import tensorrt_double as double

pytestmark = pytest.mark.gpu

MIB = 1 << 20
STEPS = 10_000
OTHERS = 16 * MIB
"""What other programs may take meanwhile; of a leak 1.7 kB of each step."""


@pytest.fixture
def show(capsys):
    def line(text):
        with capsys.disabled():
            print(f"\n    {text}", flush=True)  # bench/gpu.py takes what is indented so

    return line


@pytest.fixture(params=cuda.PROVIDERS)
def device(request):
    try:
        found = cuda.open_device(0, request.param)
    except BackendError as error:
        pytest.skip(str(error))
    with found.current():
        yield found


@pytest.fixture
def stream(device):
    stream = device.stream()
    yield stream
    device.free_stream(stream)


def finish(device, stream):
    event = device.event()
    device.record(event, stream)
    device.wait(event)
    device.free_event(event)


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def integrated():
    """Whether the first GPU's memory is the host's, as on a Jetson."""
    try:
        driver = cuda.bindings()
    except BackendError:
        import pycuda.driver as driver

        return bool(driver.Device(0).get_attribute(driver.device_attribute.INTEGRATED))
    attribute = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_INTEGRATED
    gpu = cuda.checked(driver, driver.cuDeviceGet(0))
    return bool(cuda.checked(driver, driver.cuDeviceGetAttribute(attribute, gpu)))


def check_growth(lost, grown):
    """Bytes that the device and this process have lost; of the host's own memory all programs take what they need."""
    assert grown < OTHERS
    assert lost < OTHERS or integrated()


def check_recorded(engine, graph):
    """After warm-up there is a graph where one was asked for, unless TensorRT says that it cannot be recorded."""
    held = engine._held
    if not (graph and backend.can_capture()):
        assert held.graph is None and "CUDA graph off" in engine.device
    elif getattr(held.context, "is_stream_capturable", lambda _: True)(held.stream):
        assert held.graph is not None and "CUDA graph on" in engine.device, engine.device


# ---- CUDA, no TensorRT -----------------------------------------------------------------------------------------


def test_device_says_what_it_is(device, show):
    free, total = device.memory()
    assert 0 < free <= total and float(device.capability) >= 5 and float(device.driver) >= 11
    show(
        f"{device.provider}: {device.name}, compute capability {device.capability}, driver for CUDA {device.driver}, "
        f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free{', shared with the host' if integrated() else ''}"
    )


def test_bytes_come_back_and_copies_wait_for_their_stream(device, stream, show):
    sent, received = device.pinned((64, MIB), np.uint8), device.pinned((64, MIB), np.uint8)
    sent[:] = np.random.default_rng(0).integers(0, 256, sent.shape, np.uint8)
    received[:] = 0
    pointer = device.malloc(sent.nbytes)
    done, start = device.event(), time.perf_counter()
    device.upload(pointer, sent, stream)
    device.download(received, pointer, stream)
    device.record(done, stream)
    device.wait(done)
    spent = 1000 * (time.perf_counter() - start)
    assert (received == sent).all()
    show(f"{device.provider}: 64 MiB of pinned memory up and down again in {spent:.1f} ms")
    device.free(pointer)
    device.free_event(done)


def test_pinned_memory_lives_as_long_as_its_last_array(device):
    driver = cuda.bindings()
    array = device.pinned((1000, 10), np.float32)
    address = array.ctypes.data
    part = array[10:20]
    part[:] = 7
    del array
    assert driver.cuMemHostGetFlags(address)[0] == driver.CUresult.CUDA_SUCCESS
    assert (part == 7).all()
    del part
    assert driver.cuMemHostGetFlags(address)[0] != driver.CUresult.CUDA_SUCCESS


def test_pinned_memory_may_be_let_go_in_another_thread(device):
    driver = cuda.bindings()
    arrays = [device.pinned((1000,), np.float32)]
    address = arrays[0].ctypes.data
    thread = threading.Thread(target=arrays.clear)
    thread.start()
    thread.join()
    assert driver.cuMemHostGetFlags(address)[0] != driver.CUresult.CUDA_SUCCESS


def test_a_forked_process_is_told_and_frees_nothing(device):
    arrays = [device.pinned((1000,), np.float32)]
    arrays[0][:] = 7
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            arrays.clear()
            with device.current():
                os.write(writing, b"it can be used")
        except BackendError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 1000).decode().endswith(" was opened before this process was forked; start it with 'spawn'")
    assert (arrays[0] == 7).all()
    for end in (reading, writing):
        os.close(end)


def test_graph_replays_copies_with_what_the_buffers_hold_then(device, stream):
    sent, received = device.pinned((1000,), np.float32), device.pinned((1000,), np.float32)
    pointer = device.malloc(sent.nbytes)
    sent[:], received[:] = 1, 0

    def work():
        device.upload(pointer, sent, stream)
        device.download(received, pointer, stream)

    graph = cuda.Graph(stream, work)
    finish(device, stream)
    assert (received == 0).all(), "recording must not run the work"
    for value in (3, 5):
        sent[:] = value
        graph.launch(stream)
        finish(device, stream)
        assert (received == value).all()
    graph.close()
    graph.close()
    device.free(pointer)


def test_work_that_cannot_be_recorded_is_an_error_and_the_stream_goes_on(device, stream):
    sent, received = device.pinned((10,), np.float32), device.pinned((10,), np.float32)
    pointer = device.malloc(sent.nbytes)
    sent[:] = 4
    driver = cuda.bindings()

    def waits():
        device.upload(pointer, sent, stream)
        cuda.checked(driver, driver.cuStreamSynchronize(stream))

    with pytest.raises(BackendError, match="CUDA_ERROR_STREAM_CAPTURE"):
        cuda.Graph(stream, waits)
    with pytest.raises(ZeroDivisionError):
        cuda.Graph(stream, lambda: 1 / 0)
    device.upload(pointer, sent, stream)
    device.download(received, pointer, stream)
    finish(device, stream)
    assert (received == 4).all()
    device.free(pointer)


def test_too_much_memory_is_one_line_and_the_device_goes_on(device):
    with pytest.raises(BackendError, match="(?i)out.of.memory") as caught:
        device.malloc(1 << 50)
    assert "\n" not in str(caught.value)
    device.free(device.malloc(MIB))


def test_a_gpu_that_is_not_there_is_one_line(device):
    with pytest.raises(BackendError, match="there is no GPU 99, the NVIDIA driver sees [0-9]+"):
        cuda.open_device(99, device.provider)
    command = f"from edgetalk.backends.cuda import open_device as o\ntry: o(0, {device.provider!r})\n"
    command += "except Exception as e: print(type(e).__name__, e)"
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(Path(edgetalk.__file__).parents[1])}
    told = subprocess.run([sys.executable, "-c", command], env=hidden, capture_output=True, text=True, timeout=60)
    assert told.stdout.startswith("BackendError the NVIDIA driver sees no GPU"), told


def test_threads_record_and_launch_at_once(device):
    wrong = []

    def session(number):
        with device.current():
            stream = device.stream()
            sent, received = device.pinned((4096,), np.int32), device.pinned((4096,), np.int32)
            pointer = device.malloc(sent.nbytes)

            def work():
                device.upload(pointer, sent, stream)
                device.download(received, pointer, stream)

            graph = cuda.Graph(stream, work)
            for step in range(200):
                sent[:] = number * 1000 + step
                graph.launch(stream)
                finish(device, stream)
                if not (received == number * 1000 + step).all():
                    wrong.append((number, step))
            graph.close()
            device.free(pointer)
            device.free_stream(stream)

    threads = [threading.Thread(target=session, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.fixture
def copying(monkeypatch, tmp_path, device):
    """A backend on the real device whose network, a double, is one real copy: frame = appearance."""
    driver = cuda.bindings()
    tensor = double.Tensor("UINT8", (1, 256, 256, 3))

    def execute(at, shapes, stream):
        cuda.checked(driver, driver.cuMemcpyDtoDAsync(at["frame"], at["appearance"], 256 * 256 * 3, stream))

    package = double.package({"appearance": tensor}, {"frame": tensor}, execute)
    monkeypatch.setattr(backend, "fit", lambda *_: (package, device))
    metadata = Metadata(family="amnet", engine={"compute_capability": [device.capability]})
    path = tmp_path / "amnet.plan"
    path.write_bytes(double.header(metadata=metadata.to_json()))
    return lambda **options: backend.TensorRT(plans.read(path), **options)


def picture(value):
    return np.random.default_rng(value).integers(0, 256, (1, 256, 256, 3), np.uint8)


@pytest.mark.parametrize("graph", [False, True])
def test_runtime_on_the_device_with_a_copy_for_a_network(copying, device, graph, show):
    engine = copying(graph=graph)
    for value in range(5):
        assert (engine.run({"appearance": picture(value)})["frame"] == picture(value)).all()
        assert (engine.run({})["frame"] == picture(value)).all()
    check_recorded(engine, graph)
    free, size = device.memory()[0], resident()
    feed = {"appearance": picture(7)}
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        engine.run(feed)
        times.append(time.perf_counter() - start)
    lost, grown = free - device.memory()[0], resident() - size
    p50, p99 = np.percentile(times, [50, 99]) * 1e6
    show(
        f"{device.provider}, CUDA graph {'on' if graph else 'off'}: 256x256 frame up, copied on the device, down: "
        f"p50 {p50:.0f} us, p99 {p99:.0f} us; after {STEPS} steps {lost / MIB:.1f} MiB less on the device, "
        f"{grown / MIB:.1f} MiB more on the host"
    )
    check_growth(lost, grown)
    frame = engine.run({"appearance": picture(3)})["frame"]
    engine.close()
    assert (frame == picture(3)).all(), "results stay readable after close"


def test_eight_backends_at_once_with_a_copy_for_a_network(copying):
    engines, wrong = [copying() for _ in range(8)], []

    def session(number):
        for step in range(100):
            value = number * 1000 + step
            if not (engines[number].run({"appearance": picture(value)})["frame"] == picture(value)).all():
                wrong.append(value)

    threads = [threading.Thread(target=session, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for engine in engines:
        check_recorded(engine, True)
        engine.close()
    assert not wrong


def test_a_plan_for_another_device_is_refused_before_anything_else(tmp_path, device, show):
    metadata = Metadata(family="amnet", engine={"compute_capability": ["7.2"]})
    path = tmp_path / "amnet.plan"
    path.write_bytes(double.header(metadata=metadata.to_json()))
    with pytest.raises(ModelError, match=f"was built for 7.2 with TensorRT-RTX .*this device is {device.capability}"):
        preflight(path)
    metadata = dataclasses.replace(metadata, engine={"compute_capability": [device.capability], "cuda": "99"})
    path.write_bytes(double.header(metadata=metadata.to_json(), version=(99, 0, 0, 0)))
    with pytest.raises((ModelError, BackendError)) as caught:
        preflight(path)
    show(str(caught.value))
    assert "\n" not in str(caught.value)


# ---- TensorRT --------------------------------------------------------------------------------------------------


def first_gpu():
    try:
        return cuda.open_device()
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def trt():
    """The package that builds here and its product, on a card that it supports."""
    engines = pytest.importorskip("edgetalk.engines.tensorrt", reason="edgetalk is not installed with its engines")
    gpu = first_gpu()
    try:
        package, product = engines.load_package()
    except BackendError as error:
        pytest.skip(str(error))
    if product == "TensorRT-RTX" and gpu.capability not in engines.capabilities_of(package):
        pytest.skip(f"TensorRT-RTX {package.__version__} does not support compute capability {gpu.capability}")
    return package


def test_a_card_that_tensorrt_rtx_does_not_support_is_refused_in_its_own_words(tmp_path, show):
    engines = pytest.importorskip("edgetalk.engines.tensorrt", reason="edgetalk is not installed with its engines")
    package = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    gpu = first_gpu()
    if gpu.capability in engines.capabilities_of(package):
        pytest.skip(f"TensorRT-RTX {package.__version__} supports {gpu.name}")
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, [1, 8])], [value("y", 1, [1, 8])])
    path = tmp_path / "a.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    options = engines.PlanOptions
    with pytest.raises(BackendError, match="TensorRT-RTX .* does not support this GPU") as caught:
        engines.find_target(options())
    show(str(caught.value))
    target = engines.find_target(options(compute_capability=["8.9"]))
    plan = engines.build_plan(path, tmp_path / "a.plan", metadata=Metadata(family="amnet"), target=target)
    with pytest.raises(ModelError, match=f"was built for 8.9 .*this device is {gpu.capability}"):
        preflight(plan.path)
    with pytest.raises(ModelError, match="was refused by TensorRT-RTX") as caught:
        backend.Engine(plan, package, gpu)  # what would have come without our preflight
    show(str(caught.value))


PRECISIONS = ("f32", "fp16", "int8")
BUNDLED = Path(edgetalk.__file__).parent / "models" / "amnet.onnx"


@pytest.fixture(scope="module")
def model(trt, tmp_path_factory):
    """The bundled model: what builds its plan in a precision, feeds of its step and what OpenVINO f32 makes of them.

    A plan is built when it is first asked for, once, and told with the seconds that took; one that cannot be built
    fails the tests of its precision alone. The feeds are the bundled face and windows of the bundled sentence, every
    fifth; the others calibrate int8.
    """
    for package in ("openvino", "onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed; plans are built and compared with it")
    from edgetalk import audio, avatar, motion
    from edgetalk.engines import build
    from edgetalk.windows import sound_windows

    if not BUNDLED.is_file():
        pytest.skip("no bundled model edgetalk/models/amnet.onnx in this checkout")
    reference = open_engine(BUNDLED, precision="f32")
    told = Metadata.from_json(reference.metadata, BUNDLED.name)
    mel = sound_windows(audio.read(BUNDLED.with_name("demo.flac")), told.audio, told.rate)
    mel = np.stack([window for window, _ in zip(mel, range(100), strict=False)])
    moves = [motion.Idle(0, told.rate).pose_blink(i) for i in range(len(mel))]
    pose, blink = (np.stack([np.asarray(move[k], np.float32) for move in moves]) for k in (0, 1))
    appearance = avatar.load_avatar(BUNDLED.with_suffix(".avatar")).features["appearance"].astype(np.float32)
    folder = tmp_path_factory.mktemp("plans")
    learn = np.arange(len(mel)) % 5 != 0
    sound = {"mel": mel[learn], "pose": pose[learn], "blink": blink[learn]}
    np.savez(folder / "calibration.npz", appearance=appearance, **sound)
    built = {}

    def plan(precision):
        path, start = folder / f"{precision}.plan", time.perf_counter()
        if precision not in built:
            try:
                calibration = folder / "calibration.npz" if precision == "int8" else None
                build(BUNDLED, path, precision=precision, calibration=calibration)
                built[precision] = path, time.perf_counter() - start
            except Exception as error:  # building takes minutes on a board: it fails once
                built[precision] = error
        if isinstance(built[precision], Exception):
            raise built[precision]
        return built[precision]

    feeds = [
        {"appearance": appearance, "mel": mel[i : i + 1], "pose": pose[i : i + 1], "blink": blink[i : i + 1]}
        for i in range(0, len(mel), 5)
    ]
    frames = [{name: value.copy() for name, value in reference.run(feed).items()} for feed in feeds]
    reference.close()
    return plan, feeds, frames


@pytest.fixture(params=cuda.PROVIDERS)
def opened(request, model):
    plan, feeds, frames = model
    engines = []

    def open_plan(precision, graph=True):
        try:
            cuda.open_device(0, request.param)
        except BackendError as error:
            pytest.skip(str(error))
        engines.append(backend.TensorRT(plans.read(plan(precision)[0]), provider=request.param, graph=graph))
        return engines[-1]

    yield open_plan, feeds, frames, plan
    for engine in engines:
        engine.close()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_plan_agrees_with_openvino_f32_and_passes_the_gate(opened, precision, show):
    from edgetalk.engines import gate

    open_plan, feeds, wanted, plan = opened
    engine = open_plan(precision)
    made = []
    for feed in feeds:
        for _ in range(3):  # plain, recorded, launched
            got = engine.run(feed)
        made.append({name: value.copy() for name, value in got.items()})
    check_recorded(engine, True)
    frames = [np.concatenate([result["frame"] for result in results]) for results in (wanted, made)]
    points = [np.concatenate([result["landmarks"] for result in results]) for results in (wanted, made)]
    figures = gate.compare(*frames, points[0])
    show(
        f"{told(engine)}: against OpenVINO f32 SSIM {figures['ssim']:.4f}, PSNR {figures['psnr']:.1f} dB, mouth "
        f"{figures['mouth_psnr']:.1f} dB, at most {figures['max_error']} of 255; built in {plan(precision)[1]:.1f} s"
    )
    gate.check(figures, precision, f"{precision}.plan")
    assert precision != "f32" or figures["max_error"] <= 1
    assert np.abs(points[0] - points[1]).max() < 0.01


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_session_on_the_plan_speaks_as_one_on_the_bundled_onnx(model, precision, show):
    from edgetalk.engines import gate

    plan, feeds, _ = model
    path = plan(precision)[0]
    frames, points = {"plan": [], "onnx": []}, []
    with edgetalk.Session(path) as session, edgetalk.Session(BUNDLED) as reference:
        assert (session.metadata.precision, reference.metadata.precision) == (precision, "f32")
        for feed in feeds:
            step = [feed[name][0] for name in ("mel", "pose", "blink")]
            frames["plan"].append(session.step(*step).copy())
            frames["onnx"].append(reference.step(*step).copy())
            points.append(reference.landmarks.copy())
        show(f"Session of {path.name}: {session.device}")
    gate.check(gate.compare(np.stack(frames["onnx"]), np.stack(frames["plan"]), np.stack(points)), precision, path.name)


def test_doctor_of_a_plan_that_fits_names_the_device(model, capsys):
    path, gpu = model[0]("fp16")[0], cuda.open_device()
    lines = dict(preflight(path))
    assert lines["device"].startswith(f"{gpu.name} ({gpu.capability}), ")
    assert lines["driver"] == f"CUDA {gpu.driver} through {gpu.provider}"
    assert main(["doctor", str(path)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert all(f"{label:<13} {text}" in told for label, text in lines.items() if label != "device")
    assert told[-1] == "fits          this machine can run it"


def told(engine):
    """Where a backend runs and who makes its CUDA calls."""
    return f"{engine.device}, {engine._gpu.provider}"


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("graph", [False, True])
def test_speed_and_ten_thousand_steps_without_growth(opened, precision, graph, show):
    open_plan, feeds, _, _ = opened
    device = cuda.open_device()
    before = device_memory(device)
    engine = open_plan(precision, graph)
    engine.run(feeds[0])
    step = {name: value for name, value in feeds[1].items() if name != "appearance"}
    for _ in range(100):
        engine.run(step)
    check_recorded(engine, graph)
    held, size = device_memory(device), resident()
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        engine.run(step)
        times.append(time.perf_counter() - start)
    lost, grown = held - device_memory(device), resident() - size
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    show(
        f"{told(engine)}: {1 / np.mean(times):.0f} frames/s, p50 {p50:.3f} ms, p99 {p99:.3f} ms, "
        f"{(before - held) / MIB:.0f} MiB on the device; after {STEPS} steps {lost / MIB:.1f} MiB less on the device, "
        f"{grown / MIB:.1f} MiB more on the host"
    )
    check_growth(lost, grown)


def device_memory(device):
    with device.current():
        return device.memory()[0]


def test_eight_sessions_at_once_on_one_engine(opened, show):
    open_plan, feeds, frames, _ = opened
    engines = [open_plan("f32") for _ in range(8)]
    worst, steps = [0] * 8, 250

    def session(number):
        for step in range(steps):
            turn = (number + step) % len(feeds)
            got = engines[number].run(feeds[turn])["frame"]
            worst[number] = max(worst[number], int(np.abs(got.astype(int) - frames[turn]["frame"]).max()))

    threads = [threading.Thread(target=session, args=(number,)) for number in range(8)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = 8 * steps / (time.perf_counter() - start)
    show(f"{told(engines[0])}: 8 sessions at once, {rate:.0f} frames/s together, at most {max(worst)} of 255 off")
    for engine in engines:
        check_recorded(engine, True)
    assert max(worst) <= 1
