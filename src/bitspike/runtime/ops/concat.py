"""Channels side by side."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..arithmetic import Array
from ..spec import Value
from .base import Operation, Ran


class Concat(Operation):
    """``y`` holds the channels (axis 0) of all inputs, in order."""

    kind = "concat"
    arity: ClassVar[tuple[int, int]] = (2, 1024)

    def prove(self) -> tuple[Value, ...]:
        first = self.read[0]
        for other in self.read[1:]:
            if (other.shape[1:], other.exponent) != (first.shape[1:], first.exponent):
                must = f"inputs must be [C, {', '.join(map(str, first.shape[1:]))}] with exponent {first.exponent}"
                raise self.bad(must, f"{list(other.shape)} and {other.exponent}", "rescale or reshape first")
        low, high = min(x.low for x in self.read), max(x.high for x in self.read)
        shape = (sum(x.shape[0] for x in self.read), *first.shape[1:])
        return (Value(shape, low, high, first.exponent, first.steps),)

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        return Ran((np.concatenate([x.astype(self.written[0].dtype, copy=False) for x in inputs], 2),))
