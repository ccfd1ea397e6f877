"""Real TensorRT-RTX plans of AMNet, built for cards that are not here, and every way in which a build is refused."""

import dataclasses
import json
import struct
import subprocess
import sys
import types

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgetalk.backends import plan as plans
from edgetalk.backends import preflight
from edgetalk.cli import main
from edgetalk.engines import build as build_all
from edgetalk.engines import tensorrt as engine
from edgetalk.engines.options import PlanOptions
from edgetalk.engines.precision import to_fp16
from edgetalk.engines.typed import typed_graph
from edgetalk.errors import BackendError, InputError, ModelError
from edgetalk.export import to_onnx
from edgetalk.metadata import TENSORRT_LIMIT, AudioSpec, Metadata
from edgetalk.train.networks.amnet import VARIANTS, AMNet
from edgetalk.train.networks.checkpoint import save_checkpoint

trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install 'edgetalk[rtx]'")

DEVICES = ["8.6", "8.9", "12.0"]
BITS = {"7.5": 1, "8.0": 2, "8.6": 4, "8.9": 8, "12.0": 16, "12.1": 32}  # as TensorRT-RTX 1.7 writes them
METADATA = Metadata(family="amnet", variant="amnet-k3", audio=AudioSpec(), licence="Apache-2.0")
SIZE, BATCH = 64, 4


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Folder of a narrow AMNet with the paper's 3 x 3 predicted convolution, in both its forms, at 64 x 64."""
    folder = tmp_path_factory.mktemp("exports")
    torch.manual_seed(3)
    torch.set_num_threads(1)
    checkpoint, architecture = folder / "amnet.safetensors", VARIANTS["amnet-k3"].scaled(0.25)
    save_checkpoint(checkpoint, AMNet(architecture=architecture).state_dict(), variant="amnet-k3", size=SIZE,
                    architecture=architecture.plain(), audio=dataclasses.asdict(AudioSpec()), persons=[],
                    training={})  # fmt: skip
    for form in ("conv", "shift"):
        to_onnx(checkpoint, folder / f"{form}.onnx", dynamic_conv=form)
    return folder


