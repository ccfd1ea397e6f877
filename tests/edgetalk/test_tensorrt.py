"""The TensorRT backend around its CUDA calls, against a recording double that says that it is one."""

import collections
import contextlib
import dataclasses
import gc
import logging
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edgetalk import Session
from edgetalk.backends import open_engine
from edgetalk.backends import plan as plans
from edgetalk.backends import tensorrt as backend
from edgetalk.errors import BackendError, InputError, ModelError
from edgetalk.metadata import Metadata

from . import tensorrt_double as double
from . import test_tensorrt_gpu as gpu

METADATA = Metadata(family="amnet", precision="fp16", engine={"compute_capability": ["8.6"]})
START = ["malloc", "pinned"]


class Machine:
    """A device and a package, both doubles: frame = appearance + step, in uint8; gain = 2 * step."""

    def __init__(self, monkeypatch, tmp_path, batch=(1, 1)):
        self.device = double.Device()
        low, high = batch
        first = -1 if high > 1 else 1

        def tensor(kind, *rest):
            return double.Tensor(kind, (first, *rest), (low, *rest), (high, *rest))

        def execute(at, shapes, stream):
            def work():
                appearance = self.device.read(at["appearance"], "f4", shapes["appearance"])
                step = self.device.read(at["step"], "f4", shapes["step"])
                self.device.write(at["frame"], (appearance + step).astype(np.uint8))
                self.device.write(at["gain"], 2 * step)

            self.device._note("execute")
            self.device.streams[stream].append(work)

        self.package = double.package(
            {"appearance": tensor("FLOAT", 6), "step": tensor("FLOAT", 1)},
            {"frame": tensor("UINT8", 6), "gain": tensor("FLOAT", 1)},
            execute,
            note=lambda *call: self.device.calls.append(call),
        )
        graph = type("Graph", (double.Graph,), {"device": self.device})
        self.graph = graph
        monkeypatch.setattr(backend, "fit", lambda plan, device, provider: (self.package, self.device))
        monkeypatch.setattr(backend, "Graph", graph)
        monkeypatch.setattr(backend, "can_capture", lambda: True)
        self.path = tmp_path / "amnet.plan"
        self.path.write_bytes(double.header(metadata=METADATA.to_json()))

    def open(self, **options):
        return backend.TensorRT(plans.read(self.path), **options)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    return Machine(monkeypatch, tmp_path)


def feeds(appearance, step, batch=1):
    rows = np.arange(batch, dtype=np.float32)[:, None]
    return {"appearance": np.full((batch, 6), appearance, np.float32) + rows, "step": np.full((batch, 1), step, "f4")}


def test_has_the_six_members_and_says_where_it_runs(machine, zoo):
    with_graph, of_openvino = machine.open(), open_engine(zoo.root / "f32/amnet.xml")
    for engine in (with_graph, of_openvino):
        public = {name for name in vars(type(engine)) | vars(engine) if not name.startswith("_")}
        assert public == {"inputs", "outputs", "metadata", "run", "twin", "close", "device"}
    assert with_graph.inputs == {"appearance": (np.dtype("f4"), (1, 6)), "step": (np.dtype("f4"), (1, 1))}
    assert with_graph.outputs == {"frame": (np.dtype("u1"), (1, 6)), "gain": (np.dtype("f4"), (1, 1))}
    assert Metadata.from_json(with_graph.metadata, "x") == METADATA
    assert "CUDA graph on" in with_graph.device and "recording double (8.6)" in with_graph.device
    assert "CUDA graph off" in machine.open(graph=False).device


def test_first_run_warms_up_second_records_third_launches(machine):
    engine = machine.open()
    rounds = []
    for step in (1, 2, 3):
        machine.device.calls.clear()
        result = engine.run(feeds(10, step))
        assert (result["frame"] == 10 + step).all() and result["gain"] == 2 * step
        rounds.append(machine.device.names())
    copies = ["execute", "download", "download"]
    assert rounds[0] == ["upload", "upload", *copies, "record", "wait"]
    assert rounds[1] == ["upload", "upload", "capture", *copies, "launch", "record", "wait"]
    assert rounds[2] == ["upload", "upload", "launch", "record", "wait"]


