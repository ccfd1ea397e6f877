"""OpenVINO: runs .xml (with its .bin), .onnx and .tflite files on CPUs, and on Intel GPUs and NPUs by name.

The precision is always set, never left to the plugin, whose silent default on CPUs with bf16 is bf16. Input and
output arrays are bound to the request once: feeding copies into them, results are views of them. With the
environment variable EDGETALK_CACHE set to a folder, compiled networks are kept in `openvino` there and open faster;
where that is of no use, as one that another user has filled, a warning says so. Backends of the same file that ask for
the same share the compiled network; each has its own request and arrays. Batch is 1.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetalk.errors import BackendError, InputError, ModelError, word
from edgetalk.metadata import KEY, Metadata

from . import Arrays, TensorSpec, describe, measured

# Metadata's precision -> arithmetic of what is not quantised, and the capability it takes.
ARITHMETIC = {"f32": ("f32", "FP32"), "bf16": ("bf16", "BF16"), "int8": ("bf16", "BF16"), "fp16": ("f16", "FP16")}
ALIGNMENT = 64  # bytes; the widest vector registers
SIGN_AND_REST = np.int32(-0x70002000)  # 0x8FFFE000: what a half's bits are, 13 to the left, the sign at the top
BIAS = np.float32(2.0**112)  # exponents count from -127 in a float and from -15 in a half


def open(path: Path, *, device: str, precision: str | None, threads: int | None, streams: int) -> OpenVINO:
    """Open an .xml or .onnx file; see edgetalk.backends.open_engine."""
    if precision is not None and precision not in ARITHMETIC:
        raise InputError(f"precision: got {precision!r}, expected one of {', '.join(ARITHMETIC)}")
    return OpenVINO(path.name, shared_network(path, device, precision, threads, streams))


def preflight(path: Path) -> list[tuple[str, str]]:
    """Return what reading the file tells, without compiling it; see edgetalk.backends.preflight."""
    ov, core = _package(path), shared_core()
    model = _read(core, path)
    metadata = Metadata.from_json(_metadata(model), path.name)
    arithmetic = _in_words(metadata.precision, *arithmetic_of(core, "CPU", metadata.precision))
    built = f"; built with {metadata.engine['version']}" if "version" in metadata.engine else ""
    engine = f"OpenVINO {_version(ov)} on the CPU, {arithmetic}{built}"
    lines = [describe(metadata), ("engine", engine), *measured(metadata)]
    for kind, ports in (("inputs", model.inputs), ("outputs", model.outputs)):
        tensors = (f"{name} {spec.dtype} {spec.shape}" for name, spec in _specs(ports).items())
        lines.append((kind, ", ".join(tensors)))
    return lines


class Network:
    """A network compiled for one device, shared by the backends of a file."""

    def __init__(self, path: Path, device: str, precision: str | None, threads: int | None, streams: int) -> None:
        ov, core = _package(path), shared_core()
        model = _read(core, path)  # the compiled network would not have the metadata any more
        self.metadata = _metadata(model)
        if precision is None:
            precision = Metadata.from_json(self.metadata, path.name).precision if self.metadata else "f32"
        target, chosen = _device(core, device)
        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"} if streams == 1 else {"NUM_STREAMS": streams}
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = threads
        cache = _folder(os.environ.get("EDGETALK_CACHE", ""))
        try:
            config["INFERENCE_PRECISION_HINT"], lacks = arithmetic_of(core, target, precision)
            self.device = (
                f"{target} ({core.get_property(target, 'FULL_DEVICE_NAME')}), OpenVINO {_version(ov)}, "
                f"{_in_words(precision, config['INFERENCE_PRECISION_HINT'], lacks)}{chosen}"
            )
            _fix_batch(model, path.name)
            self.compiled = _compile(core, model, target, config, cache)
        except RuntimeError as error:
            raise BackendError(f"{path.name} does not run on {target}: {_reason(error)}") from error
        self.inputs, self.outputs = _specs(self.compiled.inputs), _specs(self.compiled.outputs)
        self._core = core  # for the next network


_networks: weakref.WeakValueDictionary[tuple[Any, ...], Network] = weakref.WeakValueDictionary()
_cores: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
"""By process."""
_lock = threading.RLock()


_used = False
"""Whether a network was ever compiled here: its threads may end long after it was closed."""
_left_behind = ""
"""When this process was forked from one that had networks, whose threads, and OpenVINO's own, stayed behind."""


