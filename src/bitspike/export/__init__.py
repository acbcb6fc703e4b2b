"""Programs and folded networks for other systems: one target a file, each held to the integers of the interpreter."""

from bitspike.export import onnx as onnx
from bitspike.export import onnx_float as onnx_float
from bitspike.export import qonnx as qonnx
from bitspike.export.exporting import export
from bitspike.export.target import TARGETS, Exported, Source, Target

__all__ = ["TARGETS", "Exported", "Source", "Target", "export"]
