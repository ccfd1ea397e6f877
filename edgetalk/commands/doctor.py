"""Tell what this machine can run; with an engine, whether it fits; with an avatar, what it holds and may be used for.

The engine is not opened for it. Exit status 1 where it cannot run here.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
from pathlib import Path
from typing import Any

from edgetalk.errors import ModelError, one_line

PROC = Path("/proc")  # Linux alone has it
FLAGS = {  # as Linux names them on x86 and Arm -> what they mean to a network
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_vnni": "vnni (int8)",
    "avx_vnni": "vnni (int8)",
    "amx_int8": "amx (int8, bf16)",
    "avx512_bf16": "bf16",
    "asimd": "neon",
    "asimddp": "dot product (int8)",
    "bf16": "bf16",
}
PACKAGES = {
    "openvino": ".xml and .onnx",
    "tensorrt": ".plan",
    "tensorrt-rtx": ".plan",
    "cuda-bindings": "memory and CUDA graphs of an NVIDIA GPU",
    "pycuda": "memory of an NVIDIA GPU",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", nargs="?", help="an .xml, .onnx, .plan or .avatar file, or a bundled model's or face's name"
    )


def run(args: argparse.Namespace) -> None:
    from edgetalk.backends import STEPS, SUFFIXES
    from edgetalk.bundled import is_face

    if args.file is None:
        lines = machine()
    elif args.file.lower().endswith(".avatar") or is_face(args.file):
        lines = avatar(Path(args.file))
    elif (suffix := Path(args.file).suffix.lower()) and suffix not in SUFFIXES and not Path(args.file).is_dir():
        known = ", ".join((*STEPS, ".avatar"))
        raise ModelError(f"{args.file} is no engine that edgetalk knows by its suffix, nor an avatar; expected {known}")
    else:
        lines = engine(args.file)
    print("\n".join(f"{label:<13} {text}" for label, text in lines))


def machine() -> list[tuple[str, str]]:
    """What this machine offers, each with its label."""
    from edgetalk.overlap import cores

    able = features()
    slow = "avx2" in able and not any("int8" in feature for feature in able)
    advice = "; no vnni, so int8 gains less: amnet-lite suits it better than amnet" if slow else ""
    lines = [
        ("python", f"{platform.python_version()} ({sys.executable})"),
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("cpu", f"{cores()} cores; {', '.join(able) or 'features unknown'}{advice}"),
    ]
    memory = _meminfo()
    if {"MemAvailable", "MemTotal"} <= memory.keys():
        free, whole = (memory[name] / 2**30 for name in ("MemAvailable", "MemTotal"))
        lines.append(("memory", f"{free:.1f} of {whole:.1f} GiB free"))
    for package, what in PACKAGES.items():
        try:
            lines.append((package, f"{importlib.metadata.version(package)} for {what}"))
        except importlib.metadata.PackageNotFoundError:
            lines.append((package, f"not installed; for {what}"))
    return lines + [("device", device) for device in _devices()]


def engine(name: str) -> list[tuple[str, str]]:
    """What can be said of an engine before it is opened; raises where it cannot run here."""
    from edgetalk.backends import preflight
    from edgetalk.bundled import find_engine

    path = find_engine(name)
    lines = preflight(path)
    memory = _meminfo()
    room = f"; {memory['MemAvailable'] / 1e6:.0f} MB of memory are free" if "MemAvailable" in memory else ""
    return [
        ("file", f"{path}, {_size(path) / 1e6:.1f} MB{room}"),
        *lines,
        ("fits", "this machine can run it"),
    ]


def avatar(path: Path) -> list[tuple[str, str]]:
    """What an avatar says of itself: whom and what it shows, for what network, and on what terms."""
    from edgetalk.avatar import load_avatar
    from edgetalk.bundled import find_avatar

    path = find_avatar(path)
    found = load_avatar(path)
    size, film = len(found.source), found.film
    shown = f"a picture, {size}×{size}"
    if film is not None:
        kept = "the film's pictures" if film.pictures is not None else "crops alone"
        shown = f"{found.frames} frames of a film of {film.size[0]}×{film.size[1]}, {size}×{size}, {kept}"
    return [
        ("file", f"{path}, {_size(path) / 1e6:.1f} MB"),
        ("shows", f"{found.name or 'nobody named'}, {shown}"),
        ("for", f"{found.family} with source weights {found.weights[:12]}"),
        ("terms", f"{found.use} use, {found.licence or 'licence not stated'}"),
        ("consent", found.consent or "not stated"),
    ]


def _size(path: Path) -> int:
    weights = path.with_suffix(".bin")
    return path.stat().st_size + (weights.stat().st_size if path.suffix.lower() == ".xml" else 0)


def features() -> list[str]:
    """What this processor has of FLAGS; nothing on systems without /proc."""
    try:
        text = (PROC / "cpuinfo").read_text()
    except OSError:
        return []
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            flags = set(value.split())
            return list(dict.fromkeys(meaning for flag, meaning in FLAGS.items() if flag in flags))
    return []


def _meminfo() -> dict[str, int]:
    """Bytes of memory by the names of /proc/meminfo; some or all are missing on some systems."""
    try:
        entries = [line.split() for line in (PROC / "meminfo").read_text().splitlines()]
    except OSError:
        return {}
    return {entry[0].rstrip(":"): int(entry[1]) * 1024 for entry in entries}


def _full_name(core: Any, device: str) -> str:
    try:
        return str(core.get_property(device, "FULL_DEVICE_NAME"))
    except RuntimeError as error:  # as where its driver is broken
        return f"cannot be used: {one_line(error)}"


def _devices() -> list[str]:
    """Devices that OpenVINO sees, and NVIDIA's by their device nodes (no driver is asked)."""
    from edgetalk.backends.openvino import shared_core

    found = []
    try:
        core = shared_core()
    except ImportError:
        pass
    else:
        found += [f"{name} {_full_name(core, name)} (OpenVINO)" for name in core.available_devices]
    nodes = sorted(Path("/dev").glob("nvidia[0-9]*")) + sorted(Path("/dev").glob("nvhost-gpu"))
    return found + [f"{node} (NVIDIA)" for node in nodes]
