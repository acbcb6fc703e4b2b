"""Products of two matrices that are both signals: attention without a softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitspike.lower.rules.along import along
from bitspike.lower.rules.functions.base import Call, numbers
from bitspike.lower.rules.functions.mapped import by_constant
from bitspike.lower.rules.gather import shaped
from bitspike.lower.rules.moved import moved
from bitspike.lower.rules.product import few
from bitspike.lower.wire import Refused, Wire, wire
from bitspike.runtime import Grid

_MOST = 2**24
"""Products of one sample and step, all of which are in memory at once."""


def matmul(call: Call) -> Wire:
    """``a·b`` [*, m, k] × [*, k, n]: b once for every row of a, times the numbers of a, summed over k."""
    a, b = (*call.args, *call.kwargs.values())
    if not isinstance(a, Wire) or not isinstance(b, Wire):
        return _with_constant(call, a, b)
    low = call.low
    shapes = low.shape(a), low.shape(b)
    if min(map(len, shapes)) < 2 or shapes[0][:-2] != shapes[1][:-2] or shapes[0][-1] != shapes[1][-2]:
        raise Refused(f"{call.what} of signals {list(low.shape(a))} and {list(low.shape(b))} has no integer operation")
    (*lead, m, k), n = shapes[0], shapes[1][-1]
    if low.value(a).steps != low.value(b).steps:
        raise Refused("its factors have other numbers of steps")
    heads = math.prod(lead)
    if heads * m * k * n > _MOST:
        raise Refused(f"its {heads * m * k * n} products would all be in memory; take fewer tokens")
    rows, columns = (low.straight(few(low, x, s), s) for x, s in zip((a, b), call.sources, strict=True))
    plane = shaped(low, columns, (heads, k * n), f"{call.name}.columns")
    copies = along(low, plane, (heads, 1, k * n), 1, np.ones((m, 1), np.int64), f"{call.name}.copies", Grid(0, 1))
    factors = shaped(low, rows, (heads * m * k,), f"{call.name}.rows")
    spread = shaped(low, copies, (heads * m * k, n), f"{call.name}.spread")
    products = wire(low.add("multiply", f"{call.name}.products", [spread, factors]))
    value = low.value(products)
    if max(-value.low, value.high) * k >= 2**31:
        products = low.settle(products, 30 - (max(-value.low, value.high) * k).bit_length(), f"{call.name}.few")
    view = shaped(low, products, (heads * m, k, n), f"{call.name}.view")
    window = {"kernel": [k, 1], "stride": [1, 1], "padding": [0, 0]}
    total = wire(low.add("sumpool", f"{call.name}.sums", [view], window))
    made = shaped(low, total, (*lead, m, n), call.name)
    return wire(made.name, products.factor * rows.factor * columns.factor)


def _with_constant(call: Call, a: Any, b: Any) -> Wire:
    """A linear map of the last axis, or of the one before it."""
    table = torch.as_tensor(numbers(b if isinstance(a, Wire) else a))
    if table.dim() != 2:
        raise Refused(f"{call.what} with a constant {list(table.shape)} has no integer operation")
    if isinstance(a, Wire):
        return by_constant(call, a, table.T.contiguous())
    low = call.low

    def turned(x: Tensor) -> Tensor:
        return x.transpose(-1, -2)

    x = moved(low, f"{call.name}.turned", turned, b, call.source)
    return moved(low, f"{call.name}.back", turned, by_constant(call, x, table), call.name)
