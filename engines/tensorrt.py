"""ONNX to a .plan for NVIDIA devices, by TensorRT where it is installed, by TensorRT-RTX otherwise.

TensorRT builds on the device that will run the plan. TensorRT-RTX also builds for other devices, without any GPU.
Always strongly typed: the precision is what the ONNX says (engines/precision.py), which is the one way that
TensorRT 10.3 to 11 and TensorRT-RTX have in common. The metadata goes into the network's name, so that the vendor's
tools open the plan like any other. Left out: plugins, DLA, refitting and weight streaming.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edgetalk.backends import plan as plans
from edgetalk.backends.cuda import Device, open_device
from edgetalk.backends.tensorrt import Lines, check_driver, start
from edgetalk.errors import BackendError, EdgetalkError, InputError, ModelError
from edgetalk.files import check_folder, replacing
from edgetalk.metadata import TENSORRT_LIMIT, Metadata

from .onnx_file import Progress
from .options import PlanOptions

ARCHITECTURES = {
    "7.2": "Xavier", "7.5": "Turing", "8.0": "A100", "8.6": "Ampere", "8.7": "Orin", "8.9": "Ada", "9.0": "Hopper",
    "10.0": "Blackwell data centre", "11.0": "Thor", "12.0": "Blackwell", "12.1": "DGX Spark",
}  # fmt: skip
"""What people call the devices of a compute capability."""
HARDWARE = {"ampere+": "AMPERE_PLUS", "same": "SAME_COMPUTE_CAPABILITY"}


def build_plan(
    onnx_path: str | os.PathLike[str],
    plan_path: str | os.PathLike[str],
    *,
    metadata: Metadata,
    target: Target,
    progress: Progress | None = None,
) -> plans.Plan:
    """Build a plan from a typed ONNX file and return what the finished file says about itself.

    metadata goes into the plan; its field `engine` is filled in here, and layers in float that are too many to be named
    are counted. Raises FileNotFoundError; InputError for a batch that the graph does not take; ModelError where the
    graph cannot be built, BackendError where CUDA or memory lacks.
    """
    source, out = Path(onnx_path), Path(plan_path)
    graph = source.read_bytes()
    trt, product, gpu, capabilities, options = target
    rtx = product == "TensorRT-RTX"
    engine: dict[str, Any] = {"name": product, "version": trt.__version__, "compute_capability": capabilities}
    engine |= {"device": gpu.name} if gpu else {}
    engine |= {"cuda": cuda} if (cuda := plans.toolkit(trt)) else {}
    engine |= {"hardware": options.hardware} if options.hardware else {}
    engine |= {"version_compatible": True} if options.version_compatible else {}

    subject = f"the graph for {out.name}"  # the caller may have typed it into a file of another name
    journal = Journal(trt, subject, product)
    builder = start(trt, "Builder", product, journal, gpu.driver if gpu else None)
    network = parse(trt, builder, journal, graph, source)
    metadata = dataclasses.replace(metadata, engine=engine)
    if len(metadata.to_json()) >= TENSORRT_LIMIT and (kept := metadata.gate.get("kept")):
        counted = {f"{len(kept)} layers": "too many to be named in a plan"}
        metadata = dataclasses.replace(metadata, gate=metadata.gate | {"kept": counted})
    network.name = name = metadata.to_json()
    if len(name) >= TENSORRT_LIMIT:  # the last one is the terminating zero
        raise ModelError(
            f"{subject} has metadata of {len(name)} bytes, a plan keeps {TENSORRT_LIMIT - 1}; "
            "shorten its licence or units"
        )
    config = builder.create_builder_config()
    if profile := _profile(builder, network, options.batch, subject):
        config.add_optimization_profile(profile)
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace << 20)
    if hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)  # on by itself, it rounds what an f32 graph multiplies to 10 bits
    if rtx and hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)  # without it steps may not be recorded as CUDA graphs
    if rtx:
        config.num_compute_capabilities = len(capabilities)
        for index, capability in enumerate(capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, _member(capability)), index)
    if options.hardware:
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, HARDWARE[options.hardware])
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    cache = _read_cache(config, Path(options.timing_cache)) if options.timing_cache else None
    monitor = Monitor(trt, progress)
    config.progress_monitor = monitor.monitor

    serialized = builder.build_serialized_network(network, config)
    monitor.reraise()
    if serialized is None:
        raise journal.error("cannot be built")
    plan = _write(out, bytes(serialized), name)
    if cache is not None and options.timing_cache:
        with replacing(options.timing_cache) as part:
            part.write_bytes(bytes(cache.serialize()))
    return plan


class Target(NamedTuple):
    """What a plan is built by, and for."""

    package: Any
    product: str
    gpu: Device | None
    """This machine's, where the plan is for it."""
    capabilities: list[str]
    options: PlanOptions


