"""The few CUDA calls that the runtime needs, over PyCUDA or cuda-bindings, whichever can be imported.

Both providers work in the device's primary context, the one that TensorRT uses, and both copy asynchronously on
a stream given by its handle. Host memory is pinned and lives as long as an array on it does. Graphs exist only
in cuda-bindings; they take any provider's stream. Not here: kernels, managed memory, more than one device at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import math
import os
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edgetalk.errors import BackendError

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, for which PyCUDA has no name
INSTALL = 'pip install "edgetalk[pycuda]", or: pip install "edgetalk[tensorrt]"'  # with cuda-bindings that fit here
NO_DRIVER = (
    "this machine has no NVIDIA driver (libcuda was not found); install the driver, or run an .xml engine, "
    "which needs no GPU"
)


class Device(Protocol):
    """One GPU; every method but `current` is called inside `with device.current():`."""

    provider: str
    """"pycuda" or "cuda-bindings"."""
    name: str
    capability: str
    """Compute capability such as "8.7"."""
    driver: str
    """Newest CUDA version that the driver supports, such as "12.6"."""

    def current(self) -> contextlib.AbstractContextManager[None]:
        """Make the device's primary context this thread's own while the block runs."""

    def memory(self) -> tuple[int, int]:
        """Return free and total bytes of the device."""

    def malloc(self, nbytes: int) -> int:
        """Return the address of `nbytes` on the device."""

    def free(self, pointer: int) -> None: ...

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array on page-locked host memory, freed with the last array that looks at it."""

    def upload(self, pointer: int, array: NDArray[Any], stream: int) -> None:
        """Start copying a contiguous pinned array to the device."""

    def download(self, array: NDArray[Any], pointer: int, stream: int) -> None:
        """Start copying from the device into a contiguous pinned array."""

    def stream(self) -> int:
        """Return the handle of a new stream that does not wait for the default one."""

    def free_stream(self, stream: int) -> None: ...

    def event(self) -> int:
        """Return the handle of a new event."""

    def record(self, event: int, stream: int) -> None: ...

    def wait(self, event: int) -> None:
        """Block until everything before the event is done; raises BackendError where something failed."""

    def free_event(self, event: int) -> None: ...


def bindings() -> Any:
    """Return the module cuda.bindings.driver, or raise BackendError where it is not installed."""
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise BackendError(f"CUDA needs a Python package ({error}): {INSTALL}") from error
    return _shared_driver(driver)


