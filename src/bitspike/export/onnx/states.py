"""What a graph carries from call to call: nothing, or tensors that come in and go out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bitspike.export.onnx.numbers import Exact, Num, digits_for
from bitspike.export.onnx.values import Clock


@dataclass(frozen=True)
class Kept:
    """One tensor of state: its name in, its name out, what is written, its shape ([1] or batch first)."""

    name: str
    written: str
    shape: tuple[Any, ...]

    @property
    def next(self) -> str:
        """Its name among the outputs."""
        return f"{self.name}.next"


class States:
    """State tensors of a graph, all float32, all 0 at the start of a sample.

    Args:
        fresh: there are none; the graph sees a sample from its first step to its last.
        steps: of a window; the graph sees no more before it starts afresh (None: it may go on).
    """

    def __init__(self, exact: Exact, fresh: bool, steps: int | None = None) -> None:
        self.exact: Exact = exact
        self.fresh: bool = fresh
        self.steps: int | None = steps
        self.kept: list[Kept] = []
        self._digits: dict[tuple[str, str], int] = {}

    def read(self, name: str, slot: str, shape: tuple[int, ...], low: int, high: int) -> Num | None:
        """A number that was written; None where there is none yet, so that it is 0."""
        if self.fresh:
            return None
        self._digits[name, slot] = count = digits_for(low, high)
        return Num(tuple(f"{name}.{slot}.{i}" for i in range(count)), low, high)

    def write(self, name: str, slot: str, value: Num | None, shape: tuple[int, ...]) -> None:
        """Keep a number; it must have been read before."""
        if self.fresh or value is None:
            return
        value = self.exact.in_digits(value, self._digits[name, slot])
        for i, part in enumerate(value.digits):
            self.kept.append(Kept(f"{name}.{slot}.{i}", part, ("batch", *shape)))

    def clock(self, name: str, most: int, steps: int) -> Clock:
        """How many steps an operation has seen, up to ``most``, and that it sees so many more now."""
        if self.fresh or most < 1:
            return Clock(self.exact)
        clock = Clock(self.exact, f"{name}.time")
        self.kept.append(Kept(f"{name}.time", clock.after(steps).counted(most), (1,)))
        return clock

    def bounds(self, low: int, high: int, x_low: int, x_high: int) -> tuple[int, int]:
        """Those of a sum over all steps."""
        if self.steps is None:
            return low, high
        return self.steps * min(x_low, 0), self.steps * max(x_high, 0)
