"""Operations of programs: one row a file, with its attributes, its proof and its meaning."""

from .base import Operation, Ran, Slot
from .table import OPERATIONS

__all__ = ["OPERATIONS", "Operation", "Ran", "Slot"]
