"""ONNX to OpenVINO IR: NAME.xml and NAME.bin."""

from __future__ import annotations

from pathlib import Path

import onnx

from edgetalk.errors import BackendError


def package():
    """Return the openvino package; raises BackendError where it is missing."""
    try:
        import openvino
    except ImportError as error:
        raise BackendError(f'building an .xml needs OpenVINO ({error}): pip install "edgetalk[openvino]"') from error
    return openvino


def version() -> str:
    return str(package().__version__).partition("-")[0]


def write(model: onnx.ModelProto, path: Path, *, small: bool) -> None:
    """Write the graph as `path` and the .bin beside it; its metadata is kept at ["framework", "edgetalk"].

    `small` stores float weights in 16 bits; the arithmetic stays what the metadata says.
    """
    ov = package()
    network = ov.Core().read_model(model.SerializeToString())
    ov.save_model(network, path, compress_to_fp16=small)
