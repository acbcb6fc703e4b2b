"""Sums over windows: average pooling whose division is in the weights behind it."""

from __future__ import annotations

import math
from functools import reduce
from itertools import product
from typing import Any, ClassVar

import numpy as np

from ..arithmetic import Array
from ..fields import Fields, Flag, Int, Ints
from ..limits import INT32
from ..spec import Value
from .base import Operation, Ran
from .geometry import outputs_of_pool, padded, reach, taps
from .pooling import check_window


class SumPool(Operation):
    """``y_q = c_q·Σ x`` over the window at ``stride·q − padding``, zeros outside.

    Without a divisor c = 1. With one, c_q = divisor / (places of the window), a whole number, where a window that
    sticks out at the far edge of the padded input has only the places inside: divisor times the mean.
    """

    kind = "sumpool"
    fields: ClassVar[Fields] = {
        "kernel": Ints(1, 2**14, 1, 2),
        "stride": Ints(1, 2**14, 1, 2),
        "padding": Ints(0, 2**13, 1, 2),
        "ceil": Flag(),
        "divisor": Int(0, INT32[1], 0),
    }

    def prove(self) -> tuple[Value, ...]:
        (x,), at = self.read, self.attributes
        kernel, stride, padding = check_window(self, x)
        ones = (1,) * len(kernel)
        self.sides: tuple[int, ...] = tuple(
            outputs_of_pool(n, k, s, p, 1, at["ceil"])
            for n, k, s, p in zip(x.shape[1:], kernel, stride, padding, strict=True)
        )
        if min(self.sides) < 1:
            raise self.bad("the window must fit into the padded input", list(x.shape), "make it smaller")
        lengths = zip(x.shape[1:], kernel, stride, padding, self.sides, strict=True)
        self.last: tuple[int, ...] = tuple(min(k, n + 2 * p - s * (count - 1)) for n, k, s, p, count in lengths)
        found = zip(kernel, self.last, self.sides, strict=True)
        places = [math.prod(size) for size in product(*({k, last} if n > 1 else {last} for k, last, n in found))]
        divisor = at["divisor"]
        if divisor and any(divisor % size for size in places):
            raise self.bad(f"sizes of windows must divide {divisor}", sorted(set(places)), "correct the divisor")
        most = divisor or max(places)
        low, high = most * min(x.low, 0), most * max(x.high, 0)
        self.fits(low, high)
        self.dilation = ones
        return (Value((x.shape[0], *self.sides), low, high, x.exponent, x.steps),)

    def run(self, inputs: tuple[Array, ...], state: Any) -> Ran:
        (x,), (y,), at = inputs, self.written, self.attributes
        places = zip(self.sides, at["kernel"], at["stride"], self.dilation, strict=True)
        held = padded(x, at["padding"], tuple(reach(*each) for each in places), 0, y.dtype)
        total = np.zeros((*x.shape[:2], *y.shape), y.dtype)
        for _, spans in taps(self.sides, at["kernel"], at["stride"], self.dilation):
            total += held[spans]
        if at["divisor"]:
            sizes = [np.full(count, k) for count, k in zip(self.sides, at["kernel"], strict=True)]
            for size, last in zip(sizes, self.last, strict=True):
                size[-1] = last
            total *= (at["divisor"] // reduce(np.multiply.outer, sizes)).astype(y.dtype)
        return Ran((total,))
