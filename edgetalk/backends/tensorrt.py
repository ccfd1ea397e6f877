"""TensorRT and TensorRT-RTX: runs .plan files on the NVIDIA device that they were built for.

One code path for TensorRT 10.3 to 11 and TensorRT-RTX. Buffers are bound once; a step uploads what it was fed,
runs on one stream and copies the outputs back once. The second step of a shape is recorded as a CUDA graph where
cuda-bindings is installed, later ones launch it. Backends of the same file share the deserialised engine; each has
its own execution context, stream and buffers. Left out: plugins, several devices at once, DLA.

A plan holds code for the device: open only plans that you trust, as you would a program.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import importlib
import logging
import math
import os
import re
import threading
import types
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetalk.errors import BackendError, InputError, ModelError, word

from . import Arrays, TensorSpec, describe, measured
from . import plan as plans
from .cuda import Device, Graph, can_capture, open_device

MEMORY = re.compile(r"(?i)out ?of ?memory|could not be allocated|insufficient memory|not enough (free )?memory")
"""How TensorRT says that there is too little memory."""
# By name, for the numpy types that the packages' own tables give differ between their versions.
DTYPES = {"FLOAT": "f4", "HALF": "f2", "UINT8": "u1", "INT8": "i1", "INT32": "i4", "INT64": "i8", "BOOL": "?"}


def open(path: Path, *, device: str, precision: str | None, threads: int | None, streams: int) -> TensorRT:
    """Open a .plan file; see edgetalk.backends.open_engine.

    Its precision is fixed; it takes no CPU threads, and each backend has its own stream in any case.
    """
    plan = meant(plans.read(path), device)
    if precision not in (None, plan.metadata.precision):
        raise InputError(
            f"precision: got {precision!r}, but {path.name} was built in {plan.metadata.precision}; "
            f"build another: {plan.rebuild(precision)}"
        )
    return TensorRT(plan, device=device)


def preflight(path: Path) -> list[tuple[str, str]]:
    """Compare a plan's header and metadata with this machine; see edgetalk.backends.preflight."""
    plan = plans.read(path)
    package, device = fit(plan, "auto")
    with device.current():
        free, total = device.memory()
    built_for = " and ".join(plan.capabilities)
    return [
        describe(plan.metadata),
        ("engine", f"{plan.product} {plan.version} for {built_for}; {package.__version__} is here"),
        *measured(plan.metadata),
        ("device", f"{device.name} ({device.capability}), {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"),
        ("driver", f"CUDA {device.driver} through {device.provider}"),
        ("graph", graph_state(plan.product)),
        *other_card(plan, device),
    ]


def other_card(plan: plans.Plan, device: Device) -> list[tuple[str, str]]:
    """Return a warning where TensorRT built a plan on another model of GPU of the same compute capability."""
    engine = plan.metadata.engine
    built = " ".join(str(engine.get("device", "")).split())
    if plan.product != "TensorRT" or engine.get("hardware") or built in ("", device.name):
        return []
    cards = f"it was built on {built}, this is {device.name}"
    return [("other card", f"{cards}: it may be slow or fail; rebuild it here: {plan.rebuild()}")]


def meant(plan: plans.Plan, device: str) -> plans.Plan:
    """Return the plan as one for the GPU in "cuda:1", for the commands that messages tell."""
    try:
        return dataclasses.replace(plan, gpu=device_index(device))
    except BackendError:  # told where it is opened
        return plan


def graph_state(product: str) -> str:
    """Say whether steps are recorded as CUDA graphs on this machine, by plans of this product."""
    # The extra knows which cuda-bindings fit a Jetson's CUDA.
    extra = plans.EXTRAS[product]
    return "CUDA graph on" if can_capture() else f'CUDA graph off, it needs: pip install "edgetalk[{extra}]"'


