"""Part of a value: some channels, every second pixel."""

from __future__ import annotations

from typing import Any, ClassVar

from ..arithmetic import Array
from ..fields import Fields, Ints
from ..limits import MAX_AXES, MAX_SIDE
from ..spec import Value
from .base import Operation, Ran


class Slice(Operation):
    """``y_i = x_{start + stride·i}`` along every axis, as long as that is below ``stop``."""

    kind = "slice"
    fields: ClassVar[Fields] = {
        "start": Ints(0, MAX_SIDE, 1, MAX_AXES),
        "stop": Ints(1, MAX_SIDE, 1, MAX_AXES),
        "stride": Ints(1, MAX_SIDE, 1, MAX_AXES),
    }

    def prove(self) -> tuple[Value, ...]:
        (x,), at = self.read, self.attributes
        if any(len(at[name]) != len(x.shape) for name in self.fields):
            raise self.bad(f"start, stop and stride must have {len(x.shape)} numbers", dict(at), "correct it")
        if any(a >= b or b > n for a, b, n in zip(at["start"], at["stop"], x.shape, strict=True)):
            raise self.bad(f"0 <= start < stop <= {list(x.shape)} must hold", dict(at), "correct it")
        parts = zip(at["start"], at["stop"], at["stride"], strict=True)
        self.taken: tuple[slice[Any, Any, Any], ...] = tuple(slice(*part) for part in parts)
        shape = tuple(len(range(*part.indices(n))) for part, n in zip(self.taken, x.shape, strict=True))
        return (Value(shape, x.low, x.high, x.exponent, x.steps),)

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        return Ran((inputs[0][(slice(None), slice(None), *self.taken)],))
