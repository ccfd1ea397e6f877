"""What a .plan file says about itself, read from its bytes alone, and whether this machine can run it.

Nothing is deserialised and neither TensorRT nor CUDA is needed, for a plan that does not fit may do anything from
a cryptic message to a crash once TensorRT has its hands on it.
"""

from __future__ import annotations

import importlib.metadata
import json
import mmap
import os
import platform
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetalk.errors import ModelError, word
from edgetalk.metadata import TENSORRT_LIMIT, Metadata

PRODUCTS = {b"ftrt": "TensorRT", b"vtrt": "TensorRT-RTX"}
PACKAGES = {"TensorRT": "tensorrt", "TensorRT-RTX": "tensorrt_rtx"}
EXTRAS = {"TensorRT": "tensorrt", "TensorRT-RTX": "rtx"}
JETPACK = "sudo apt install python3-libnvinfer (docs/jetson.md)"

# Magic, layout, a field unknown to us, size in bytes, version; NVIDIA's trtexec reads the first two and the last
# for --getPlanVersionOnly. The fourth was seen to be the size in plans of TensorRT-RTX 1.7, and is taken to be one in
# those of TensorRT where it is small enough for a size.
HEADER = struct.Struct("<4sIQQ4B")
SIZE = 64
LARGEST = 1 << 40
START = b'{"format":'


@dataclass(frozen=True)
class Plan:
    """The header and the metadata of one plan."""

    path: Path
    product: str
    """"TensorRT" or "TensorRT-RTX"."""
    version: str
    """Version of the library that built it, such as "10.3.0.26"."""
    text: str
    """The JSON string under the key `edgetalk`."""
    metadata: Metadata
    gpu: int = 0
    """Which of this machine's GPUs is to run it."""

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Compute capabilities that it was built for."""
        return tuple(self.metadata.engine["compute_capability"])

    def rebuild(self, precision: str | None = None, capability: str | None = None) -> str:
        """Return the command that makes this plan anew: in another precision, or for one more device, where told."""
        precision, engine = precision or self.metadata.precision, self.metadata.engine
        options = ["--precision", precision]
        options += ["--calibration", "FILE.npz"] if precision == "int8" else []
        if self.product == "TensorRT-RTX":  # TensorRT builds for the device that it builds on
            devices = dict.fromkeys((*self.capabilities, *([capability] if capability else [])))
            options += ["--compute-capability", ",".join(devices)]
        options += ["--hardware", engine["hardware"]] if engine.get("hardware") else []
        options += ["--version-compatible"] if engine.get("version_compatible") else []
        command = " ".join([build(self.path), *(word(str(option)) for option in options)])  # a file may say anything
        if self.gpu and self.product == "TensorRT":  # which builds on the first GPU that it sees
            return f"CUDA_VISIBLE_DEVICES={visible(self.gpu)} {command}"
        return command

    def fits_version(self, version: str) -> bool:
        """Return whether the plan's own product can read it in this version, such as "10.3.0"."""
        built, here = numbers(self.version), numbers(version)
        if self.metadata.engine.get("version_compatible"):
            # NVIDIA's support matrix: newer ones of the same major, and of 10's plans also 11.
            return here[0] in (built[0], 11 if built[0] == 10 else built[0]) and here >= built[: len(here)]
        length = min(len(built), len(here))  # the package of some systems leaves out the last number
        return built[:length] == here[:length]

    def fits_capability(self, capability: str) -> bool:
        """Return whether a device of this compute capability, such as "8.7", can run the plan."""
        if self.metadata.engine.get("hardware") == "ampere+":
            return numbers(capability) >= (8, 0)
        return capability in self.capabilities

    def check(self, version: str | None, capability: str | None, driver: str | None) -> None:
        """Compare with what is here: version of the plan's product, device and its driver's CUDA, None if unknown.

        Raises ModelError where one of them does not fit.
        """
        if (version and not self.fits_version(version)) or (capability and not self.fits_capability(capability)):
            device = f"this device is {capability}" if capability else "this machine is"
            here = f"{device} with {self.product} {version}" if version else device
            raise ModelError(
                f"{self.path.name} was built for {' and '.join(self.capabilities)} with {self.product} "
                f"{self.version}, {here}; rebuild it here: {self.rebuild(capability=capability)}"
            )
        cuda = self.metadata.engine.get("cuda")
        if cuda and driver and numbers(driver)[:1] < numbers(str(cuda))[:1]:
            raise ModelError(
                f"{self.path.name} was built with CUDA {cuda}, this driver supports up to {driver}; "
                f"update the driver, or rebuild it here: {self.rebuild()}"
            )