class _Driver:
    """cuda.bindings.driver, where a function that this machine's driver lacks is a BackendError."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._driver, name)
        if name.startswith("cu") and not isinstance(found, type):
            found = functools.partial(_call, found)
        setattr(self, name, found)  # looked up once
        return found


_shared_driver = functools.cache(_Driver)


def _call(function: Callable[..., Any], *given: Any) -> Any:
    try:
        return function(*given)
    except RuntimeError as error:
        if not re.search(r"(?i)\bfunction\b.*\bnot found", str(error)):
            raise
        raise BackendError(
            f"cuda-bindings asks for what this NVIDIA driver does not have ({error}); update the driver, "
            "or: pip install 'cuda-bindings<13'"
        ) from error


def checked(driver: Any, result: tuple[Any, ...]) -> Any:
    """Return what a call of cuda-bindings returned behind its status, or raise BackendError for that status."""
    status, *values = result
    if status != driver.CUresult.CUDA_SUCCESS:
        name = driver.CUresult(status).name
        raise BackendError(f"CUDA failed with {name}; `nvidia-smi` shows whether the GPU is well")
    return values[0] if values else None


class Owned:
    """Belongs to the process that opened it: one forked from that can neither use nor free it."""

    name: str

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def inherited(self) -> bool:
        return os.getpid() != self._pid

    def _check(self) -> None:
        if self.inherited:
            raise BackendError(f"{self.name} was opened before this process was forked; start it with 'spawn'")


class Bindings(Owned):
    """A device through cuda-bindings, a wheel that can be imported where no driver is."""

    provider = "cuda-bindings"

    def __init__(self, index: int) -> None:
        super().__init__()
        self._driver = driver = bindings()
        try:
            status, *_ = driver.cuInit(0)
        except RuntimeError as error:  # its loader's own class, where libcuda is missing
            raise BackendError(NO_DRIVER) from error
        if status == driver.CUresult.CUDA_ERROR_NO_DEVICE:
            raise BackendError(no_gpu(0, index))
        self._call(status)
        count = self._call(*driver.cuDeviceGetCount())
        if index >= count:
            raise BackendError(no_gpu(count, index))
        device = self._call(*driver.cuDeviceGet(index))
        attribute = driver.CUdevice_attribute
        major, minor = (
            self._call(*driver.cuDeviceGetAttribute(a, device))
            for a in (
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        self.name = self._call(*driver.cuDeviceGetName(128, device)).split(b"\0")[0].decode()
        self.capability = f"{major}.{minor}"
        self.driver = cuda_version(self._call(*driver.cuDriverGetVersion()))
        self._context = self._call(*driver.cuDevicePrimaryCtxRetain(device))

    def _call(self, *result: Any) -> Any:
        return checked(self._driver, result)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        self._check()
        self._call(*self._driver.cuCtxPushCurrent(self._context))
        try:
            yield
        finally:
            self._call(*self._driver.cuCtxPopCurrent())

    def memory(self) -> tuple[int, int]:
        status, free, total = self._driver.cuMemGetInfo()
        self._call(status)
        return int(free), int(total)

    def malloc(self, nbytes: int) -> int:
        return int(self._call(*self._driver.cuMemAlloc(nbytes)))

    def free(self, pointer: int) -> None:
        self._call(*self._driver.cuMemFree(pointer))

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        address = int(self._call(*self._driver.cuMemHostAlloc(size(shape, dtype), 0)))
        return hosted(address, shape, dtype, functools.partial(self._unpin, address))

    def _unpin(self, address: int) -> None:
        if self.inherited:
            return
        with self.current():
            self._call(*self._driver.cuMemFreeHost(address))

    def upload(self, pointer: int, array: NDArray[Any], stream: int) -> None:
        self._call(*self._driver.cuMemcpyHtoDAsync(pointer, array.ctypes.data, array.nbytes, stream))

    def download(self, array: NDArray[Any], pointer: int, stream: int) -> None:
        self._call(*self._driver.cuMemcpyDtoHAsync(array.ctypes.data, pointer, array.nbytes, stream))

    def stream(self) -> int:
        return int(self._call(*self._driver.cuStreamCreate(NON_BLOCKING)))

    def free_stream(self, stream: int) -> None:
        self._call(*self._driver.cuStreamDestroy(stream))

    def event(self) -> int:
        return int(self._call(*self._driver.cuEventCreate(0)))

    def record(self, event: int, stream: int) -> None:
        self._call(*self._driver.cuEventRecord(event, stream))

    def wait(self, event: int) -> None:
        self._call(*self._driver.cuEventSynchronize(event))

    def free_event(self, event: int) -> None:
        self._call(*self._driver.cuEventDestroy(event))


class PyCuda(Owned):
    """A device through PyCUDA, which is compiled against the CUDA at hand: the usual choice on a Jetson."""

    provider = "pycuda"

    def __init__(self, index: int) -> None:
        super().__init__()
        try:
            import pycuda.driver as driver
        except ImportError as error:  # also: no driver, for its module is linked to libcuda
            raise BackendError(
                f"PyCUDA cannot be imported ({error}); it needs the NVIDIA driver and: {INSTALL}"
            ) from error
        self._driver = driver
        try:
            driver.init()
        except driver.Error as error:
            if "no CUDA-capable device" in str(error):
                raise BackendError(no_gpu(0, index)) from error
            raise BackendError(
                f"CUDA cannot be started ({error}); `nvidia-smi` shows whether the GPU is well"
            ) from error
        count = driver.Device.count()
        if index >= count:
            raise BackendError(no_gpu(count, index))
        with self._raising():
            device = driver.Device(index)
            self.name = device.name()
            self.capability = "{}.{}".format(*device.compute_capability())
            self.driver = cuda_version(driver.get_driver_version())
            self._context = device.retain_primary_context()
        # Never let go of: its destructor detaches it as if it were no primary one, and complains.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._context))
        self._objects: dict[int, Any] = {}  # PyCUDA frees what nobody holds, we pass handles around

    @contextlib.contextmanager
    def _raising(self) -> Iterator[None]:
        try:
            yield
        except self._driver.Error as error:
            raise BackendError(f"CUDA failed ({error}); `nvidia-smi` shows whether the GPU is well") from error

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        self._check()
        with self._raising():
            self._context.push()
        try:
            yield
        finally:
            self._driver.Context.pop()

    def _keep(self, handle: int, thing: Any) -> int:
        self._objects[handle] = thing
        return handle

    def memory(self) -> tuple[int, int]:
        free, total = self._driver.mem_get_info()
        return int(free), int(total)

    def malloc(self, nbytes: int) -> int:
        with self._raising():
            allocation = self._driver.mem_alloc(nbytes)
        return self._keep(int(allocation), allocation)

    def free(self, pointer: int) -> None:
        with self._raising():
            self._objects.pop(pointer).free()

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        with self._raising():
            memory = self._driver.pagelocked_empty((size(shape, dtype),), np.uint8)
        # Its allocation would free itself too, but only in the thread that made the context.
        return hosted(memory.ctypes.data, shape, dtype, functools.partial(self._unpin, memory.base))

    def _unpin(self, allocation: Any) -> None:
        if self.inherited:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(allocation))  # which would free itself otherwise
            return
        with self.current(), self._raising():
            allocation.free()

    def upload(self, pointer: int, array: NDArray[Any], stream: int) -> None:
        with self._raising():
            self._driver.memcpy_htod_async(pointer, array, self._objects[stream])

    def download(self, array: NDArray[Any], pointer: int, stream: int) -> None:
        with self._raising():
            self._driver.memcpy_dtoh_async(array, pointer, self._objects[stream])

    def stream(self) -> int:
        with self._raising():
            stream = self._driver.Stream(NON_BLOCKING)
        return self._keep(int(stream.handle), stream)

    def free_stream(self, stream: int) -> None:
        del self._objects[stream]

    def event(self) -> int:
        with self._raising():
            event = self._driver.Event()
        return self._keep(id(event), event)

    def record(self, event: int, stream: int) -> None:
        with self._raising():
            self._objects[event].record(self._objects[stream])

    def wait(self, event: int) -> None:
        with self._raising():
            self._objects[event].synchronize()

    def free_event(self, event: int) -> None:
        del self._objects[event]


_recording = threading.Lock()


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """Keep the garbage collector off: it could free another session's memory, which a recording does not survive.

    One recording at a time: the first that ends turns it on again.
    """
    with _recording:
        collecting = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if collecting:
                gc.enable()


class Graph:
    """Work recorded once on a stream and launched in one call afterwards."""

    def __init__(self, stream: int, work: Callable[[], None]) -> None:
        """Record what `work` puts on the stream; raises BackendError where CUDA refuses to record it.

        Needs cuda-bindings, whichever provider made the stream. Work that other threads give to their own
        streams meanwhile is neither recorded nor disturbed.
        """
        self._driver = driver = bindings()
        self._executable: Any = None
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        with _nothing_collected():
            self._call(*driver.cuStreamBeginCapture(stream, mode))
            try:
                work()
            except BaseException:
                status, graph = driver.cuStreamEndCapture(stream)
                if status == driver.CUresult.CUDA_SUCCESS:  # not where the work broke the recording
                    driver.cuGraphDestroy(graph)
                raise
            graph = self._call(*driver.cuStreamEndCapture(stream))
        try:
            self._executable = self._call(*driver.cuGraphInstantiate(graph, 0))
        finally:
            driver.cuGraphDestroy(graph)

    def _call(self, *result: Any) -> Any:
        return checked(self._driver, result)

    def launch(self, stream: int) -> None:
        self._call(*self._driver.cuGraphLaunch(self._executable, stream))

    def close(self) -> None:
        executable, self._executable = self._executable, None
        if executable is not None:
            self._call(*self._driver.cuGraphExecDestroy(executable))


def size(shape: tuple[int, ...], dtype: DTypeLike) -> int:
    """Return the bytes of an array."""
    return math.prod(shape) * np.dtype(dtype).itemsize


def hosted(address: int, shape: tuple[int, ...], dtype: DTypeLike, free: Callable[[], None]) -> NDArray[Any]:
    """Return an array on memory at `address`, which `free` gives back when the last array that looks at it is gone."""
    memory = (ctypes.c_uint8 * size(shape, dtype)).from_address(address)
    weakref.finalize(memory, free).atexit = False  # where the process ends arrays may outlive us
    array: NDArray[Any] = np.frombuffer(memoryview(memory), dtype).reshape(shape)
    return array


def no_gpu(count: int, index: int) -> str:
    if not count:
        return "the NVIDIA driver sees no GPU; see `nvidia-smi`, or run an .xml engine, which needs none"
    return f"there is no GPU {index}, the NVIDIA driver sees {count} and counts from 0; name another device"


def cuda_version(number: int) -> str:
    """Return the version behind CUDA's own number: 12060 -> "12.6"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def can_capture() -> bool:
    """Return whether Graph can be used: whether cuda-bindings is installed."""
    try:
        bindings()
    except BackendError:
        return False
    return True


def has_driver() -> bool:
    """Return whether NVIDIA's driver library can be loaded; nothing is asked of it."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


PROVIDERS: dict[str, Callable[[int], Device]] = {"pycuda": PyCuda, "cuda-bindings": Bindings}
_opened: dict[tuple[str, int], Device] = {}
_opening = threading.Lock()


def open_device(index: int = 0, provider: str = "auto") -> Device:
    """Return the GPU of this index, the same object each time; its primary context stays until the process ends.

    `provider` is one of PROVIDERS, or "auto": PyCUDA where it can be imported, else cuda-bindings.
    Raises BackendError, in one sentence, where the driver, the package or the GPU is missing.
    """
    if provider == "auto":
        provider = _usual()
    with _opening:  # threads that open their first sessions together get one device, and so one engine
        key = provider, index
        if key not in _opened:
            _opened[key] = PROVIDERS[provider](index)
        return _opened[key]


def _usual() -> str:
    if not has_driver():  # PyCUDA cannot be imported then, and no other package would help
        raise BackendError(NO_DRIVER)
    try:
        import pycuda.driver  # noqa: F401
    except ImportError:
        return "cuda-bindings"
    return "pycuda"
