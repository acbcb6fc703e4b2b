"""Folded network → integer program: the one place that knows both torch and programs."""

from bitspike.lower.comparing import Comparison, SpikeFlips, compare
from bitspike.lower.compiling import compile as compile
from bitspike.lower.outputs import Outputs, outputs
from bitspike.lower.report import CompileReport, LayerReport
from bitspike.lower.rules.given import Pixels

__all__ = ["Comparison", "CompileReport", "LayerReport", "Outputs", "Pixels", "SpikeFlips", "compare", "outputs"]
