"""Zeros around a value: channels that a shortcut lacks, borders."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..arithmetic import Array
from ..fields import Fields, Ints
from ..limits import MAX_AXES, MAX_SIDE
from ..spec import Value
from .base import Operation, Ran


class Pad(Operation):
    """``y = x`` with so many zeros before and after along every axis."""

    kind = "pad"
    fields: ClassVar[Fields] = {"before": Ints(0, MAX_SIDE, 1, MAX_AXES), "after": Ints(0, MAX_SIDE, 1, MAX_AXES)}

    def prove(self) -> tuple[Value, ...]:
        (x,), before, after = self.read, self.attributes["before"], self.attributes["after"]
        if len(before) != len(x.shape) or len(after) != len(x.shape):
            raise self.bad(f"before and after must have {len(x.shape)} numbers", [before, after], "correct it")
        shape = tuple(b + n + a for b, n, a in zip(before, x.shape, after, strict=True))
        return (Value(shape, min(x.low, 0), max(x.high, 0), x.exponent, x.steps),)

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        (x,), (y,) = inputs, self.written
        held = np.zeros((*x.shape[:2], *y.shape), y.dtype)
        inside = (slice(b, b + n) for b, n in zip(self.attributes["before"], x.shape[2:], strict=True))
        held[(slice(None), slice(None), *inside)] = x
        return Ran((held,))