def typed(path, precision):
    """The graph of a file in a precision, calibrated on noise: no claim on quality."""
    model = onnx.load(path)
    if precision == "fp16":
        return to_fp16(model)
    if precision == "int8":
        random = np.random.default_rng(0)
        shapes = {i.name: [d.dim_value or 2 for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
        kinds = {name: np.uint8 if name == "source" else np.float32 for name in shapes}
        noise = {name: (random.normal(size=shape) * 100).astype(kinds[name]) for name, shape in shapes.items()}
        return typed_graph(model, "int8", ".plan", [noise], ())
    return model


def parsed(path):
    """TensorRT's own view of an ONNX file."""
    journal = engine.Journal(trt, path.name, "TensorRT-RTX")
    builder = trt.Builder(journal.logger)
    network = engine.parse(trt, builder, journal, path.read_bytes(), path)
    return network, (builder, journal)  # a network needs them


@pytest.fixture
def profiles(monkeypatch):
    """Optimisation profiles that TensorRT was given, each as a function from an input's name to its three shapes."""
    given, real = [], trt.IBuilderConfig.add_optimization_profile

    def add_optimization_profile(self, profile):
        given.append(lambda name: [tuple(shape) for shape in profile.get_shape(name)])
        return real(self, profile)

    monkeypatch.setattr(trt.IBuilderConfig, "add_optimization_profile", add_optimization_profile)
    return given


def build_plan(path, metadata=METADATA, progress=None, **options):
    """Build FILE.onnx as FILE.plan, with options of PlanOptions."""
    target = engine.find_target(PlanOptions(**options))
    return engine.build_plan(path, path.with_suffix(".plan"), metadata=metadata, target=target, progress=progress)


@pytest.mark.parametrize("form", ["conv", "shift"])
@pytest.mark.parametrize("precision", ["f32", "fp16", "int8"])
@pytest.mark.parametrize("role", ["source", "step"])
def test_plan_of_every_graph_precision_and_form(exports, tmp_path, profiles, form, precision, role):
    path = exports / (f"{form}.onnx" if role == "step" else f"{form}-source.onnx")
    onnx.save(typed(path, precision), tmp_path / "amnet.onnx")
    metadata = dataclasses.replace(METADATA, precision=precision, role=role)
    batch = BATCH if form == "shift" else 1
    plan = build_plan(tmp_path / "amnet.onnx", metadata, batch=batch, compute_capability=DEVICES)

    network, keep = parsed(tmp_path / "amnet.onnx")
    first = -1 if form == "shift" else 1
    tensors = {
        tensor.name: (tensor.dtype.name, tuple(tensor.shape))
        for tensor in [network.get_input(i) for i in range(network.num_inputs)]
        + [network.get_output(i) for i in range(network.num_outputs)]
    }
    appearance = tensors["appearance"]
    assert appearance[0] == "FLOAT" and sorted(appearance[1]) == [first, SIZE // 4, SIZE // 4, 40]
    expected = {"source": ("UINT8", (first, SIZE, SIZE, 3)), "appearance": appearance}
    if role == "step":
        expected = {"appearance": appearance, "mel": ("FLOAT", (first, 32, 80)), "pose": ("FLOAT", (first, 3)),
                    "blink": ("FLOAT", (first, 2)), "frame": ("UINT8", (first, SIZE, SIZE, 3)),
                    "landmarks": ("FLOAT", (first, 106, 2))}  # fmt: skip
    assert tensors == expected
    inputs = {network.get_input(i).name: tuple(network.get_input(i).shape)[1:] for i in range(network.num_inputs)}
    assert len(profiles) == (form == "shift")
    for profile in profiles:
        for name, rest in inputs.items():
            assert profile(name) == [(1, *rest), (BATCH, *rest), (BATCH, *rest)]
    every = [network.get_layer(i) for i in range(network.num_layers)]
    assert ("DEQUANTIZE" in {layer.type.name for layer in every}) == (precision == "int8")
    dequantised = {layer.get_output(0).name for layer in every if layer.type.name == "DEQUANTIZE"}
    up = [layer for layer in every if layer.type.name == "DECONVOLUTION"]
    assert len(up) == 2 * (role == "step")
    assert not dequantised & {layer.get_input(i).name for layer in up for i in range(layer.num_inputs)}
    assert network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)

    content = (tmp_path / "amnet.plan").read_bytes()
    assert content[:4] == b"vtrt" and struct.unpack_from("<Q", content, 16)[0] == len(content)
    assert struct.unpack_from("<I", content, 32)[0] == sum(BITS[c] for c in DEVICES)
    assert ".".join(map(str, content[24:28])) == plan.version == trt.__version__
    assert content.count(plan.text.encode()) == 1
    for name in expected:
        assert name.encode() in content
    engine_says = {"name": "TensorRT-RTX", "version": trt.__version__, "compute_capability": DEVICES, "cuda": "13"}
    assert json.loads(plan.text) == json.loads(metadata.to_json()) | {"engine": engine_says}
    assert plans.read(tmp_path / "amnet.plan") == plan
    assert sorted(p.name for p in tmp_path.iterdir()) == ["amnet.onnx", "amnet.plan"]
    del network, keep


@pytest.mark.parametrize("devices", [["7.5"], list(BITS)], ids=len)
def test_plan_for_one_card_and_for_all_at_full_size(tmp_path_factory, devices):
    folder = tmp_path_factory.getbasetemp() / "full"
    if not folder.exists():
        folder.mkdir()
        torch.manual_seed(3)
        save_checkpoint(folder / "amnet.safetensors", AMNet().state_dict(), variant="amnet", size=256,
                        audio=dataclasses.asdict(AudioSpec()), persons=[], training={})  # fmt: skip
        to_onnx(folder / "amnet.safetensors", folder / "amnet.onnx")
        onnx.save(typed(folder / "amnet.onnx", "fp16"), folder / "fp16.onnx")
    plan = build_plan(folder / "fp16.onnx", compute_capability=devices)
    assert plan.capabilities == tuple(devices)
    content = plan.path.read_bytes()
    assert struct.unpack_from("<I", content, 32)[0] == sum(BITS[device] for device in devices)
    network, keep = parsed(folder / "fp16.onnx")
    assert tuple(network.get_output(0).shape) == (1, 256, 256, 3)
    del network, keep


# ---- options, on a graph of two layers --------------------------------------------------------------------------


def graph(path, batch=1, op="Conv"):
    """x uint8 (batch, 8, 8, 3) -> y float32, through a convolution, or through `op` where it is another."""
    value, random = helper.make_tensor_value_info, np.random.default_rng(0)
    weight = numpy_helper.from_array(random.normal(size=(4, 3, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node(op, ["t", "w"], ["y"]) if op == "Conv" else helper.make_node(op, ["t"], ["y"], name="odd"),
    ]
    inputs = [value("x", TensorProto.UINT8, [batch, 8, 8, 3])]
    outputs = [value("y", TensorProto.FLOAT, [batch, None, None, None])]
    made = helper.make_graph(nodes, "g", inputs, outputs, [weight])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def build(path, *args, **options):
    return build_plan(path, *args, **{"compute_capability": ["8.6"], **options})


@pytest.fixture
def small(tmp_path):
    return graph(tmp_path / "amnet.onnx")


def left(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("device", BITS)
def test_plan_for_one_card(small, device):
    plan = build(small, compute_capability=[device])
    assert plan.capabilities == (device,)
    assert struct.unpack_from("<I", plan.path.read_bytes(), 32)[0] == BITS[device]


def test_progress_is_told_and_counts_up(small):
    seen = []
    build(small, progress=lambda *told: seen.append(told))
    assert len({phase for phase, _, _ in seen}) > 1
    assert all(1 <= done <= steps for _, done, steps in seen) and any(done == steps for _, done, steps in seen)


def test_a_phase_may_end_while_another_of_its_name_goes_on():
    """TensorRT makes names unique within one hierarchy of phases alone, and calls from several threads."""
    seen = []
    told = engine.Monitor(trt, lambda *what: seen.append(what))
    for _ in range(2):
        told.monitor.phase_start("tactics", None, 3)
    told.monitor.phase_finish("tactics")
    assert told.monitor.step_complete("tactics", 1)
    told.reraise()
    assert seen == [("tactics", 2, 2)]


@pytest.mark.parametrize("raised", [KeyboardInterrupt, RuntimeError])
def test_what_the_progress_callback_raises_stops_the_build(small, raised):
    calls = []

    def stop(*_):
        calls.append(1)
        raise raised("enough")

    with pytest.raises(raised, match="enough"):
        build(small, progress=stop)
    assert len(calls) == 1 and left(small.parent) == ["amnet.onnx"]


def test_workspace_cap_reaches_tensorrt(small, monkeypatch):
    limits = []
    real = trt.IBuilderConfig.set_memory_pool_limit

    def set_memory_pool_limit(self, pool, size):
        real(self, pool, size)
        limits.append((pool, self.get_memory_pool_limit(pool)))

    monkeypatch.setattr(trt.IBuilderConfig, "set_memory_pool_limit", set_memory_pool_limit)
    build(small, workspace=256)
    assert limits == [(trt.MemoryPoolType.WORKSPACE, 256 << 20)]
    with pytest.raises(InputError, match="got 0 MiB"):
        build(small, workspace=0)


def test_f32_is_not_rounded_to_tf32(small, monkeypatch):
    flags, flag, real = [], trt.BuilderFlag.TF32, trt.Builder.build_serialized_network

    def build_serialized_network(self, network, config):
        flags.append(config.get_flag(flag))
        return real(self, network, config)

    monkeypatch.setattr(trt.Builder, "build_serialized_network", build_serialized_network)
    build(small)
    monkeypatch.setattr(trt, "BuilderFlag", types.SimpleNamespace())  # of a version that has no TF32 to turn off
    build(small)
    assert flags == [False, True]  # it is on by itself


def test_rtx_takes_no_memory_while_a_step_is_recorded(small, monkeypatch):
    """NVIDIA's notes to 1.2 ask for it where a stream is captured; TensorRT itself has no such flag."""
    flags, real = [], trt.Builder.build_serialized_network

    def build_serialized_network(self, network, config):
        flags.append(config.get_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION))
        return real(self, network, config)

    monkeypatch.setattr(trt.Builder, "build_serialized_network", build_serialized_network)
    build(small)
    assert flags == [True]


def test_a_dynamic_batch_needs_and_gets_a_profile(tmp_path, profiles):
    path = graph(tmp_path / "amnet.onnx", batch="batch")
    for batch, wanted in ((1, (1, 1, 1)), (8, (1, 8, 8)), ((2, 4, 16), (2, 4, 16))):
        build(path, batch=batch)
        assert profiles.pop()("x") == [(size, 8, 8, 3) for size in wanted] and not profiles
    with pytest.raises(InputError, match=r"batch: got \(4, 2, 8\)"):
        build(path, batch=(4, 2, 8))


def test_a_fixed_batch_takes_no_other(small):
    with pytest.raises(InputError, match="batch: got 4, but the graph for amnet.plan has a fixed batch of 1"):
        build(small, batch=4)


def test_the_cards_that_rtx_builds_for_are_those_built_for_here():
    assert engine.capabilities_of(trt) == list(BITS)


def test_devices_that_rtx_does_not_build_for_are_named(small):
    with pytest.raises(InputError) as caught:
        build(small, compute_capability=["8.6", "8.7", "9.0", "11.0"])
    assert str(caught.value) == (
        f"compute_capability: TensorRT-RTX {trt.__version__} does not build for 8.7 (Orin), 9.0 (Hopper), 11.0 (Thor), "
        "only for 7.5 (Turing), 8.0 (A100), 8.6 (Ampere), 8.9 (Ada), 12.0 (Blackwell), 12.1 (DGX Spark); for others "
        "build on the device itself, with TensorRT"
    )
    assert left(small.parent) == ["amnet.onnx"]


@pytest.mark.parametrize("options", [{"hardware": "ampere+"}, {"version_compatible": True}, {"timing_cache": "a"}])
def test_options_that_rtx_has_not_are_refused(small, options):
    with pytest.raises(InputError, match="TensorRT-RTX (has neither|tries no kernels)"):
        build(small, **options)
    assert left(small.parent) == ["amnet.onnx"]


@pytest.mark.usefixtures("no_gpu")
def test_no_gpu_and_no_device_named(small):
    with pytest.raises(BackendError, match=r"no GPU to build for \(.*\); name the devices .* 7.5,8.0,8.6,8.9,12.0,12"):
        build(small, compute_capability=None)


@pytest.mark.usefixtures("no_gpu")
def test_tensorrt_itself_builds_on_its_own_device_alone(small, monkeypatch):
    monkeypatch.setattr(engine, "load_package", lambda: (trt, "TensorRT"))  # it is not here; its name is enough
    with pytest.raises(BackendError, match="no GPU to build for .*; TensorRT builds on the device that will run the"):
        build(small, compute_capability=None)
    board = types.SimpleNamespace(name="a board", capability="8.7", driver="13.0")
    monkeypatch.setattr(engine, "open_device", lambda: board)
    with pytest.raises(InputError, match=r"got 8.6,8.9, but TensorRT builds for this machine's GPU alone, 8.7"):
        build(small, compute_capability=["8.6", "8.9"])
    with pytest.raises(InputError, match="hardware: got 'any', but TensorRT .* has ampere., same; take one of these"):
        build(small, compute_capability=["8.7"], hardware="any")


@pytest.fixture
def tensorrt(monkeypatch):
    """A double of TensorRT: TensorRT-RTX under its name, for a card that is not here, with timing caches of its own.

    It shows which options reach the builder, and nothing of what TensorRT makes of them.
    """
    told = types.SimpleNamespace(flags=None, level=None, read=[], accepts=True)
    real = trt.Builder.build_serialized_network

    class Cache:
        def __init__(self, content):
            self.content = content

        def serialize(self):
            return self.content + b"measured,"

    def create_timing_cache(self, content):
        told.read.append(content)
        return Cache(content)

    def set_timing_cache(self, cache, ignore_mismatch):
        assert isinstance(cache, Cache) and ignore_mismatch is False
        return told.accepts

    def build_serialized_network(self, network, config):
        told.flags = {name for name, flag in trt.BuilderFlag.__members__.items() if config.get_flag(flag)}
        config.clear_flag(trt.BuilderFlag.VERSION_COMPATIBLE)  # for which TensorRT-RTX has not the library
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM86, 0)
        return real(self, network, config)

    level = property(lambda _: told.level, lambda _, value: setattr(told, "level", value))
    monkeypatch.setattr(trt.IBuilderConfig, "hardware_compatibility_level", level)
    for owner, double in (
        (trt.IBuilderConfig, create_timing_cache),
        (trt.IBuilderConfig, set_timing_cache),
        (trt.Builder, build_serialized_network),
    ):
        monkeypatch.setattr(owner, double.__name__, double)
    card = types.SimpleNamespace(name="a double, no card", capability="8.6", driver="13.0")
    monkeypatch.setattr(engine, "open_device", lambda: card)
    monkeypatch.setattr(engine, "load_package", lambda: (trt, "TensorRT"))
    return told


def test_a_timing_cache_is_read_then_written(small, tensorrt):
    cache = small.parent / "timing.cache"
    for before, after in ((b"", b"measured,"), (b"measured,", b"measured,measured,")):
        build(small, compute_capability=None, timing_cache=cache)
        assert tensorrt.read.pop() == before and cache.read_bytes() == after
    assert left(small.parent) == ["amnet.onnx", "amnet.plan", "timing.cache"]


@pytest.mark.parametrize("content", [None, b"of another card"])
def test_a_timing_cache_that_tensorrt_refuses(small, tensorrt, content):
    cache, tensorrt.accepts = small.parent / "timing.cache", False
    if content:
        cache.write_bytes(content)
    with pytest.raises(InputError, match="timing_cache: timing.cache is of another device or version; name another"):
        build(small, compute_capability=None, timing_cache=cache)
    assert left(small.parent) == ["amnet.onnx"] + ["timing.cache"] * bool(content)
    assert not content or cache.read_bytes() == content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compute_capability": ["8.60"]}, "compute_capability: got 8.60, but TensorRT builds for this"),
        ({"workspace": 0}, "workspace: got 0 MiB, expected at least 1"),
        ({"timing_cache": "nowhere/timing.cache"}, "No such folder; make it: mkdir -p nowhere"),
        ({"batch": 0}, "batch: got 0, expected 1 <= smallest"),
    ],
)
def test_options_are_refused_before_any_file_is_read(tmp_path, tensorrt, options, message):
    with pytest.raises((InputError, FileNotFoundError), match=message):
        build_all("nowhere.onnx", tmp_path / "a.plan", precision="int8", calibration="nowhere.npz", **options)


def test_a_missing_package_is_told_before_any_file_is_read(tmp_path, monkeypatch):
    for package in plans.PACKAGES.values():
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BackendError, match="a plan needs TensorRT or TensorRT-RTX to be built"):
        build_all("nowhere.onnx", tmp_path / "a.plan", precision="int8", calibration="nowhere.npz")