def test_what_is_not_fed_stays_on_the_device(machine):
    engine = machine.open()
    assert (engine.run({})["frame"] == 0).all()  # nothing was fed yet: zeros
    engine.run(feeds(10, 1))
    for step in (2, 3, 4):
        machine.device.calls.clear()
        result = engine.run({"step": np.full((1, 1), step, np.float32)})
        assert (result["frame"] == 10 + step).all()
        assert [call for call in machine.device.calls if call[0] == "upload"] == [("upload", 4)]


def test_buffers_are_made_once_and_results_are_the_same_arrays(machine):
    engine = machine.open()
    first = engine.run(feeds(1, 1))
    made = machine.device.names().count("malloc")
    assert made == 4 and machine.device.names().count("pinned") == 4
    for step in range(50):
        again = engine.run(feeds(1, step))
        assert again["frame"] is first["frame"] and again["gain"] is first["gain"]
    count = collections.Counter(machine.device.names())
    assert count["malloc"] == made
    assert (count["bind"], count["stream"], count["event"]) == (4, 1, 1)


def test_close_frees_everything_in_order_and_results_stay_readable(machine):
    engine = machine.open()
    for _ in range(2):
        result = engine.run(feeds(10, 5))
    machine.device.calls.clear()
    engine.close()
    gc.collect()
    assert machine.device.names() == [
        "close graph", "del context", *["free"] * 4, "free_event", "free_stream", "del engine",
    ]  # fmt: skip
    assert (result["frame"] == 15).all()
    assert not (machine.device.memory_at or machine.device.streams or machine.device.events)
    engine.close()
    with pytest.raises(BackendError, match="amnet.plan is closed; open it again"):
        engine.run(feeds(1, 1))
    del engine, result
    gc.collect()
    assert not machine.device.left()


@pytest.mark.parametrize("runs", [0, 2])
def test_what_is_dropped_without_close_is_freed_in_the_same_order(machine, runs):
    first, other = machine.open(), machine.open()
    for _ in range(runs):
        result = first.run(feeds(10, 5))
    machine.device.calls.clear()
    freed = [*["close graph"] * (runs > 1), "del context", *["free"] * 4, "free_event", "free_stream"]
    del first
    assert machine.device.names() == freed
    assert (other.run(feeds(20, 2))["frame"] == 22).all() and (not runs or (result["frame"] == 15).all())
    result = None
    machine.device.calls.clear()
    other.cycle = [other]  # freed when garbage is collected
    del other
    gc.collect()
    assert machine.device.names() == ["del context", *["free"] * 4, "free_event", "free_stream", "del engine"]
    assert not machine.device.left()


def test_sessions_share_the_engine_and_nothing_else(machine):
    first, second = machine.open(), machine.open()
    assert machine.package.deserialised == 1
    first.run(feeds(10, 1))
    second.run(feeds(20, 2))
    one, two = first.run({}), second.run({})
    assert (one["frame"] == 11).all() and (two["frame"] == 22).all()
    first.close()
    assert "del engine" not in machine.device.names()
    assert (second.run({})["frame"] == 22).all()
    second.close()
    gc.collect()
    assert machine.device.names()[-1] == "del engine"
    machine.open().close()
    assert machine.package.deserialised == 2


def test_a_twin_is_of_the_same_engine_though_its_file_has_gone(machine):
    first = machine.open(graph=False)
    machine.path.unlink()
    second = first.twin()
    assert machine.package.deserialised == 1 and second.device == first.device and "graph off" in second.device
    first.run(feeds(10, 1))
    assert (second.run(feeds(20, 2))["frame"] == 22).all() and (first.run({})["frame"] == 11).all()
    first.close()
    with pytest.raises(BackendError, match="amnet.plan is closed"):
        first.twin()
    second.close()
    assert not (machine.device.memory_at or machine.device.streams or machine.device.events)


