"""ONNX to engines: precision, calibration, the quality gate, and OpenVINO or TensorRT files."""

from .builder import build

__all__ = ["build"]