def fit(plan: plans.Plan, device: str, provider: str = "auto") -> tuple[types.ModuleType, Device]:
    """Return the TensorRT package and the device for a plan that fits both.

    Everything that is wrong with the file comes first (ModelError), whether or not the rest is there; then what
    is missing on the machine (BackendError).
    """
    missing: list[BackendError] = []
    package: types.ModuleType | None = None
    gpu: Device | None = None
    try:
        package = load_package(plan.product, plan.path.name)
    except BackendError as error:
        missing.append(error)
    try:
        gpu = open_device(device_index(device), provider)
    except BackendError as error:
        missing.append(BackendError(f"{plan.path.name} cannot run: {error}; {instead(plan.path)}"))
    version = package.__version__ if package else None
    capability, driver = (gpu.capability, gpu.driver) if gpu else (None, None)
    plan.check(version, capability, None)
    if package and driver:
        check_driver(package, plan.product, driver)  # a plan that this package builds would need a newer driver, too
    plan.check(version, capability, driver)
    if package is None or gpu is None:
        raise missing[-1]  # without a GPU it would not help to install the package
    return package, gpu


def load_package(product: str, name: str) -> types.ModuleType:
    """Import the Python package of "TensorRT" or "TensorRT-RTX"; `name` is the file that needs it."""
    try:
        return importlib.import_module(plans.PACKAGES[product])
    except (ImportError, OSError, RuntimeError) as error:  # OSError: a library that the package links to is missing
        raise BackendError(f"{name} needs {product} ({error}): {plans.install(product)}") from error


def check_driver(package: types.ModuleType, product: str, driver: str) -> None:
    """Raise BackendError where the package is known to be of a newer CUDA than the driver's."""
    made_for = plans.toolkit(package)
    if made_for and plans.numbers(driver)[0] < int(made_for):
        raise no_start(package, product, driver)


def no_start(package: types.ModuleType, product: str, driver: str | None, reason: str = "") -> BackendError:
    """Return the error to raise where CUDA does not start for TensorRT; `reason` is what it logged."""
    made_for = plans.toolkit(package)
    what = f"{product} {package.__version__}" + (f" of CUDA {made_for}" if made_for else "")
    here = f"this driver, which supports up to CUDA {driver}" if driver else "this driver"
    advice = "update the driver"
    if driver and (not made_for or plans.numbers(driver)[0] < int(made_for)):
        advice += f", or install the package of its CUDA: {plans.install_for(product, driver)}"
    else:
        advice = f"`nvidia-smi` shows whether the GPU is well; {advice}"
    return BackendError(f"{what} cannot start CUDA with {here}{reason and f' ({reason})'}; {advice}")


def start(package: types.ModuleType, factory: str, product: str, lines: Lines, driver: str | None) -> Any:
    """Return a new Runtime or Builder of the package; `driver` is the driver's CUDA, None if unknown."""
    try:
        return getattr(package, factory)(lines.logger)
    except TypeError as error:
        if "nullptr" not in str(error):
            raise
        raise no_start(package, product, driver, str(lines)) from error


def device_index(device: str) -> int:
    """Return the number in "cuda:1"; "auto" and "cuda" mean the first GPU."""
    kind, _, index = device.lower().partition(":")
    if device != "auto" and (kind != "cuda" or not (index.isdecimal() or not index)):
        raise BackendError(f'device "{device}" cannot run a plan, NVIDIA GPUs can; use "auto", "cuda" or "cuda:0"')
    return int(index or 0)


def instead(path: Path) -> str:
    """Name what runs here where there is no NVIDIA GPU."""
    for other in (path.with_suffix(".xml"), path.with_suffix(".onnx")):
        if other.is_file():
            return f"{other.name} beside it runs on this CPU"
    return f"for this CPU: edgetalk build {word(path.stem + '.onnx')} -o {word(path.stem + '.xml')}"


class Lines:
    """What TensorRT logged as errors since `clear`, for its own calls return None or False and say nothing.

    As text the first, which is mostly the cause, and the last. Each thread has its own, as TensorRT logs in the thread
    that calls it.
    """

    def __init__(self, package: Any) -> None:
        self._local = local = threading.local()

        class Logger(package.ILogger):  # type: ignore[misc]  # a class of a package that mypy does not see
            def __init__(self) -> None:
                package.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if int(severity) <= int(package.ILogger.Severity.ERROR):
                    lines, told = vars(local), " ".join(message.split()).rstrip(".")
                    if MEMORY.search(told):
                        lines.setdefault("memory", told)
                    lines.setdefault("first", told)
                    lines["last"] = told

        self.logger = Logger()

    def clear(self) -> None:
        vars(self._local).clear()

    @property
    def memory(self) -> str:
        """The line that tells of too little memory, "" where none does."""
        return str(vars(self._local).get("memory", ""))

    def __str__(self) -> str:
        lines = vars(self._local)
        told = dict.fromkeys(lines[k] for k in ("first", "last") if k in lines)
        return "; ".join(told) or "it gave no reason"


