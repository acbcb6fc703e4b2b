"""Integer programs as ONNX graphs whose numbers no runtime rounds."""

from bitspike.export.onnx.target import Onnx

__all__ = ["Onnx"]
