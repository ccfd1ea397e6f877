"""ONNX to engines: precision, calibration, the quality gate, and OpenVINO or TensorRT files."""

import os

# ONNX Runtime, loaded below, would report to Microsoft and keep a number of the device in the home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from .builder import build  # noqa: E402

__all__ = ["build"]
