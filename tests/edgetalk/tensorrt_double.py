"""A recording double of CUDA and TensorRT: it is neither, and it shows nothing of how they behave or how fast.

It shows what edgetalk.backends.tensorrt does around them: which calls, in which order, on which memory, and what is
freed. Work given to a stream is done when an event behind it is waited for, as late as CUDA may do it, so a result
read too early is a wrong result. Freed memory, or a call outside `current`, is an AssertionError.
"""

from __future__ import annotations

import contextlib
import types
import weakref
from enum import Enum

import numpy as np

from edgetalk.errors import BackendError


class Device:
    """The double of edgetalk.backends.cuda.Device; `calls` is what was called, in order.

    `fail` names the call that is to fail as CUDA's calls do, from the one on that comes after `spared` of them.
    """

    provider, name, capability, driver = "double", "recording double", "8.6", "13.0"

    def __init__(self):
        self.calls, self.memory_at, self.streams, self.events = [], {}, {}, {}
        self._depth, self._next, self._pinned = 0, 4096, []
        self.fail, self.spared = "", 0

    def _handle(self):
        self._next += 1 << 30
        return self._next

    def _note(self, *call):
        assert self._depth, f"{call} outside of current()"
        self.calls.append(call)
        if call[0] == self.fail:
            if not self.spared:
                raise BackendError(f"CUDA failed with the double's {call[0]}")
            self.spared -= 1

    def left(self):
        """Return what nobody has freed."""
        return [*self.memory_at, *self.streams, *self.events, *(r for r in self._pinned if r() is not None)]

    def names(self):
        return [call[0] for call in self.calls]

    @contextlib.contextmanager
    def current(self):
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def memory(self):
        return 3 << 30, 4 << 30

    def malloc(self, nbytes):
        pointer = self._handle()
        self._note("malloc", nbytes)
        self.memory_at[pointer] = np.full(nbytes, 0xAA, np.uint8)
        return pointer

    def free(self, pointer):
        self._note("free")
        del self.memory_at[pointer]

    def pinned(self, shape, dtype):
        self._note("pinned", shape)
        array = np.full(shape, 0x55, dtype)
        self._pinned.append(weakref.ref(array))
        return array

    def upload(self, pointer, array, stream):
        self._note("upload", array.nbytes)
        self.streams[stream].append(lambda: self.write(pointer, array))

    def download(self, array, pointer, stream):
        self._note("download", array.nbytes)
        self.streams[stream].append(lambda: np.copyto(array, self.read(pointer, array.dtype, array.shape)))

    def write(self, pointer, array):
        self.memory_at[pointer][: array.nbytes] = array.reshape(-1).view(np.uint8)

    def read(self, pointer, dtype, shape):
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self.memory_at[pointer][:count].view(dtype).reshape(shape)

    def stream(self):
        self._note("stream")
        handle = self._handle()
        self.streams[handle] = []
        return handle

    def free_stream(self, stream):
        self._note("free_stream")
        del self.streams[stream]

    def event(self):
        self._note("event")
        handle = self._handle()
        self.events[handle] = None
        return handle

    def free_event(self, event):
        self._note("free_event")
        del self.events[event]

    def record(self, event, stream):
        self._note("record")
        self.events[event] = self.streams[stream][:]
        self.streams[stream].clear()

    def wait(self, event):
        self._note("wait")
        work, self.events[event] = self.events[event], []
        for step in work:
            step()


class Graph:
    """The double of edgetalk.backends.cuda.Graph on the double's streams; `device` is set by the test."""

    device: Device
    refuses = False

    def __init__(self, stream, work):
        self.device._note("capture")
        before = self.device.streams[stream][:]
        work()
        self._work = self.device.streams[stream][len(before) :]
        self.device.streams[stream][:] = before
        if self.refuses:
            raise BackendError("CUDA failed with CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED; the double was told so")

    def launch(self, stream):
        self.device._note("launch")
        self.device.streams[stream].extend(self._work)

    def close(self):
        self.device._note("close graph")


class Tensor:
    """An input or output of the double's network: TensorRT's name of the dtype, shape, and smallest and largest."""

    def __init__(self, kind, shape, low=None, high=None):
        self.kind, self.shape, self.low, self.high = kind, shape, low or shape, high or shape


