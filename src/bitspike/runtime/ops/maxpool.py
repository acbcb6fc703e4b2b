"""Maximum over windows of one step."""

from __future__ import annotations

from typing import Any, ClassVar

from ..arithmetic import Array
from ..fields import Fields
from ..spec import Value
from .base import Operation, Ran
from .pooling import MAXIMUM, Maximum


class MaxPool(Operation):
    """``y_q = max x`` over the places of the window at ``stride·q + dilation·p − padding`` that are inside."""

    kind = "maxpool"
    fields: ClassVar[Fields] = MAXIMUM

    def prove(self) -> tuple[Value, ...]:
        (x,) = self.read
        self.pool: Maximum = Maximum(self, x)
        return (Value(self.pool.shape, x.low, x.high, x.exponent, x.steps),)

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        return Ran((self.pool(inputs[0].astype(self.written[0].dtype, copy=False)),))
