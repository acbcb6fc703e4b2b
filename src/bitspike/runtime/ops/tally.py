"""Maximum over windows of what was sent so far."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..arithmetic import Array, saturate
from ..fields import Fields
from ..limits import INT32
from ..spec import Value
from .base import Operation, Ran, Slot
from .pooling import MAXIMUM, Maximum


class Tally(Operation):
    """``c ← clamp32(c + x)``; ``y = max c − m``; ``m ← max c``, maxima as in maxpool; c and m start at 0.

    Sums that are clamped still rise or fall by no more than x does, so y lies between the least and the greatest x
    (and 0): ``low = min(x.low, 0)``, ``high = max(x.high, 0)``.
    """

    kind = "tally"
    fields: ClassVar[Fields] = MAXIMUM

    def prove(self) -> tuple[Value, ...]:
        (x,) = self.read
        self.pool: Maximum = Maximum(self, x)
        return (Value(self.pool.shape, min(x.low, 0), max(x.high, 0), x.exponent, x.steps),)

    def slots(self) -> tuple[Slot, ...]:
        return Slot("sums", self.read[0].shape), Slot("sent", self.written[0].shape)

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        (x,), (y,) = inputs, self.written
        if state is None:
            state = np.zeros(x.shape[1:], np.int32), np.zeros((x.shape[1], *y.shape), np.int32)
        (sums, sent), clamped, parts = state, 0, []
        for step in x:
            total, more = saturate(np.add(sums, step, dtype=np.int64), *INT32)
            sums, clamped = total.astype(np.int32), clamped + more
            top = self.pool(sums)
            parts.append(np.subtract(top, sent, dtype=np.int64).astype(y.dtype))
            sent = top
        return Ran((np.stack(parts),), (sums, sent), clamped)
