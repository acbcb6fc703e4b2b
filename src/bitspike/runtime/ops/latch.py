"""The value of the first step, for all steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arithmetic import Array
from ..spec import Value
from .base import Operation, Ran, Slot


class Latch(Operation):
    """``y_t = x_1``; a stream keeps it."""

    kind = "latch"

    def prove(self) -> tuple[Value, ...]:
        return (self.read[0],)

    def slots(self) -> tuple[Slot, ...]:
        (x,) = self.read
        return (Slot("first", x.shape, x.dtype.name),)

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        (x,) = inputs
        first = x[0].copy() if state is None else state
        return Ran((np.broadcast_to(first, x.shape),), first)
