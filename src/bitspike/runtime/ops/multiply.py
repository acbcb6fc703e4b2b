"""Product of two values: attention times signal."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..arithmetic import Array
from ..spec import Value
from .base import Operation, Ran


class Multiply(Operation):
    """``y = x·a``; a has the shape of x, or one number a channel."""

    kind = "multiply"
    arity: ClassVar[tuple[int, int]] = (2, 2)

    def prove(self) -> tuple[Value, ...]:
        x, a = self.read
        if a.shape not in (x.shape, x.shape[:1]):
            must = f"the factor must be {list(x.shape)} or {list(x.shape[:1])}"
            raise self.bad(must, list(a.shape), "reshape it")
        products = [p * q for p in (x.low, x.high) for q in (a.low, a.high)]
        self.fits(min(products), max(products))
        exponent = (x.exponent or 0) + (a.exponent or 0)
        return (Value(x.shape, min(products), max(products), exponent, x.steps),)

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        x, a = inputs
        a = a.reshape(*a.shape, *[1] * (x.ndim - a.ndim))
        return Ran((np.multiply(x, a, dtype=np.int64).astype(self.written[0].dtype),))