def read(path: Path) -> Plan:
    """Return the header and the metadata of the plan in an existing file.

    Raises ModelError where it is empty, no plan, truncated, of a layout unknown to us, or without our metadata.
    """
    name, size = path.name, path.stat().st_size
    with path.open("rb") as file:
        start = file.read(SIZE)
        product = PRODUCTS.get(start[:4])
        if product is None:
            what = f"begins with {start[:8]!r}" if start else "is empty"
            raise ModelError(f"{name} is no TensorRT plan, it {what}; build one with: {build(path)}")
        if size < SIZE:
            raise ModelError(f"{name} is truncated at {size} bytes; copy it again")
        _, layout, _, whole, *version = HEADER.unpack_from(start)
        if layout != 0:
            raise ModelError(f"{name} has a plan header of layout {layout}, expected 0; rebuild it: {build(path)}")
        if size < whole < LARGEST:
            raise ModelError(f"{name} is truncated at {size} of {whole} bytes; copy it again")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            text = find_metadata(content)
    if not text:
        raise ModelError(f"{name} has no edgetalk metadata; build it with: {build(path)}")
    metadata = Metadata.from_json(text, name)
    built = metadata.engine.get("compute_capability")
    if not (built and isinstance(built, list) and all(isinstance(one, str) for one in built)):
        raise ModelError(f"{name} does not say for which device it was built; rebuild it: {build(path)}")
    return Plan(path, product, ".".join(map(str, version)), text, metadata)


def build(path: Path) -> str:
    """Return the command that builds a plan of this name, as far as that tells it."""
    return f"edgetalk build {word(path.stem + '.onnx')} -o {word(path.name)}"


def install(product: str) -> str:
    """Return the command that installs a product's Python package here."""
    if product == "TensorRT" and platform.machine() == "aarch64":  # its wheels are not made for Jetson boards
        return JETPACK
    return f'pip install "edgetalk[{EXTRAS[product]}]"'


def install_for(product: str, cuda: str) -> str:
    """Return the command that installs a product's Python package for a CUDA version, such as "12.4"."""
    if product == "TensorRT" and platform.machine() == "aarch64":
        return JETPACK
    return f"pip install {PACKAGES[product].replace('_', '-')}-cu{numbers(cuda)[0]}"


def toolkit(package: Any) -> str:
    """Return the major CUDA version that an installed wheel was made for, "" where it is not from a wheel."""
    for major in range(11, 16):
        try:
            importlib.metadata.version(f"{package.__name__}_cu{major}_libs")
            return str(major)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def visible(gpu: int) -> str:
    """Return what CUDA_VISIBLE_DEVICES calls the GPU of this index."""
    names = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return word(names[gpu]) if names[0] and gpu < len(names) else str(gpu)


def find_metadata(content: bytes | mmap.mmap) -> str:
    """Return our JSON string out of a plan's bytes, "" where there is none."""
    at = content.find(START)
    while at >= 0:
        text = content[at : at + TENSORRT_LIMIT].decode("latin-1")
        try:
            _, end = json.JSONDecoder().raw_decode(text)
            return text[:end]
        except (ValueError, RecursionError):  # the same characters by chance
            at = content.find(START, at + 1)
    return ""


def numbers(version: str) -> tuple[int, ...]:
    """Return a version to compare with: "10.3.0.26" -> (10, 3, 0, 26); what is no number ends it."""
    parts = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        parts.append(int(part))
    return tuple(parts)
