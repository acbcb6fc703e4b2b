"""The one scaling: weight scales, batch norm's affine, amplitudes, gains, 1/T, clipped activations."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..arithmetic import Array, clamp, half, saturate, scaled, shifted
from ..fields import Fields, Int, Roles
from ..limits import INT32, INT64
from ..spec import Value
from .base import Operation, Ran, advance, row


class Rescale(Operation):
    """``y = clamp(((x·m_c + 2^(s−1)) >> s) + b_c, low, high)``; m and b per channel, or per step and channel."""

    kind = "rescale"
    fields: ClassVar[Fields] = {
        "shift": Int(0, 62),
        "low": Int(default=INT32[0]),
        "high": Int(default=INT32[1]),
        "exponent": Int(-64, 64),
    }
    roles: ClassVar[Roles] = {"multiplier": True, "bias": False}
    reads_wide = True

    def prove(self) -> tuple[Value, ...]:
        (x,), at = self.read, self.attributes
        nothing = np.zeros((1, 1), np.int64)
        multiplier, bias = self.per_channel("multiplier", x), self.per_channel("bias", x)
        self.multiplier: Array = nothing if multiplier is None else multiplier
        self.bias: Array = nothing if bias is None else bias
        low, high, shift = at["low"], at["high"], at["shift"]
        if low > high:
            raise self.bad("low must be <= high", f"{low} > {high}", "swap them")
        factors = [int(end) for end in (self.multiplier.min(), self.multiplier.max())]
        most = max(abs(x.low), abs(x.high)) * max(map(abs, factors)) + half(shift)
        if most > INT64[1]:
            raise self.bad("the product must fit 64 bits", f"{most.bit_length()} bits", "take fewer bits of multiplier")
        products = [x.low * m for m in factors] + [x.high * m for m in factors]
        ends = [shifted(product, shift) for product in (min(products), max(products))]
        if max(map(abs, ends)) > INT64[1] - 2**32:
            raise self.bad(
                "the sum with the bias must fit 64 bits", max(map(abs, ends)), "take fewer bits of multiplier"
            )
        ends = [ends[0] + int(self.bias.min()), ends[1] + int(self.bias.max())]
        self.clamps: bool = ends[0] < low or ends[1] > high
        return (Value(x.shape, clamp(ends[0], low, high), clamp(ends[1], low, high), at["exponent"], x.steps),)

    @property
    def steady(self) -> bool:
        return len(self.multiplier) == 1 and len(self.bias) == 1

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        (x,), (y,), axes = inputs, self.written, len(self.read[0].shape)
        if self.steady:
            value, clamped = self._one(x, row(self.multiplier, 0, axes), row(self.bias, 0, axes))
            return Ran((value.astype(y.dtype),), None, clamped)
        time, clamped, parts = 0 if state is None else state, 0, []
        for step in x:
            value, more = self._one(step, row(self.multiplier, time, axes), row(self.bias, time, axes))
            parts.append(value.astype(y.dtype))
            clamped, time = clamped + more, advance(time, 1)
        return Ran((np.stack(parts),), time, clamped)

    def _one(self, x: Array, multiplier: Array, bias: Array) -> tuple[Array, int]:
        value = scaled(x, multiplier, self.attributes["shift"])
        if "bias" in self.constants:
            value += bias
        return saturate(value, self.attributes["low"], self.attributes["high"]) if self.clamps else (value, 0)
