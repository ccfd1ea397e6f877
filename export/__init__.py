"""Checkpoint to ONNX: graphs cut and unrolled for engines, checked against torch, described by their metadata."""

import os

# ONNX Runtime, loaded below, would report to Microsoft and keep a number of the device in the home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from .exporter import to_onnx  # noqa: E402

__all__ = ["to_onnx"]