@pytest.mark.parametrize("hardware", [None, "ampere+", "same"])
@pytest.mark.parametrize("compatible", [False, True])
def test_options_of_tensorrt_reach_it_and_the_metadata(small, tensorrt, hardware, compatible):
    plan = build(small, compute_capability=None, hardware=hardware, version_compatible=compatible)
    levels = trt.HardwareCompatibilityLevel
    assert (
        tensorrt.level == {None: None, "ampere+": levels.AMPERE_PLUS, "same": levels.SAME_COMPUTE_CAPABILITY}[hardware]
    )
    assert tensorrt.flags == ({"VERSION_COMPATIBLE"} if compatible else set())
    told = {"name": "TensorRT", "version": trt.__version__, "compute_capability": ["8.6"], "cuda": "13"}
    told |= {"device": "a double, no card"}
    told |= {"hardware": hardware} if hardware else {}
    told |= {"version_compatible": True} if compatible else {}
    assert plan.metadata.engine == plans.read(plan.path).metadata.engine == told
    assert plan.fits_capability("8.9") == (hardware == "ampere+")


def test_an_option_that_a_version_has_not(small, tensorrt, monkeypatch):
    monkeypatch.setattr(trt, "BuilderFlag", types.SimpleNamespace())
    with pytest.raises(InputError, match="version_compatible: TensorRT [0-9.]+ has no such option; leave it out"):
        build(small, compute_capability=None, version_compatible=True)
    assert left(small.parent) == ["amnet.onnx"]