@functools.cache
def logged(package: types.ModuleType) -> Lines:
    """One logger per process: TensorRT tells the first that it was given, TensorRT-RTX 1.7 the last."""
    return Lines(package)


class Engine:
    """A deserialised plan on one device, shared by the backends of a file."""

    def __init__(self, plan: plans.Plan, package: types.ModuleType, device: Device) -> None:
        self.plan, self.package, self.device = plan, package, device
        trt: Any = package
        self.lines = logged(package)
        self.lines.clear()
        self._config = self._cache = None  # before the engine, as they are dropped then
        with device.current():
            self._runtime = start(package, "Runtime", plan.product, self.lines, device.driver)
            if plan.metadata.engine.get("version_compatible"):
                self._runtime.engine_host_code_allowed = True  # such a plan brings its own runtime
            self.engine = self._runtime.deserialize_cuda_engine(plan.path.read_bytes())
            if hasattr(self.engine, "create_runtime_config"):
                self._share_kernels(self.engine.create_runtime_config())
        if self.engine is None and self.lines.memory:
            raise BackendError(
                f"{plan.path.name} needs more memory than {device.name} has left ({self.lines.memory}); "
                "close other programs on this GPU"
            )
        if self.engine is None:
            raise ModelError(
                f"{plan.path.name} was refused by {plan.product} {trt.__version__} ({self.lines}); "
                f"rebuild it here: {plan.rebuild()}"
            )

    def context(self) -> Any:
        """Return a new execution context, None where TensorRT refuses."""
        given = () if self._config is None else (self._config,)
        return self.engine.create_execution_context(*given)

    def _share_kernels(self, config: Any) -> None:
        """Compile kernels once for all contexts: TensorRT-RTX does that for each, TensorRT has none to compile."""
        if hasattr(config, "create_runtime_cache"):
            cache = config.create_runtime_cache()
            if config.set_runtime_cache(cache):
                self._config, self._cache = config, cache


_engines: weakref.WeakValueDictionary[tuple[Any, ...], Engine] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def shared_engine(plan: plans.Plan, package: types.ModuleType, device: Device) -> Engine:
    """Return the engine of this file on this device, deserialised once as long as somebody uses it."""
    status = plan.path.stat()
    key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, id(device))
    with _lock:
        engine = _engines.get(key)
        if engine is None:
            engine = _engines[key] = Engine(plan, package, device)
        return engine


class Buffer:
    """One input or output: `capacity` bytes on the device and as many pinned ones on the host."""

    def __init__(self, device: Device, dtype: np.dtype[Any], capacity: int) -> None:
        self.dtype = dtype
        self.memory = device.pinned((capacity,), np.uint8)
        self.memory[:] = 0
        self.pointer = device.malloc(capacity)
        self.host: NDArray[Any] = self.memory

    def shape(self, shape: tuple[int, ...]) -> None:
        """Look at the start of the host's bytes as an array of this shape."""
        self.host = self.memory[: math.prod(shape) * self.dtype.itemsize].view(self.dtype).reshape(shape)


class Held:
    """What one backend has of the device; it is given back once, whether the backend is closed or dropped."""

    def __init__(self, shared: Engine) -> None:
        self._pid = os.getpid()
        self.shared: Engine | None = shared
        self.context: Any = None
        self.graph: Graph | None = None
        self.stream = self.done = 0
        self.buffers: dict[str, Buffer] = {}

    def free(self, device: Device) -> None:
        if os.getpid() != self._pid:  # forked: all of it is the other process's, and would call CUDA when it is dropped
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))
            return
        shared, self.shared = [self.shared], None
        with device.current(), contextlib.ExitStack() as calls:  # the last one first, and all of them if one fails
            calls.callback(shared.clear)  # the last backend of a file takes the engine with it
            if self.stream:
                calls.callback(device.free_stream, self.stream)
            if self.done:
                calls.callback(device.free_event, self.done)
            for buffer in self.buffers.values():
                calls.callback(device.free, buffer.pointer)
            calls.callback(setattr, self, "context", None)  # before the memory that it points to
            if self.graph is not None:
                calls.callback(self.graph.close)


