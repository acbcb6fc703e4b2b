"""Another shape for the same numbers, in the same order."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from ..arithmetic import Array
from ..fields import Fields, Ints
from ..limits import MAX_AXES, MAX_SIDE
from ..spec import Value
from .base import Operation, Ran


class Reshape(Operation):
    """``y = x`` read channel by channel, row by row, into ``shape``."""

    kind = "reshape"
    fields: ClassVar[Fields] = {"shape": Ints(1, MAX_SIDE, 1, MAX_AXES)}

    def prove(self) -> tuple[Value, ...]:
        (x,), shape = self.read, self.attributes["shape"]
        if math.prod(shape) != x.size:
            raise self.bad(f"the shape must hold {x.size} numbers", list(shape), "correct it")
        return (Value(shape, x.low, x.high, x.exponent, x.steps),)

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        (x,) = inputs
        return Ran((x.reshape(*x.shape[:2], *self.attributes["shape"]),))
