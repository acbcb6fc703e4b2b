"""Programs of one step as QONNX, for FINN and hls4ml."""

from bitspike.export.qonnx.target import Qonnx

__all__ = ["Qonnx"]
