"""Linear map over features."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ..arithmetic import Array, as_int, exact_type
from ..fields import Fields, Int, Roles
from ..spec import Value
from .base import Operation, Ran
from .sums import bounds


class Linear(Operation):
    """``y_o = b_o + Σ w_{o,i}·x_i``."""

    kind = "linear"
    fields: ClassVar[Fields] = {"exponent": Int(-64, 64, 0, none=True)}
    roles: ClassVar[Roles] = {"weight": True, "bias": False}

    def prove(self) -> tuple[Value, ...]:
        (x,), weight, exponent = self.read, self.constants["weight"], self.attributes["exponent"]
        if weight.ndim != 2 or x.shape != (weight.shape[1],):
            raise self.bad("the weight must be [O, I] for [I]", f"{list(weight.shape)} for {list(x.shape)}", "reshape")
        low, high = bounds(self, weight, x)
        self.work: np.dtype[Any] = exact_type(max(-low, high))
        unit = None if exponent is None or x.exponent is None else x.exponent + exponent
        return (Value((len(weight),), low, high, unit, x.steps),)

    @cached_property
    def _matrix(self) -> Array:
        """Weights as they are multiplied with: [I, O]."""
        return self.constants["weight"].astype(self.work).T

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        (x,), (y,) = inputs, self.written
        total = as_int(x.reshape(-1, x.shape[2]).astype(self.work) @ self._matrix, y.low, y.high)
        bias = self.constants.get("bias")
        if bias is not None:
            total = total + bias.astype(total.dtype)
        return Ran((total.reshape(*x.shape[:2], -1),))
