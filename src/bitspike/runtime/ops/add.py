"""Sum of values in one unit: residual branches."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..arithmetic import Array, clamp, saturate
from ..limits import INT32
from ..spec import Value
from .base import Operation, Ran


class Add(Operation):
    """``y = clamp(Σ x_i, −2^31, 2^31 − 1)``, summed in 64 bits."""

    kind = "add"
    arity: ClassVar[tuple[int, int]] = (2, 64)

    def prove(self) -> tuple[Value, ...]:
        first = self.read[0]
        for other in self.read[1:]:
            if (other.shape, other.exponent) != (first.shape, first.exponent):
                must = f"summands must have shape {list(first.shape)} and exponent {first.exponent}"
                raise self.bad(must, f"{list(other.shape)} and {other.exponent}", "rescale or reshape first")
        low, high = sum(x.low for x in self.read), sum(x.high for x in self.read)
        self.clamps: bool = low < INT32[0] or high > INT32[1]
        return (Value(first.shape, clamp(low, *INT32), clamp(high, *INT32), first.exponent, first.steps),)

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        (y,) = self.written
        work = np.dtype(np.int64) if self.clamps else y.dtype
        total = np.add(inputs[0], inputs[1], dtype=work, casting="unsafe")
        for x in inputs[2:]:
            total = np.add(total, x, dtype=work, casting="unsafe")
        if not self.clamps:
            return Ran((total,))
        total, clamped = saturate(total, *INT32)
        return Ran((total.astype(y.dtype),), None, clamped)