def test_a_rebuilt_file_is_another_engine(machine):
    first = machine.open()
    machine.path.write_bytes(double.header(metadata=METADATA.to_json()) + b"rebuilt")
    second = machine.open()
    assert machine.package.deserialised == 2
    first.close()
    second.close()


def test_batches_within_the_profile(monkeypatch, tmp_path):
    machine = Machine(monkeypatch, tmp_path, batch=(1, 4))
    engine = machine.open()
    assert engine.inputs["appearance"].shape == (-1, 6) and engine.outputs["frame"].shape == (-1, 6)
    assert engine.run({})["frame"].shape == (1, 6)
    for batch in (3, 4, 4, 4, 1):
        result = engine.run(feeds(10, 7, batch))
        assert result["frame"].shape == (batch, 6) and result["gain"].shape == (batch, 1)
        assert (result["frame"] == 17 + np.arange(batch)[:, None]).all()
    assert machine.device.names().count("malloc") == 4
    with pytest.raises(InputError, match="a batch of 5, the plan was built for 1 to 4"):
        engine.run(feeds(10, 7, 5))
    with pytest.raises(InputError, match=r"inputs of batches \[1, 2\]; feed all of them anew"):
        engine.run({"step": np.ones((2, 1), np.float32)})
    assert (engine.run({"step": np.ones((1, 1), np.float32)})["frame"] == 11).all()
    engine.close()
    assert not machine.device.memory_at


def test_a_tensor_of_another_type_is_told_with_its_file(machine, monkeypatch):
    monkeypatch.delitem(backend.DTYPES, "UINT8")
    with pytest.raises(ModelError, match="^frame of amnet.plan is UINT8, expected one of FLOAT, "):
        machine.open()


@pytest.mark.parametrize(
    "fed",
    [{"sound": np.zeros((1, 1))}, {"step": np.zeros((1, 1), complex)}, {"step": np.zeros((2, 2), "f4")},
     {"appearance": np.zeros((1, 3), "f4")}, {"step": np.zeros((), "f4")}, {"frame": np.zeros((1, 6), "u1")}],
    ids=["name", "dtype", "larger", "smaller", "scalar", "output"],
)  # fmt: skip
def test_wrong_feeds_are_refused_and_the_next_run_works(machine, fed):
    engine = machine.open()
    with pytest.raises(InputError, match="amnet.plan"):
        engine.run(fed)
    assert (engine.run(feeds(3, 4))["frame"] == 7).all()


def test_a_refused_plan_is_one_line_with_what_tensorrt_logged(machine):
    machine.package.fail = "deserialize_cuda_engine"
    with pytest.raises(ModelError) as caught:
        machine.open()
    assert str(caught.value) == (
        "amnet.plan was refused by TensorRT-RTX 1.7.1.116 (IRuntime::deserializeCudaEngine: Error Code 6); "
        "rebuild it here: edgetalk build amnet.onnx -o amnet.plan --precision fp16 --compute-capability 8.6"
    )


def test_of_what_tensorrt_logged_the_first_and_the_last_line_are_told(machine):
    machine.package.fail, machine.package.logs = "deserialize_cuda_engine", ["the cause.", *["between"] * 9, "the end."]
    with pytest.raises(ModelError, match=r"was refused by TensorRT-RTX 1.7.1.116 \(the cause; the end\); rebuild"):
        machine.open()


def test_what_was_logged_is_told_to_the_thread_that_called(machine):
    lines = backend.Lines(machine.package)
    lines.logger.log(1, "ours")

    def other() -> str:
        lines.clear()
        lines.logger.log(1, "theirs")
        return str(lines)

    with ThreadPoolExecutor(1) as pool:
        assert (pool.submit(other).result(), str(lines)) == ("theirs", "ours")


@pytest.mark.parametrize(
    "line",
    ["[allocator.cpp::allocate::74] Error Code 1: Cuda Runtime (out of memory)", "OutOfMemory: 3 GiB",
     "Requested amount of GPU memory (5 bytes) could not be allocated", "insufficient memory"],
)  # fmt: skip
def test_too_little_memory_is_not_told_as_a_bad_file(machine, line):
    machine.package.fail, machine.package.logs = "deserialize_cuda_engine", ["Error Code 2", line, "Error Code 4"]
    with pytest.raises(BackendError) as caught:
        machine.open()
    assert str(caught.value) == (
        f"amnet.plan needs more memory than recording double has left ({line}); close other programs on this GPU"
    )