class TensorRT:
    """An execution context with its stream and buffers; implements edgetalk.backends.Backend.

    With a batched plan the batch is that of the last feeds, 1 at first; a batch within the built range may differ
    from run to run, at the price of recording the graph anew.
    """

    def __init__(self, plan: plans.Plan, *, device: str = "auto", provider: str = "auto", graph: bool = True) -> None:
        package, gpu = fit(plan, device, provider)
        self._open(shared_engine(plan, package, gpu), graph)

    def _open(self, shared: Engine, graph: bool) -> None:
        plan, package, gpu = shared.plan, shared.package, shared.device
        self._held = Held(shared)
        self._free = weakref.finalize(self, self._held.free, gpu)
        self._free.atexit = False  # the process gives everything back
        self._name, self._gpu, self._lines = plan.path.name, gpu, shared.lines
        self.metadata = plan.text
        self._where = f"{gpu.name} ({gpu.capability}), {plan.product} {package.__version__}, {plan.metadata.precision}"
        self.device = f"{self._where}, {graph_state(plan.product) if graph else 'CUDA graph off as asked'}"
        self._asked = graph
        self._record = graph and can_capture()
        self._warm = False  # whether this shape has run once, as recording it asks for
        self._whole = True  # whether the last run came to its end, so that the device holds what the host does
        try:
            with gpu.current():
                self._bind(shared, package)
        except BaseException as error:
            with contextlib.suppress(BackendError):  # its cause is `error`, which is what to tell
                self.close()
            if isinstance(error, BackendError):
                raise BackendError(f"{self._name} cannot be opened: {error}") from error
            raise

    def _bind(self, shared: Engine, trt: Any) -> None:
        engine = shared.engine
        self._lines.clear()
        self._held.context = shared.context()
        if self._held.context is None:
            raise BackendError(f"it got no execution context ({self._lines}); close other programs on this GPU")
        self._held.stream = self._gpu.stream()
        self._held.done = self._gpu.event()
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        specs = {n: TensorSpec(_dtype(engine, n, self._name), tuple(engine.get_tensor_shape(n))) for n in names}
        fed = {n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT}
        self.inputs = {n: spec for n, spec in specs.items() if n in fed}
        self.outputs = {n: spec for n, spec in specs.items() if n not in fed}
        self._batches = 1, 1
        for name, spec in self.inputs.items():
            if -1 in spec.shape:
                low, _, high = engine.get_tensor_profile_shape(name, 0)
                self._batches = int(low[0]), int(high[0])
        shapes = self._resolve(self._batches[1])  # the largest say how much each buffer has to hold
        for name, spec in specs.items():
            capacity = math.prod(shapes[name]) * spec.dtype.itemsize
            self._held.buffers[name] = buffer = Buffer(self._gpu, spec.dtype, capacity)
            if not self._held.context.set_tensor_address(name, buffer.pointer):
                raise BackendError(f"it refused the buffer of {name} ({self._lines}); rebuild the plan")
        self._feeds = {name: self._held.buffers[name] for name in self.inputs}
        for buffer in self._feeds.values():
            self._gpu.upload(buffer.pointer, buffer.host, self._held.stream)
        self._finish()
        self._reshape(self._batches[0])

    def _resolve(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Tell the context the batch and return the shapes of all tensors."""
        shapes = {n: tuple(batch if size == -1 else size for size in spec.shape) for n, spec in self.inputs.items()}
        for name, shape in shapes.items():
            if -1 in self.inputs[name].shape and not self._held.context.set_input_shape(name, shape):
                raise ModelError(f"{self._name} refused {name} of shape {shape} ({self._lines}); rebuild the plan")
        return shapes | {name: tuple(self._held.context.get_tensor_shape(name)) for name in self.outputs}

    def _reshape(self, batch: int) -> None:
        """Set the batch; what inputs held of another batch is still there, as far as it fits."""
        for name, shape in self._resolve(batch).items():
            self._held.buffers[name].shape(shape)
        self._results = {name: self._held.buffers[name].host for name in self.outputs}
        self._warm = False
        graph, self._held.graph = self._held.graph, None
        if graph is not None:
            graph.close()

    def run(self, feeds: Arrays) -> Arrays:
        if self._held.context is None:
            raise BackendError(f"{self._name} is closed; open it again")
        try:
            with self._gpu.current():
                self._feed(feeds)
                if self._held.graph is not None:
                    self._held.graph.launch(self._held.stream)
                elif self._warm and self._record:
                    self._capture()
                else:
                    self._enqueue()
                self._warm = True
                self._finish()
        except BackendError as error:
            raise BackendError(f"{self._name} failed while it ran: {error}") from error
        self._whole = True
        return self._results

    def _feed(self, feeds: Arrays) -> None:
        """Copy into pinned memory and start the upload; what is not fed stays on the device as it is.

        After a run that failed all inputs are uploaded, for nobody knows which of them had arrived.
        """
        whole, self._whole = self._whole, False
        try:
            if any(value.shape != self._feeds[name].host.shape for name, value in feeds.items()):
                self._reshape(self._batch(feeds))
            for name, value in feeds.items():
                np.copyto(self._feeds[name].host, value)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self._name} takes {self.inputs}, not what was fed: {error}") from error
        for name in feeds if whole else self._feeds:
            self._gpu.upload(self._feeds[name].pointer, self._feeds[name].host, self._held.stream)

    def _batch(self, feeds: Arrays) -> int:
        """Return the batch that all inputs have, fed now or before; ValueError where a shape does not fit."""
        held = {name: buffer.host.shape for name, buffer in self._feeds.items()}
        shapes = held | {name: value.shape for name, value in feeds.items()}
        dynamic = {name: spec.shape[0] == -1 for name, spec in self.inputs.items()}
        batches: set[int] = {shape[0] for name, shape in shapes.items() if dynamic[name] and shape}
        for name, shape in shapes.items():
            if shape[dynamic[name] :] != self.inputs[name].shape[dynamic[name] :]:
                raise ValueError(f"{name} has shape {shape}")
        if len(batches) != 1:
            raise ValueError(f"inputs of batches {sorted(batches)}; feed all of them anew")
        low, high = self._batches
        if not low <= (batch := batches.pop()) <= high:
            raise ValueError(f"a batch of {batch}, the plan was built for {low} to {high}")
        return batch

    def _enqueue(self) -> None:
        self._lines.clear()
        if not self._held.context.execute_async_v3(self._held.stream):
            raise BackendError(str(self._lines))
        for name in self.outputs:
            buffer = self._held.buffers[name]
            self._gpu.download(buffer.host, buffer.pointer, self._held.stream)

    def _capture(self) -> None:
        try:
            # TensorRT has no such method.
            if not getattr(self._held.context, "is_stream_capturable", lambda _: True)(self._held.stream):
                raise BackendError("TensorRT-RTX says that it cannot be recorded")
            self._held.graph = Graph(self._held.stream, self._enqueue)
        except BackendError as error:
            self._record = False
            self.device = f"{self._where}, CUDA graph off, it could not be recorded"
            logging.getLogger("edgetalk").warning("%s runs without a CUDA graph: %s", self._name, error)
            self._enqueue()
        else:
            self._held.graph.launch(self._held.stream)

    def _finish(self) -> None:
        self._gpu.record(self._held.done, self._held.stream)
        self._gpu.wait(self._held.done)

    def twin(self) -> TensorRT:
        if self._held.shared is None:
            raise BackendError(f"{self._name} is closed; open it again")
        other = object.__new__(TensorRT)
        other._open(self._held.shared, self._asked)
        return other

    def close(self) -> None:
        self._free()


def _dtype(engine: Any, name: str, file: str) -> np.dtype[Any]:
    kind = engine.get_tensor_dtype(name).name
    if kind not in DTYPES:
        raise ModelError(f"{name} of {file} is {kind}, expected one of {', '.join(DTYPES)}; export the model again")
    return np.dtype(DTYPES[kind])
