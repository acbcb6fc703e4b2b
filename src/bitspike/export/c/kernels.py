"""What a kernel of weighted sums is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from bitspike.runtime.arithmetic import Array
from bitspike.runtime.spec import Constant, Value

from .names import scalar
from .writing import Function

ROWS = 4
"""Outputs that are summed at a time."""


class Kernel(ABC):
    """How the numbers of a window are kept, and how an output sums them.

    Args:
        f: function that it stands in. rows: weights [O, K]. x, y: what is read and written. outputs: that one window
            meets, of a group.
    """

    def __init__(self, f: Function, constant: Constant, rows: Array, x: Value, y: Value, outputs: int) -> None:
        self.f: Function = f
        self.constant: Constant = constant
        self.rows: Array = rows
        self.x: Value = x
        self.y: Value = y
        self.outputs: int = outputs
        self.sum: str = scalar(y.low, y.high)
        self.block: int = ROWS
        self.prepare()

    @abstractmethod
    def prepare(self) -> None:
        """Put weights into flash, room into the scratch, helpers into the file."""

    @abstractmethod
    def begin(self) -> list[str]:
        """Lines before a window."""

    @abstractmethod
    def each(self, number: str) -> list[str]:
        """Lines for the number at place j of a window."""

    @abstractmethod
    def end(self) -> list[str]:
        """Lines behind a window."""

    @abstractmethod
    def sums(self, block: str) -> str:
        """Statement that fills sums[0..] for a block of outputs, by its number."""

    def room(self, member: str, count: int) -> str:
        """An array in the scratch that has at least so many numbers."""
        scratch = self.f.unit.scratch
        scratch[member] = max(scratch.get(member, 0), count)
        return f"c->{member}"