def test_cuda_that_does_not_start_for_tensorrt_is_one_line(machine, monkeypatch):
    machine.package.fail, machine.device.driver = "Runtime", "12.4"
    monkeypatch.setattr(plans.platform, "machine", lambda: "x86_64")
    cannot = "cannot start CUDA with this driver, which supports up to CUDA 12.4"
    cannot += " (CUDA initialization failure with error: 35)"
    with pytest.raises(BackendError) as caught:
        machine.open()
    assert str(caught.value) == (
        f"TensorRT-RTX 1.7.1.116 {cannot}; update the driver, or install the package of its CUDA: "
        "pip install tensorrt-rtx-cu12"
    )
    monkeypatch.setattr(plans, "toolkit", lambda _: "12")  # it fits, so that another package would not help
    with pytest.raises(BackendError) as caught:
        machine.open()
    assert str(caught.value) == (
        f"TensorRT-RTX 1.7.1.116 of CUDA 12 {cannot}; `nvidia-smi` shows whether the GPU is well; update the driver"
    )


def test_another_type_error_of_the_package_is_not_hidden(machine, monkeypatch):
    monkeypatch.setattr(machine.package, "Runtime", lambda: None)
    with pytest.raises(TypeError, match="positional argument"):
        machine.open()


def test_sessions_of_tensorrt_rtx_share_the_kernels_compiled_for_their_engine(machine):
    machine.package.caching = True
    first, second = machine.open(), machine.open()
    assert (first.run(feeds(3, 4))["frame"] == 7).all() and (second.run(feeds(3, 5))["frame"] == 8).all()
    one, other = machine.package.caches
    assert one is other is not None
    first.close()
    second.close()
    gc.collect()
    machine.open().close()
    assert len(machine.package.caches) == 3 and machine.package.caches[2] is not one


def test_a_forked_process_frees_nothing_of_its_parent(machine, monkeypatch):
    engine = machine.open()
    for _ in range(2):
        engine.run(feeds(10, 5))
    machine.device.calls.clear()
    parent = os.getpid()
    with monkeypatch.context() as child:
        child.setattr(backend.os, "getpid", lambda: parent + 1)
        del engine
        gc.collect()
    assert machine.device.calls == []


def test_only_a_version_compatible_plan_may_run_code_of_its_own(machine):
    """Such a plan brings its runtime along, which TensorRT refuses where it is not allowed; no other plan gets that."""
    machine.open().close()
    assert machine.package.deserialised == 1 and not machine.package.allowed
    machine.package.host_code = True
    machine.path.write_bytes(double.header(metadata=METADATA.to_json()) + b"host code that its metadata does not tell")
    with pytest.raises(ModelError, match="holds host code, which is not allowed"):
        machine.open()
    compatible = dataclasses.replace(METADATA, engine={**METADATA.engine, "version_compatible": True})
    machine.path.write_bytes(double.header(metadata=compatible.to_json()))
    engine = machine.open()
    assert machine.package.allowed and (engine.run(feeds(3, 4))["frame"] == 7).all()


@pytest.mark.parametrize("call", ["create_execution_context", "set_tensor_address"])
def test_what_fails_while_opening_leaves_nothing_behind(machine, call):
    machine.package.fail = call
    with pytest.raises(BackendError, match="amnet.plan .* no reason"):
        machine.open()
    gc.collect()
    assert not machine.device.left()
    assert machine.device.names()[-1] == "del engine"