def test_rtx_refuses_the_gpu_of_this_machine_by_name(small, monkeypatch):
    card = types.SimpleNamespace(name="NVIDIA H200", capability="9.0")
    monkeypatch.setattr(engine, "open_device", lambda: card)
    with pytest.raises(BackendError, match="does not support this GPU, NVIDIA H200 of compute capability 9.0, only"):
        build(small, compute_capability=None)


def test_turing_has_no_f32_matrix_product(tmp_path):
    random = np.random.default_rng(0)
    weight = numpy_helper.from_array(random.normal(size=(64, 64)).astype(np.float32), "w")
    value = helper.make_tensor_value_info
    made = helper.make_graph([helper.make_node("Gemm", ["x", "w"], ["y"])], "g", [value("x", 1, [8, 64])],
                             [value("y", 1, [8, 64])], [weight])  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "f32.onnx")
    with pytest.raises(ModelError, match="graph for f32.plan cannot be built .*Turing.*build it in fp16 for Turing"):
        build(tmp_path / "f32.onnx", compute_capability=["7.5"])
    onnx.save(to_fp16(model), tmp_path / "fp16.onnx")
    build(tmp_path / "fp16.onnx", compute_capability=["7.5"])


@pytest.mark.parametrize(
    ("logged", "error", "told"),
    [
        (["the cause.", "between", "the end."], ModelError, r"\(the cause; the end\); export the model again"),
        (
            ["tactic skipped", "Requested amount of GPU memory (9 bytes) could not be allocated.", "Error Code 10"],
            BackendError,
            r"there is too little memory \(Requested amount of GPU memory \(9 bytes\) could not be allocated\); "
            "close other programs, or build it with a smaller --workspace, such as 512",
        ),
    ],
)
def test_a_build_that_tensorrt_gives_up_says_why(small, monkeypatch, logged, error, told):
    """The builder's own call is a double, its logger the real one."""

    def build_serialized_network(self, network, config):
        for line in logged:
            journals[-1].logger.log(trt.ILogger.Severity.ERROR, line)

    journals, real = [], engine.Journal
    monkeypatch.setattr(engine, "Journal", lambda *given: journals.append(real(*given)) or journals[-1])
    monkeypatch.setattr(trt.Builder, "build_serialized_network", build_serialized_network)
    with pytest.raises(error, match=f"^the graph for amnet.plan cannot be built by TensorRT-RTX [0-9.]+,? {told}$"):
        build(small)
    assert left(small.parent) == ["amnet.onnx"]


