"""A function of one number as a table: raw images to levels, an attention's sigmoid."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..arithmetic import Array
from ..fields import Fields, Int, Roles
from ..limits import MAX_STEPS
from ..spec import Value
from .base import Operation, Ran, advance


class Lookup(Operation):
    """``y = table[x − first]``; the table is [N], [C, N] or [steps, C or 1, N]."""

    kind = "lookup"
    fields: ClassVar[Fields] = {"first": Int(), "exponent": Int(-64, 64)}
    roles: ClassVar[Roles] = {"table": True}

    def prove(self) -> tuple[Value, ...]:
        (x,), table, first = self.read, self.constants["table"], self.attributes["first"]
        shape = (1,) * (3 - table.ndim) + table.shape
        if not 1 <= table.ndim <= 3 or shape[1] not in (1, x.shape[0]) or not table.size or shape[0] > MAX_STEPS:
            must = f"the table must be [N], [{x.shape[0]}, N], or [steps, 1, N] or [steps, {x.shape[0]}, N]"
            raise self.bad(must, list(table.shape), "correct it")
        last = first + shape[2] - 1
        if x.low < first or x.high > last:
            raise self.bad(f"the input must lie in {first}..{last}", f"{x.low}..{x.high}", "rescale it, or add rows")
        self.table: np.ndarray[tuple[int, ...], np.dtype[Any]] = table.reshape(shape)
        return (Value(x.shape, int(table.min()), int(table.max()), self.attributes["exponent"], x.steps),)

    @property
    def steady(self) -> bool:
        return len(self.table) == 1

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        (x,), (y,) = inputs, self.written
        place = x.astype(np.int64) - self.attributes["first"]
        size = self.table.shape[2]
        if self.table.shape[1] > 1:
            place += (np.arange(x.shape[2]) * size).reshape(-1, *[1] * (x.ndim - 3))
        rows = self.table.reshape(len(self.table), -1).astype(y.dtype)
        if self.steady:
            return Ran((rows[0].take(place),))
        time, parts = 0 if state is None else state, []
        for step in place:
            parts.append(rows[min(time, len(rows) - 1)].take(step))
            time = advance(time, 1)
        return Ran((np.stack(parts),), time)
