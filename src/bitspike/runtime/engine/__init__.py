"""The native engine: the integers of the interpreter, as fast as a CPU gives them."""

from .described import Row
from .library import available_isas, why_missing
from .native import Native, NativeState

__all__ = ["Native", "NativeState", "Row", "available_isas", "why_missing"]
