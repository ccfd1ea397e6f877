"""ONNX to OpenVINO IR: NAME.xml and NAME.bin, the same bytes for the same graph."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgetalk.backends import openvino as runtime
from edgetalk.errors import BackendError

from .rewrite import AFTER, rewritten

SMALL = 1024  # values; a smaller constant may be an epsilon or a bound, and is not worth a conversion


def package() -> Any:
    """Return the openvino package; raises BackendError where it is missing."""
    try:
        return runtime.package()
    except ImportError as error:
        raise BackendError(f'building an .xml needs OpenVINO ({error}): pip install "edgetalk[openvino]"') from error


def version() -> str:
    """Return the version of OpenVINO that builds here."""
    return str(package().__version__).partition("-")[0]


def judged_on(precision: str) -> str:
    """Return what an engine is judged on here, and in which arithmetic where this CPU lacks the precision's own."""
    arithmetic, why = runtime.arithmetic_of(runtime.shared_core(), "CPU", precision)
    return f"OpenVINO in {arithmetic}{why}" if why else "OpenVINO"


def write(model: onnx.ModelProto, path: Path, *, halve: bool, without: Collection[str] = ()) -> None:
    """Write the graph as `path` and the .bin beside it; its metadata is kept at ["framework", "edgetalk"].

    `halve` stores float weights in 16 bits; the arithmetic stays what the metadata says. Rewrites named in `without`
    are left out.
    """
    ov = package()
    network = runtime.shared_core().read_model(rewritten(model, AFTER, without).SerializeToString())
    if halve:
        _halve_weights(network)
    for i, node in enumerate(network.get_ordered_ops()):
        if re.fullmatch(r"[A-Z]\w*_\d+", node.get_friendly_name()):  # numbered by what the process built before
            node.set_friendly_name(f"{node.get_type_name()}_{i}")
    ov.save_model(network, path, compress_to_fp16=False)


def _halve_weights(network: Any) -> None:
    """Replace float weights by 16-bit ones that are converted back when the network is compiled.

    OpenVINO's own compression does so too, but leaves every weight alone where a network has Q/DQ.
    """
    from openvino import opset13 as ops

    for node in network.get_ordered_ops():
        if node.get_type_name() == "Constant" and node.get_element_type().to_string() == "f32":
            weight = node.get_data()
            if weight.size >= SMALL and np.abs(weight).max() <= np.finfo(np.float16).max:
                whole = ops.convert(ops.constant(weight.astype(np.float16)), "f32")
                for reader in node.output(0).get_target_inputs():
                    reader.replace_source_output(whole.output(0))