def _forked() -> None:
    """Leave alone the networks that a forked process has got: to free one would wait for ever for its threads."""
    global _lock, _left_behind
    _lock = threading.RLock()
    if _used and not _left_behind:
        _left_behind = "while engines were open" if _networks else "after engines were open"
    for network in _networks.values():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(network))  # even as the process ends


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_forked)


def shared_network(path: Path, *wanted: Any) -> Network:
    """Return the network of this file for what is wanted, compiled once as long as somebody uses it."""
    global _used
    if _left_behind:
        raise BackendError(
            f"{path.name} cannot be opened in a process that was forked {_left_behind}, as OpenVINO's threads stay "
            "behind; start processes by spawn or forkserver"
        )
    files = [file.stat() for file in (path, path.with_suffix(".bin")) if file.is_file()]
    key = (*wanted, os.environ.get("EDGETALK_CACHE"), *((f.st_dev, f.st_ino, f.st_mtime_ns, f.st_size) for f in files))
    with _lock:
        network = _networks.get(key)
        if network is None:
            _used = True
            network = _networks[key] = Network(path, *wanted)
        return network


class OpenVINO:
    """A request to a compiled network, with its arrays; implements edgetalk.backends.Backend."""

    def __init__(self, name: str, network: Network) -> None:
        self._name = name
        self.metadata, self.device = network.metadata, network.device
        self.inputs, self.outputs = network.inputs, network.outputs
        self._network: Network | None = network
        self._request: Any = network.compiled.create_infer_request()
        tensor = package().Tensor
        self._feeds = self._bind(network.compiled.inputs, self.inputs, tensor)
        self._results = self._bind(network.compiled.outputs, self.outputs, tensor)

    def _bind(self, ports: Any, specs: dict[str, TensorSpec], tensor: Any) -> Arrays:
        """Let the request read or write arrays that we own, so that they outlive it."""
        arrays = {}
        for port, (name, spec) in zip(ports, specs.items(), strict=True):
            arrays[name] = _aligned(spec)
            self._request.set_tensor(port, tensor(arrays[name], shared_memory=True))
        return arrays

    def run(self, feeds: Arrays) -> Arrays:
        request = self._request  # another thread may close it meanwhile
        self._opened()
        try:
            for name, value in feeds.items():
                held = self._feeds[name]
                widens = value.dtype == np.float16 and held.dtype == np.float32
                if widens and value.shape == held.shape and value.flags.c_contiguous:
                    widen(value, held)
                else:
                    np.copyto(held, value)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self._name} takes {self.inputs}, not what was fed: {error}") from error
        try:
            request.infer(share_outputs=True)
        except RuntimeError as error:
            raise BackendError(f"{self._name} failed while it ran: {_reason(error)}") from error
        return self._results

    def twin(self) -> OpenVINO:
        return OpenVINO(self._name, self._opened())

    def _opened(self) -> Network:
        if (network := self._network) is None:
            raise BackendError(f"{self._name} is closed; open it again")
        if _left_behind:  # with it: none is opened after a fork
            raise BackendError(
                f"{self._name} was opened before this process was forked; start processes by spawn or forkserver"
            )
        return network

    def close(self) -> None:
        self._network = self._request = None  # in this order, which `run` relies on


def package() -> Any:
    """Return the openvino package; raises ImportError where it is missing.

    At its import it would report to Google Analytics, in a process of its own, and write into the user's home.
    """
    # As if this were not installed: then openvino takes a stub that it brings.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def shared_core() -> Any:
    """Return OpenVINO's Core, one as long as somebody uses it; ImportError where the package is missing.

    A process that is forked afterwards has none of its threads: it gets another.
    """
    with _lock:
        core = _cores.get(os.getpid())
        if core is None:
            core = _cores[os.getpid()] = package().Core()
            with _own_signal_stack(), contextlib.suppress(RuntimeError):
                core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
        return core


