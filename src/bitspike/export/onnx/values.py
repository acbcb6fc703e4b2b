"""A value of a program in a graph: one tensor for all steps, one a step, or one that holds at every step."""

from __future__ import annotations

import numpy as np

from bitspike.export.onnx.nodes import spread
from bitspike.export.onnx.numbers import Exact, Fixed, Num
from bitspike.runtime.arithmetic import Array


class Sequence:
    """Steps of a value, in whichever form was asked for first; the other forms are made when they are.

    Args:
        merged: time and batch as one axis, [count·B, ...] (with ``held``: [B, ...]). steps: [B, ...] each.
        held: all steps are equal.
    """

    def __init__(
        self,
        exact: Exact,
        shape: tuple[int, ...],
        count: int,
        merged: Num | None = None,
        steps: list[Num] | None = None,
        held: bool = False,
    ) -> None:
        self.exact: Exact = exact
        self.shape: tuple[int, ...] = shape
        self.count: int = count
        self.held: bool = held
        self._merged, self._steps = merged, steps
        if count == 1 or held:
            one = merged if merged is not None else (steps or [])[0]
            self._merged, self._steps = one, [one] * count

    @property
    def merged(self) -> Num:
        """All steps in one tensor; of a held value that of one step."""
        if self._merged is None:
            assert self._steps is not None
            parts = self.exact.alike(*self._steps)
            digits = zip(*(x.digits for x in parts), strict=True)
            names = [self.exact.nodes.add("Concat", *names, axis=0) for names in digits]
            self._merged = Num(tuple(names), min(x.low for x in parts), max(x.high for x in parts))
        return self._merged

    @property
    def steps(self) -> list[Num]:
        """One tensor a step."""
        if self._steps is None:
            assert self._merged is not None
            nodes, found = self.exact.nodes, []
            shape = nodes.const(np.array([self.count, -1, *self.shape]), np.int64)
            whole = [nodes.add("Reshape", name, shape) for name in self._merged.digits]
            for t in range(self.count):
                place = nodes.const(np.array(t), np.int64)
                names = [nodes.add("Gather", name, place, axis=0) for name in whole]
                found.append(Num(tuple(names), self._merged.low, self._merged.high))
            self._steps = found
        return self._steps


class Clock:
    """Steps that an operation has seen: a number known now, or one that the graph carries.

    Args:
        name: of a float32 tensor [1], where the graph carries it.
    """

    def __init__(self, exact: Exact, name: str | None = None, passed: int = 0) -> None:
        self.exact: Exact = exact
        self.name: str | None = name
        self.passed: int = passed

    def after(self, steps: int) -> Clock:
        """So many steps later."""
        return Clock(self.exact, self.name, self.passed + steps)

    def counted(self, most: int) -> str:
        """The number as a tensor, which stops at ``most``."""
        nodes = self.exact.nodes
        assert self.name is not None
        nodes.alone.add(self.name)
        later = nodes.add("Add", self.name, nodes.const(np.array([self.passed]))) if self.passed else self.name
        return nodes.add("Min", later, nodes.const(np.array([most])))

    def row(self, table: Array, axes: int) -> Fixed:
        """The row of a table [R, C] for this step."""
        rows = spread(table, axes)
        if len(rows) == 1 or self.name is None:
            at = min(self.passed, len(rows) - 1)
            return Fixed(rows[at : at + 1])
        return Fixed(rows, self.exact.nodes.cast(self.counted(len(rows) - 1), np.int64))

    def first(self) -> str | bool:
        """Whether this is the first step of all: known, or a tensor [1]."""
        if self.name is None:
            return self.passed == 0
        if self.passed:
            return False
        return self.exact.nodes.add("Less", self.name, self.exact.nodes.const(np.array([0.5])))
