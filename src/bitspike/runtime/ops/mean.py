"""The read-out: sum of the steps that count, and how many they are."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..arithmetic import Array
from ..errors import fault
from ..fields import Fields, Ints
from ..limits import MAX_COUNT, MAX_STEPS
from ..spec import Value
from .base import Operation, Ran, Slot


class Tallied(NamedTuple):
    """Sum int64 [B, K], steps that count, steps seen."""

    total: Array
    counted: int
    seen: int


class Mean(Operation):
    """``y = Σ keep_t·x_t`` over all steps so far, with ``n = Σ keep_t``; the mean y/n is left to who reads it.

    keep is 0 or 1 a step, its last number for all later steps; [1] keeps all. No division: y/n has the order of y.
    """

    kind = "mean"
    fields: ClassVar[Fields] = {"keep": Ints(0, 1, 1, MAX_STEPS, (1,))}
    final = True

    def prove(self) -> tuple[Value, ...]:
        (x,) = self.read
        low, high = MAX_COUNT * min(x.low, 0), MAX_COUNT * max(x.high, 0)
        return (Value(x.shape, low, high, x.exponent, 1),)

    def slots(self) -> tuple[Slot, ...]:
        return (Slot("total", self.read[0].shape, "int64"),)

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        (x,), keep = inputs, self.attributes["keep"]
        total, count, seen = Tallied(np.zeros(x.shape[1:], np.int64), 0, 0) if state is None else state
        if seen + len(x) > MAX_COUNT:
            raise fault(self.where, f"a stream has at most {MAX_COUNT} steps", seen + len(x), "start a new one")
        for step in x:
            weight = keep[min(seen, len(keep) - 1)]
            total = total + step if weight else total
            count, seen = count + weight, seen + 1
        return Ran((total[None].astype(self.written[0].dtype),), Tallied(total, count, seen))
