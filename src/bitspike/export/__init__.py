"""Programs and folded networks for other systems: one target a file, each held to the integers of the interpreter."""

from bitspike.export import onnx as onnx
from bitspike.export import onnx_float as onnx_float
from bitspike.export import qonnx as qonnx
from bitspike.export.c import C
from bitspike.export.exporting import export
from bitspike.export.nir import Nir, read_nir
from bitspike.export.page import Page
from bitspike.export.target import TARGETS, Exported, Source, Target
from bitspike.export.wasm import Wasm

__all__ = ["TARGETS", "C", "Exported", "Nir", "Page", "Source", "Target", "Wasm", "export", "read_nir"]
