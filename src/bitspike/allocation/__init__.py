"""Learned bits and time steps: which layer gets how many, under which budgets, and when that is settled."""

from bitspike.allocation.config import AllocationConfig
from bitspike.allocation.widths import Allocation

__all__ = ["Allocation", "AllocationConfig"]