def package(inputs, outputs, execute, version="1.7.1.116", note=lambda *call: None):
    """Return a module that looks like TensorRT's package and deserialises every file to the same network.

    `inputs` and `outputs` are Tensors by name, outputs with -1 take the inputs' batch. `execute(addresses, shapes,
    stream)` is what an inference does. The module's `log` is called by it as TensorRT's logger would be, and
    `deserialised` counts the engines; `fail` names the call that is to fail as TensorRT's calls do, by its value.
    `host_code` says that plans bring their own runtime, which TensorRT refuses unless it was allowed before, and
    `allowed` whether the last runtime allowed it when it got a plan. `logs` is what it logs where it refuses a plan.
    With `caching` its engines have what TensorRT-RTX's have for it; `caches` is what its contexts were given.
    `capturable` is what its contexts say of recording them.
    """
    mode = Enum("TensorIOMode", "INPUT OUTPUT")
    tensors = inputs | outputs

    class ILogger:
        class Severity:
            ERROR = 1

    class Context:
        def __init__(self):
            self._addresses = {}
            self._shapes = {name: tensor.shape for name, tensor in tensors.items()}

        def set_tensor_address(self, name, pointer):
            note("bind", name)
            self._addresses[name] = pointer
            return module.fail != "set_tensor_address"

        def set_input_shape(self, name, shape):
            tensor = inputs[name]
            if not all(low <= n <= high for low, n, high in zip(tensor.low, shape, tensor.high, strict=True)):
                module.logger.log(1, f"{name} is outside of the profile")
                return False
            self._shapes[name] = tuple(shape)
            return True

        def get_tensor_shape(self, name):
            shape = self._shapes[name]
            if -1 in shape:
                return next(self._shapes[n][0] for n in inputs if inputs[n].shape[0] == -1), *shape[1:]
            return shape

        def execute_async_v3(self, stream):
            if module.fail == "execute_async_v3":
                module.logger.log(1, "IExecutionContext::enqueueV3: Error Code 7")
                return False
            shapes = {name: self.get_tensor_shape(name) for name in tensors}
            execute(dict(self._addresses), shapes, stream)
            return True

        def is_stream_capturable(self, stream):
            return module.capturable

        def __del__(self):
            note("del context")

    class Engine:
        num_io_tensors = len(tensors)

        def __init__(self):
            module.deserialised += 1

        def get_tensor_name(self, index):
            return list(tensors)[index]

        def get_tensor_mode(self, name):
            return mode.INPUT if name in inputs else mode.OUTPUT

        def get_tensor_dtype(self, name):
            return types.SimpleNamespace(name=tensors[name].kind)

        def get_tensor_shape(self, name):
            return tensors[name].shape

        def get_tensor_profile_shape(self, name, profile):
            return tensors[name].low, tensors[name].high, tensors[name].high

        def create_execution_context(self, *config):
            module.caches.extend(one.cache for one in config)
            return None if module.fail == "create_execution_context" else Context()

        def __del__(self):
            note("del engine")

    class Config:
        cache = None

        def create_runtime_cache(self):
            return object()

        def set_runtime_cache(self, cache):
            self.cache = cache
            return True

    class CachingEngine(Engine):
        def create_runtime_config(self):
            return Config()

    class Runtime:
        engine_host_code_allowed = False

        def __init__(self, logger):
            module.logger = logger
            if module.fail == "Runtime":
                logger.log(1, "CUDA initialization failure with error: 35")
                raise TypeError("pybind11::init(): factory function returned nullptr")

        def deserialize_cuda_engine(self, content):
            module.allowed = self.engine_host_code_allowed
            if module.host_code and not module.allowed:
                module.logger.log(1, "IRuntime::deserializeCudaEngine: the plan holds host code, which is not allowed")
                return None
            if module.fail == "deserialize_cuda_engine":
                for line in module.logs:
                    module.logger.log(1, line)
                return None
            return CachingEngine() if module.caching else Engine()

    module = types.ModuleType("tensorrt_double")
    module.__version__, module.TensorIOMode, module.ILogger, module.Runtime = version, mode, ILogger, Runtime
    module.deserialised, module.fail, module.logs = 0, "", ["IRuntime::deserializeCudaEngine: Error Code 6"]
    module.caching, module.caches, module.capturable = False, [], True
    module.host_code = module.allowed = False
    return module


def computing(network, device, **options):
    """Return a `package` whose network is that of an opened backend, which computes what a GPU would."""
    kinds = {np.dtype("f4"): "FLOAT", np.dtype("u1"): "UINT8"}
    tensors = [
        {name: Tensor(kinds[spec.dtype], spec.shape) for name, spec in specs.items()}
        for specs in (network.inputs, network.outputs)
    ]

    def execute(at, shapes, stream):
        def work():
            specs = network.inputs
            for name, value in network.run({n: device.read(at[n], specs[n].dtype, shapes[n]) for n in specs}).items():
                device.write(at[name], value)

        device.streams[stream].append(work)

    return package(*tensors, execute, **options)


def header(product=b"vtrt", version=(1, 7, 1, 116), metadata="", size=None):
    """Return bytes that look like the start of a plan and hold our metadata, and no network at all."""
    body = bytes(500) + metadata.encode()
    whole = 64 + len(body) if size is None else size
    start = product + bytes(4) + (2).to_bytes(8, "little") + whole.to_bytes(8, "little") + bytes(version)
    return start.ljust(64, b"\0") + body