@pytest.mark.parametrize(
    ("call", "spared"),
    [("stream", 0), ("event", 0), *((call, n) for call in ("pinned", "malloc") for n in (0, 3)), ("upload", 0),
     ("upload", 1), ("record", 0), ("wait", 0)],
)  # fmt: skip
def test_what_cuda_fails_at_while_opening_leaves_nothing_behind(machine, call, spared):
    machine.device.fail, machine.device.spared = call, spared
    with pytest.raises(BackendError, match=f"^amnet.plan cannot be opened: CUDA failed with the double's {call}$"):
        machine.open()
    gc.collect()
    assert not machine.device.left() and machine.device.names()[-1] == "del engine"
    machine.device.fail = ""
    engine = machine.open()
    assert (engine.run(feeds(1, 1))["frame"] == 2).all()


def test_what_fails_while_opening_is_told_even_if_nothing_can_be_freed(machine, monkeypatch):
    machine.device.fail = "wait"

    def free(_):
        raise BackendError("CUDA failed while it freed")

    monkeypatch.setattr(machine.device, "free", free)
    with pytest.raises(BackendError, match="^amnet.plan cannot be opened: CUDA failed with the double's wait$"):
        machine.open()
    assert not machine.device.streams and not machine.device.events


@pytest.mark.parametrize(
    ("call", "before"),
    [("download", 0), ("launch", 1), ("launch", 2), *((c, n) for c in ("upload", "record", "wait") for n in range(4))],
)
def test_a_run_that_cuda_fails_at_names_the_file_and_the_next_is_right(machine, call, before):
    """Run plainly, recorded or launched; what the failed run was fed counts, as after any other."""
    engine = machine.open()
    for step in range(before):
        engine.run(feeds(10, step))
    machine.device.fail = call
    with pytest.raises(BackendError, match=f"^amnet.plan failed while it ran: CUDA failed with the double's {call}$"):
        engine.run(feeds(20, 1))
    machine.device.fail = ""
    for step in (5, 6, 7):
        result = engine.run({"step": np.full((1, 1), step, np.float32)})
        assert (result["frame"] == 20 + step).all() and result["gain"] == 2 * step
    machine.device.calls.clear()
    engine.run({"step": np.ones((1, 1), np.float32)})
    assert [name for name in machine.device.names() if name == "upload"] == ["upload"]


@pytest.mark.parametrize("call", ["close graph", "free", "free_event", "free_stream"])
def test_closing_frees_the_rest_where_one_call_fails(machine, call):
    engine = machine.open()
    for _ in range(2):
        engine.run(feeds(10, 5))
    machine.device.calls.clear()
    machine.device.fail = call
    with pytest.raises(BackendError, match=f"CUDA failed with the double's {call}"):
        engine.close()
    gc.collect()
    assert machine.device.names() == [
        "close graph", "del context", *["free"] * 4, "free_event", "free_stream", "del engine",
    ]  # fmt: skip
    machine.device.fail = ""
    engine.close()


def test_a_failed_run_says_what_tensorrt_logged(machine):
    engine = machine.open()
    machine.package.fail = "execute_async_v3"
    with pytest.raises(BackendError, match="amnet.plan failed while it ran: IExecutionContext::enqueueV3: Error"):
        engine.run(feeds(1, 1))
    machine.package.fail = ""
    assert (engine.run(feeds(1, 1))["frame"] == 2).all()


def test_a_device_that_refuses_to_record_runs_without_a_graph(machine, caplog):
    engine = machine.open()
    before = engine.device
    machine.graph.refuses = True
    with caplog.at_level(logging.WARNING, "edgetalk"):
        for step in (1, 2, 3, 4):
            assert (engine.run(feeds(10, step))["frame"] == 10 + step).all()
    assert [record.getMessage() for record in caplog.records] == [
        "amnet.plan runs without a CUDA graph: CUDA failed with CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED; the double "
        "was told so"
    ]
    assert machine.device.names().count("capture") == 1 and "launch" not in machine.device.names()
    assert engine.device.endswith("fp16, CUDA graph off, it could not be recorded") and before.endswith("CUDA graph on")


