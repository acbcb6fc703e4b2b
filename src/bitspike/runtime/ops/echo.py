"""A value of the step before: what lets spikes come back to the layer that sent them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..arithmetic import Array
from ..fields import Fields, Int, Ints, Name
from ..limits import INT32, MAX_AXES, MAX_SIDE
from ..spec import Value
from .base import Operation, Ran, Slot


class Echo(Operation):
    """``y_t = s_(t−1)``, y_1 = 0: s is the value named by ``of``, which may be written later, from y as well.

    Its own input gives steps and nothing else. Input and s must have the steps of the program's input, not those that
    `windows` makes; shape, range and exponent are those of s, which the verifier holds against it.
    """

    kind = "echo"
    reads_wide = True
    fields: ClassVar[Fields] = {
        "of": Name(),
        "shape": Ints(1, MAX_SIDE, 1, MAX_AXES),
        "low": Int(*INT32),
        "high": Int(*INT32),
        "exponent": Int(-64, 64, 0),
    }

    def prove(self) -> tuple[Value, ...]:
        at = self.attributes
        if not at["low"] <= 0 <= at["high"]:
            raise self.bad("its range must hold 0, which it begins with", f"{at['low']}..{at['high']}", "correct it")
        return (Value(at["shape"], at["low"], at["high"], at["exponent"], self.read[0].steps),)

    def slots(self) -> tuple[Slot, ...]:
        (y,) = self.written
        return (Slot("last", y.shape, y.dtype.name),)

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        """One step, n = 1; who runs the program puts s into the state when it is known."""
        (x,), (y,) = inputs, self.written
        last = np.zeros((x.shape[1], *y.shape), y.dtype) if state is None else state
        return Ran((last[None],), last)