class _Stack(ctypes.Structure):
    """stack_t of signal.h."""

    _fields_ = [("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@contextlib.contextmanager
def _own_signal_stack() -> Iterator[None]:
    """Give the thread its own stack for signals back, whatever the block has put in its place.

    OpenVINO's CPU plugin sets one when it is loaded, and frees it with the Core: Ctrl-C would be a segmentation fault.
    """
    if sys.platform != "linux":  # where it does not
        yield
        return
    own, c = _Stack(), ctypes.CDLL(None)
    c.sigaltstack(None, ctypes.byref(own))
    try:
        yield
    finally:
        c.sigaltstack(ctypes.byref(own), None)


def _package(path: Path) -> Any:
    try:
        return package()
    except ImportError as error:
        raise BackendError(f'{path.name} needs OpenVINO ({error}): pip install "edgetalk[openvino]"') from error


def _version(ov: Any) -> str:
    return str(ov.__version__).partition("-")[0]


def _read(core: Any, path: Path) -> Any:
    # Looked at first by us: for a file that its ONNX and IR readers refuse, OpenVINO asks all its other readers,
    # and these write to stderr.
    if path.suffix.lower() == ".onnx":
        _check_onnx(path)
    elif path.suffix.lower() == ".tflite":
        _check_tflite(path)
    else:
        _check_ir(path)
    try:
        return core.read_model(path)
    except RuntimeError as error:
        raise ModelError(f"{path.name} cannot be read: {_reason(error)}; {_cure(path)}") from error


def _cure(path: Path) -> str:
    return f"copy it and {path.stem}.bin again" if path.suffix.lower() == ".xml" else "copy it again"


def _check_ir(path: Path) -> None:
    text = path.read_bytes().strip()
    if b"<net" not in text[:256]:
        what = "is empty" if not text else "is no OpenVINO model"
        raise ModelError(f"{path.name} {what}; build one with: edgetalk build MODEL.onnx -o {word(path.name)}")
    if not text.endswith(b"</net>"):
        raise ModelError(f"{path.name} is truncated at {len(text)} bytes; {_cure(path)}")
    if not path.with_suffix(".bin").is_file():
        raise ModelError(f"{path.name} has no {path.stem}.bin beside it; copy both files of the model")


def _check_tflite(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(8)[4:] != b"TFL3":  # OpenVINO itself verifies the tables behind the flatbuffer's name
            raise ModelError(f"{path.name} is no TensorFlow Lite model; copy it again")


def _check_onnx(path: Path) -> None:
    """Walk the outermost fields of the protobuf message: they must fill the file and hold a graph (field 7)."""
    size, at, fields = path.stat().st_size, 0, set()
    if not size:
        raise ModelError(f"{path.name} is empty; {_cure(path)}")
    truncated = ModelError(f"{path.name} is truncated at {size} bytes; {_cure(path)}")
    with path.open("rb") as file:

        def varint() -> int:
            value = 0
            for shift in range(0, 70, 7):
                byte = file.read(1)
                if not byte:
                    raise truncated
                value |= (byte[0] & 127) << shift
                if byte[0] < 128:
                    return value
            raise ModelError(f"{path.name} is no ONNX model; export one with: edgetalk export")

        while at < size:
            key = varint()
            fields.add(key >> 3)
            if key & 7 == 2:
                length = varint()
                if length > size - file.tell():  # of a damaged file it may be more than a file can have
                    raise truncated
                file.seek(length, os.SEEK_CUR)
            elif key & 7 == 0:
                varint()
            else:  # an ONNX model has no other kinds of fields
                raise ModelError(f"{path.name} is no ONNX model; export one with: edgetalk export")
            at = file.tell()
    if 7 not in fields:
        raise ModelError(f"{path.name} is no ONNX model; export one with: edgetalk export")


def _metadata(model: Any) -> str:
    keys = ["framework", KEY]
    return str(model.get_rt_info(keys).astype(str)) if model.has_rt_info(keys) else ""


def _device(core: Any, device: str) -> tuple[str, str]:
    """Return the device's name and, where it was left to us, why this one; raises BackendError where it is missing."""
    if device == "auto":
        return "CPU", "; chosen because engines for OpenVINO are built for the CPU and checked on it"
    name = device.upper()
    if name != "CPU":
        there = core.available_devices
        if not any(have == name or have.partition(".")[0] == name for have in there):
            raise BackendError(
                f'device "{device}" is missing: OpenVINO sees {", ".join(there)}; '
                'use device="auto" or install the driver of that device'
            )
    return name, ""


def arithmetic_of(core: Any, device: str, precision: str) -> tuple[str, str]:
    """Return the value of INFERENCE_PRECISION_HINT and, where the device lacks the wanted one, a remark."""
    wanted, capability = ARITHMETIC.get(precision, ARITHMETIC["f32"])
    if wanted != "f32" and capability not in core.get_property(device, "OPTIMIZATION_CAPABILITIES"):
        return "f32", f" (this {device} has no {wanted})"
    return wanted, ""


def _in_words(precision: str, arithmetic: str, lacks: str) -> str:
    return f"{'int8, the rest in ' if precision == 'int8' else ''}{arithmetic}{lacks}"


def _fix_batch(model: Any, name: str) -> None:
    shapes = {port: port.get_partial_shape() for port in model.inputs}
    if any(shape.is_dynamic for shape in shapes.values()):
        for shape in shapes.values():
            shape[0] = 1
        model.reshape(shapes)
    for port in [*model.inputs, *model.outputs]:
        if port.get_partial_shape().is_dynamic:
            raise ModelError(
                f"{port.get_any_name()} of {name} has shape {port.get_partial_shape()}: only the batch may be dynamic; "
                "export the model again"
            )


def _specs(ports: Any) -> dict[str, TensorSpec]:
    return {
        port.get_any_name(): TensorSpec(
            np.dtype(port.get_element_type().to_dtype()),
            tuple(-1 if size.is_dynamic else size.get_length() for size in port.get_partial_shape()),
        )
        for port in ports
    }


def _folder(cache: str) -> str:
    """Return `openvino` in the folder that EDGETALK_CACHE names, both made where missing; "" where it is of no use."""
    if not cache:
        return ""
    try:
        os.makedirs(cache, exist_ok=True)
    except OSError as error:
        message = f"EDGETALK_CACHE: got {cache}, which cannot be made a folder ({error.strerror})"
        raise BackendError(f"{message}; name one that can be written, or unset it") from error
    folder = os.path.join(cache, "openvino")
    try:
        os.makedirs(folder, exist_ok=True)
        if not os.access(folder, os.X_OK):  # OpenVINO would end the process
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        _warn_of(folder, str(error.strerror))
        return ""
    return folder


def _compile(core: Any, model: Any, target: str, config: dict[str, Any], cache: str) -> Any:
    """Compile a model, by the folder `cache` unless it is "": what is kept there may be another user's, or damaged."""
    if not cache:
        return core.compile_model(model, target, config)
    try:
        return core.compile_model(model, target, config | {"CACHE_DIR": cache})
    except RuntimeError as error:
        compiled = core.compile_model(model, target, config)  # where it fails, too, it was not the cache
        _warn_of(cache, _reason(error).partition(" [")[0])  # less the file's name: one warning for all networks
        return compiled


def _warn_of(cache: str, why: str) -> None:
    message = f"EDGETALK_CACHE: {cache} could not be used ({why}); name a folder of your own, or unset it"
    warnings.warn(message, stacklevel=2)


def _aligned(spec: TensorSpec) -> NDArray[Any]:
    """Zeros whose first byte lies where vector loads are fastest; numpy promises 16 bytes only."""
    size = math.prod(spec.shape) * spec.dtype.itemsize
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(spec.dtype).reshape(spec.shape)


def widen(halves: NDArray[np.float16], out: NDArray[np.float32]) -> None:
    """Write finite float16 into float32 of the same size, C-contiguous: exactly, and several times faster than numpy.

    The exponent's three upper bits stay empty, and a multiplication puts the bias right, subnormal numbers' too.
    Infinity and NaN, which no avatar holds, become large numbers.
    """
    bits = out.view(np.int32)
    np.left_shift(halves.view(np.int16), 13, out=bits, dtype=np.int32, casting="unsafe")  # widened with its sign
    np.bitwise_and(bits, SIGN_AND_REST, out=bits)
    np.multiply(out, BIAS, out=out)


def _reason(error: RuntimeError) -> str:
    """The first line of an OpenVINO error that is not a place in its source code."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return (telling or lines or ["no reason given"])[0].rstrip(".!")
