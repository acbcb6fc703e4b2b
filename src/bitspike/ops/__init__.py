"""Operations: the reference and fast kernels, chosen at one point."""

from bitspike.ops.dispatch import Kernel, choose, explain, register, table, using
from bitspike.ops.scan import scan
from bitspike.ops.scan_native import scan_native
from bitspike.ops.spec import MembraneState, ScanFacts, ScanSpec, spec_of

__all__ = [
    "Kernel",
    "MembraneState",
    "ScanFacts",
    "ScanSpec",
    "choose",
    "explain",
    "register",
    "scan",
    "scan_native",
    "spec_of",
    "table",
    "using",
]