def find_target(options: PlanOptions) -> Target:
    """Return what a plan of these options is built by and for, before anything that takes long.

    Raises InputError for options that do not go together, FileNotFoundError without the timing cache's folder, and
    BackendError where neither package is installed, no GPU is there and no device was named, or the driver is older.
    """
    trt, product = load_package()
    gpu, capabilities = _devices(trt, product, options.compute_capability)
    if gpu:
        check_driver(trt, product, gpu.driver)
    _check_options(trt, product, options)
    low, usual, high = _range(options.batch)
    if not 1 <= low <= usual <= high:
        raise InputError(f"batch: got {options.batch}, expected 1 <= smallest <= usual <= largest")
    return Target(trt, product, gpu, capabilities, options)


def _check_options(trt: Any, product: str, options: PlanOptions) -> None:
    """Raise InputError for what this package does not offer, FileNotFoundError without the timing cache's folder."""
    rtx = product == "TensorRT-RTX"
    if rtx and (options.hardware or options.version_compatible):
        raise InputError(
            "hardware and version_compatible: TensorRT-RTX has neither; name all devices instead: "
            "--compute-capability 8.6,8.9,12.0"
        )
    if rtx and options.timing_cache:
        raise InputError("timing_cache: TensorRT-RTX tries no kernels while it builds; leave it out")
    if options.timing_cache:
        check_folder(Path(options.timing_cache).parent)
    levels = [name for name, member in HARDWARE.items() if hasattr(trt.HardwareCompatibilityLevel, member)]
    if options.hardware not in (None, *levels):
        here = f"{product} {trt.__version__} has {', '.join(levels)}"
        raise InputError(
            f"hardware: got {options.hardware!r}, but {here}; take one of these, or build on the device itself"
        )
    if options.version_compatible and not hasattr(trt.BuilderFlag, "VERSION_COMPATIBLE"):
        raise InputError(f"version_compatible: {product} {trt.__version__} has no such option; leave it out")
    if options.workspace is not None and options.workspace < 1:
        raise InputError(f"workspace: got {options.workspace} MiB, expected at least 1, or None for all that there is")


def load_package() -> tuple[Any, str]:
    """Return the package that builds here and its product's name: TensorRT before TensorRT-RTX.

    Raises BackendError where neither can be imported.
    """
    reasons = []
    for product, package in plans.PACKAGES.items():
        try:
            return importlib.import_module(package), product
        except (ImportError, OSError, RuntimeError) as error:  # OSError: a library that it links to is missing
            reasons.append(str(error))
    raise BackendError(
        f"a plan needs TensorRT or TensorRT-RTX to be built ({'; '.join(reasons)}): "
        f"{plans.install('TensorRT')}, or {plans.install('TensorRT-RTX')}, which needs no GPU"
    )


def capabilities_of(trt: Any) -> list[str]:
    """Return the compute capabilities that this version of TensorRT-RTX builds for."""
    members = [m[2:] for m in trt.ComputeCapability.__members__ if m.startswith("SM")]
    return [f"{int(m) // 10}.{int(m) % 10}" for m in sorted(members, key=int)]


def named(capabilities: Sequence[str]) -> str:
    """Return capabilities with what people call them: "7.5 (Turing), 8.7 (Orin)"."""
    return ", ".join(f"{c} ({ARCHITECTURES[c]})" if c in ARCHITECTURES else c for c in capabilities)


def parse(trt: Any, builder: Any, journal: Journal, graph: bytes, source: Path) -> Any:
    """Return the strongly typed network of an ONNX file's bytes; raises ModelError where it cannot be parsed."""
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, journal.logger)
    if not parser.parse(graph, str(source)) or not network.num_outputs:  # bytes that are no ONNX parse as nothing
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        raise journal.error("cannot be parsed", [f"{e.node_name() or e.node_operator()}: {e.desc()}" for e in errors])
    return network


class Journal(Lines):
    """The errors that TensorRT logs while it builds."""

    def __init__(self, trt: Any, name: str, product: str) -> None:
        super().__init__(trt)
        self._subject, self._product = name, f"{product} {trt.__version__}"

    def error(self, what: str, reasons: Sequence[str] = ()) -> EdgetalkError:
        """Return the error to raise: of the parser's own reasons the first, what follows are its consequences."""
        told = f"{self._subject} {what} by {self._product}"
        if self.memory:
            return BackendError(
                f"{told}, there is too little memory ({self.memory}); close other programs, or build it with a "
                "smaller --workspace, such as 512"
            )
        reason = " ".join(reasons[0].split()).rstrip(".") if reasons else str(self)
        advice = "; build it in fp16 for Turing: --precision fp16" if "Turing" in reason else "; export the model again"
        return ModelError(f"{told} ({reason}){advice}")