def test_a_context_that_says_it_cannot_be_recorded_runs_without_a_graph(machine, caplog):
    machine.package.capturable = False
    engine = machine.open()
    with caplog.at_level(logging.WARNING, "edgetalk"):
        for step in (1, 2, 3, 4):
            assert (engine.run(feeds(10, step))["frame"] == 10 + step).all()
    assert [record.getMessage() for record in caplog.records] == [
        "amnet.plan runs without a CUDA graph: TensorRT-RTX says that it cannot be recorded"
    ]
    assert not {"capture", "launch"} & set(machine.device.names())
    assert engine.device.endswith("fp16, CUDA graph off, it could not be recorded")


@pytest.mark.parametrize(
    ("graph", "captures", "refuses", "right"),
    [
        (True, True, False, True),
        (True, True, True, False),
        (True, False, False, True),
        (False, True, False, True),
    ],
)
def test_gpu_tests_find_that_no_graph_was_recorded(machine, monkeypatch, graph, captures, refuses, right):
    monkeypatch.setattr(backend, "can_capture", lambda: captures)
    machine.graph.refuses = refuses
    engine = machine.open(graph=graph)
    for _ in range(3):
        engine.run(feeds(1, 2))
    with contextlib.nullcontext() if right else pytest.raises(AssertionError):
        gpu.check_recorded(engine, graph)
    if right and graph and captures:
        engine._held.graph = None
        with pytest.raises(AssertionError):
            gpu.check_recorded(engine, graph)


@pytest.mark.parametrize("shared", [False, True])
def test_gpu_tests_do_not_hold_shared_memory_against_a_plan(monkeypatch, shared):
    """Of the process's own memory they do."""
    monkeypatch.setattr(gpu, "integrated", lambda: shared)
    gpu.check_growth(0, 0)
    with contextlib.nullcontext() if shared else pytest.raises(AssertionError):
        gpu.check_growth(gpu.OTHERS, 0)
    with pytest.raises(AssertionError):
        gpu.check_growth(0, gpu.OTHERS)


def test_a_precision_that_the_plan_has_not_is_refused(machine):
    with pytest.raises(InputError, match="got 'f32', but amnet.plan was built in fp16"):
        backend.open(machine.path, device="auto", precision="f32", threads=None, streams=1)
    backend.open(machine.path, device="auto", precision="fp16", threads=2, streams=1).close()


def test_devices_by_name():
    assert [backend.device_index(name) for name in ("auto", "cuda", "cuda:0", "CUDA:3")] == [0, 0, 0, 3]
    for name in ("CPU", "cuda:x", "GPU.1", "autox"):
        with pytest.raises(BackendError, match='use "auto", "cuda" or "cuda:0"'):
            backend.device_index(name)


def test_a_session_on_a_plan_makes_the_frames_of_the_same_model_on_openvino(monkeypatch, tmp_path, zoo, controls):
    """The double computes with OpenVINO what the plan's network would; everything around it is what a GPU would see."""
    path = zoo.set("onnx", tmp_path)
    reference, network = Session(path), open_engine(path, precision="f32")
    device = double.Device()
    package = double.computing(network, device)
    monkeypatch.setattr(backend, "fit", lambda *_: (package, device))
    monkeypatch.setattr(backend, "Graph", type("Graph", (double.Graph,), {"device": device}))
    metadata = dataclasses.replace(zoo.metadata, engine={"compute_capability": ["8.6"]})
    plan = tmp_path / "amnet.plan"
    plan.write_bytes(double.header(metadata=metadata.to_json()))
    with Session(plan) as first, Session(plan) as second, reference:
        assert package.deserialised == 1
        assert first.metadata == metadata and "recording double" in first.device
        mel, pose, blink = controls
        for step in range(4):
            turned = pose * step
            wanted = reference.step(mel, turned, blink)
            assert (first.step(mel, turned, blink) == wanted).all()
            assert (first.landmarks == reference.landmarks).all()
        assert (second.step(mel, pose, blink) == reference.step(mel, pose, blink)).all()
        uploads = [call[1] for call in device.calls if call[0] == "upload"]
        appearance = int(np.prod(network.inputs["appearance"].shape)) * 4
        assert uploads.count(appearance) == 4  # zeros and the avatar's, of each session
    assert not device.memory_at
