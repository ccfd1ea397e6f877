"""Checkpoint to ONNX: graphs cut and unrolled for engines, checked against torch, described by their metadata."""

from .exporter import to_onnx

__all__ = ["to_onnx"]