class Monitor:
    """Hands the builder's progress on; what the callback raises, Ctrl-C too, stops the build and is raised again."""

    def __init__(self, trt: Any, progress: Progress | None) -> None:
        raised: list[BaseException] = []
        steps: dict[str, int] = {}

        class ProgressMonitor(trt.IProgressMonitor):
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)

            def phase_start(self, phase: str, parent: str | None, count: int) -> None:
                steps[phase] = count

            def step_complete(self, phase: str, step: int) -> bool:
                if progress and not raised:
                    try:
                        progress(phase, step + 1, steps.get(phase, step + 1))  # names may come twice, and end once
                    except BaseException as error:  # must not pass through C++
                        raised.append(error)
                return not raised

            def phase_finish(self, phase: str) -> None:
                steps.pop(phase, None)

        self.monitor, self._raised = ProgressMonitor(), raised

    def reraise(self) -> None:
        if self._raised:
            raise self._raised[0]


def _devices(trt: Any, product: str, asked: Sequence[str] | None) -> tuple[Device | None, list[str]]:
    """Return this machine's GPU where the plan is for it, and the compute capabilities to build for."""
    known = capabilities_of(trt) if product == "TensorRT-RTX" else []
    if asked and product == "TensorRT-RTX":
        if wrong := [c for c in asked if c not in known]:
            raise InputError(
                f"compute_capability: TensorRT-RTX {trt.__version__} does not build for {named(wrong)}, only for "
                f"{named(known)}; for others build on the device itself, with TensorRT"
            )
        return None, list(dict.fromkeys(asked))
    try:
        gpu = open_device()
    except EdgetalkError as error:
        if product == "TensorRT-RTX":
            advice = f"name the devices to build for: --compute-capability {','.join(known)}"
        else:
            advice = "TensorRT builds on the device that will run the plan; build it there"
        raise BackendError(f"no GPU to build for ({error}); {advice}") from error
    if asked and list(asked) != [gpu.capability]:
        raise InputError(
            f"compute_capability: got {','.join(asked)}, but TensorRT builds for this machine's GPU alone, "
            f"{named([gpu.capability])}; build the plan on the device that will run it"
        )
    if known and gpu.capability not in known:
        raise BackendError(
            f"TensorRT-RTX {trt.__version__} does not support this GPU, {gpu.name} of compute capability "
            f"{gpu.capability}, only {named(known)}; install TensorRT: {plans.install('TensorRT')}"
        )
    return gpu, [gpu.capability]


def _member(capability: str) -> str:
    return "SM" + capability.replace(".", "")


def _range(batch: int | tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the smallest, the usual and the largest batch."""
    return (1, batch, batch) if isinstance(batch, int) else batch


def _profile(builder: Any, network: Any, batch: int | tuple[int, int, int], name: str) -> Any:
    """Return an optimisation profile for a graph with a dynamic batch, None for one with a fixed batch."""
    low, usual, high = _range(batch)
    profile = None
    for tensor in (network.get_input(i) for i in range(network.num_inputs)):
        first, *rest = shape = tuple(tensor.shape)
        if -1 in rest:
            raise ModelError(f"{name}: {tensor.name} has shape {shape}, only the batch may be dynamic; export it again")
        if first == -1:
            profile = profile or builder.create_optimization_profile()
            profile.set_shape(tensor.name, (low, *rest), (usual, *rest), (high, *rest))
        elif batch != 1 and high != first:
            raise InputError(
                f"batch: got {batch}, but {name} has a fixed batch of {first}; "
                "export it with a dynamic one: edgetalk export … --batch dynamic, AMNet with --dynamic-conv shift"
            )
    return profile


def _read_cache(config: Any, path: Path) -> Any:
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if not config.set_timing_cache(cache, False):  # False: refuse what another device measured
        raise InputError(f"timing_cache: {path.name} is of another device or version; name another file")
    return cache


def _write(target: Path, content: bytes, name: str) -> plans.Plan:
    """Write the plan beside its name, read it as the runtime will, and only then give it the name."""
    with replacing(target) as part:
        part.write_bytes(content)
        plan = plans.read(part)
        if plan.text != name:
            raise ModelError(f"{target.name} lost the metadata that it was given; report this version of TensorRT")
    return dataclasses.replace(plan, path=target)
