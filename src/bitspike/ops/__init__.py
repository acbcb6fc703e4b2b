"""Operations: the reference and, later, fast kernels, chosen at one point."""

from bitspike.ops.dispatch import Kernel, choose, explain, register, table, using
from bitspike.ops.scan import scan

__all__ = ["Kernel", "choose", "explain", "register", "scan", "table", "using"]