def test_cuda_that_does_not_start_for_the_builder_is_one_line(small, tensorrt, monkeypatch):
    def none(logger):
        logger.log(trt.ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(trt, "Builder", none)
    with pytest.raises(BackendError) as caught:
        build(small, compute_capability=None)
    assert str(caught.value) == (
        f"TensorRT {trt.__version__} of CUDA 13 cannot start CUDA with this driver, which supports up to CUDA 13.0 "
        "(CUDA initialization failure with error: 35); `nvidia-smi` shows whether the GPU is well; update the driver"
    )


def test_a_driver_older_than_the_package_is_told_before_any_file_is_read(tmp_path, tensorrt, monkeypatch):
    card = types.SimpleNamespace(name="a double, no card", capability="8.6", driver="12.4")
    monkeypatch.setattr(engine, "open_device", lambda: card)
    monkeypatch.setattr(plans.platform, "machine", lambda: "x86_64")
    with pytest.raises(BackendError) as caught:
        build_all("nowhere.onnx", tmp_path / "a.plan", precision="int8", calibration="nowhere.npz")
    assert str(caught.value) == (
        f"TensorRT {trt.__version__} of CUDA 13 cannot start CUDA with this driver, which supports up to CUDA 12.4; "
        "update the driver, or install the package of its CUDA: pip install tensorrt-cu12"
    )


def test_an_operation_that_cannot_be_parsed_is_named(tmp_path):
    path = graph(tmp_path / "amnet.onnx", op="Mystery")
    with pytest.raises(ModelError, match=r"amnet.plan cannot be parsed by TensorRT-RTX 1.* \(odd: .*export the model"):
        build(path)
    path.write_bytes(b"hello")
    with pytest.raises(ModelError, match="the graph for amnet.plan cannot be parsed by TensorRT-RTX"):
        build(path)
    assert left(tmp_path) == ["amnet.onnx"]
    with pytest.raises(FileNotFoundError):
        build(tmp_path / "other.onnx")


def test_metadata_of_the_longest_length_fits_and_one_more_is_refused(small):
    engine_part = build(small).metadata.engine
    filled = dataclasses.replace(METADATA, engine=engine_part, licence="")
    room = TENSORRT_LIMIT - 1 - len(filled.to_json()) - len(',"licence":""')
    longest = dataclasses.replace(METADATA, licence="x" * room)
    plan = build(small, metadata=longest)
    assert len(plan.text) == TENSORRT_LIMIT - 1 and plan.metadata.licence == longest.licence
    with pytest.raises(ModelError, match="metadata of 4096 bytes, a plan keeps 4095"):
        build(small, metadata=dataclasses.replace(METADATA, licence="x" * (room + 1)))


def test_layers_in_float_that_are_too_many_to_be_named_are_counted(small):
    few, many = ({f"/layers.{i}/Conv": "ssim 0.97 to 0.98" for i in range(count)} for count in (50, 100))
    for kept, told in ((few, few), (many, {"100 layers": "too many to be named in a plan"})):
        plan = build(small, metadata=dataclasses.replace(METADATA, gate={"ssim": 0.99, "kept": kept}))
        assert plan.metadata.gate == {"ssim": 0.99, "kept": told}


def test_a_build_that_fails_leaves_the_plan_that_was_there(small):
    before = build(small).path.read_bytes()
    graph(small, op="Mystery")
    with pytest.raises(ModelError):
        build(small)
    assert (small.parent / "amnet.plan").read_bytes() == before


def test_the_package_has_what_the_runtime_shares_kernels_with():
    """By name, since an engine needs a card."""
    assert hasattr(trt.ICudaEngine, "create_runtime_config")
    assert hasattr(trt.IRuntimeConfig, "create_runtime_cache") and hasattr(trt.IRuntimeConfig, "set_runtime_cache")


def test_tensorrt_comes_before_tensorrt_rtx(monkeypatch):
    """On a module that is made up."""
    made_up = types.ModuleType("tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", made_up)
    assert engine.load_package() == (made_up, "TensorRT")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert engine.load_package() == (trt, "TensorRT-RTX")


def test_neither_package_is_one_line(small):
    code = (
        "import sys; sys.modules['tensorrt'] = sys.modules['tensorrt_rtx'] = None\n"
        "from edgetalk.engines.tensorrt import load_package\n"
        "try: load_package()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.startswith("BackendError a plan needs TensorRT or TensorRT-RTX") and told.count("\n") == 1
    assert 'pip install "edgetalk[tensorrt]", or pip install "edgetalk[rtx]"' in told


def test_command_builds_both_plans_for_other_devices(exports, tmp_path):
    devices = ["--compute-capability", "8.9, 12.0 "]
    assert main(["build", str(exports / "conv.onnx"), "-o", str(tmp_path / "a.plan"), *devices]) == 0
    step, source = (plans.read(tmp_path / name) for name in ("a.plan", "a-source.plan"))
    assert step.capabilities == source.capabilities == ("8.9", "12.0")
    assert step.metadata.gate["on"] == "ONNX Runtime" and source.metadata.role == "source"


def test_an_int8_plan_says_that_its_upsampling_is_in_float(exported, calibration, tmp_path):
    given = {"precision": "int8", "calibration": calibration, "compute_capability": ["8.6"], "hold": False}
    up = [n.name for n in onnx.load(exported / "amnet.onnx").graph.node if n.op_type == "ConvTranspose"]
    metadata = build_all(exported / "amnet.onnx", tmp_path / "amnet.plan", keep=["/fuser", up[0]], **given)
    upsampling = dict.fromkeys([f"step:{name}" for name in up], "upsampling, not for TensorRT in int8")
    assert len(up) == 2 and metadata.gate["kept"] == upsampling | {"/fuser": "asked for", up[0]: "asked for"}


@pytest.mark.usefixtures("no_gpu")
def test_doctor_of_a_plan_without_a_gpu_names_what_runs_here(small):
    build(small)
    with pytest.raises(BackendError) as caught:
        preflight(small.parent / "amnet.plan")
    assert str(caught.value).startswith("amnet.plan cannot run: this machine has no NVIDIA driver")
    assert str(caught.value).endswith("; amnet.onnx beside it runs on this CPU")
