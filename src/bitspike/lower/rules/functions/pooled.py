"""Torch's pools over windows."""

from __future__ import annotations

from typing import Any

from torch import nn

from bitspike.lower.rules.functions.base import Call
from bitspike.lower.rules.functions.resized import resize
from bitspike.lower.rules.pool import greatest, regular, torch_average
from bitspike.lower.wire import Refused, Wire


def maxima(call: Call) -> Wire:
    """Maxima over regular windows."""
    x = _straight(call)
    pool = regular(call.module, call.low.value(x).shape)
    if type(pool) not in (nn.MaxPool1d, nn.MaxPool2d):
        wanted = getattr(pool, "output_size", None)
        raise Refused(
            f"its windows differ: {list(call.shape[1:])} to {wanted}, and a program has maxima over equal ones"
        )
    if getattr(pool, "return_indices", False):
        raise Refused("it returns places of maxima")
    return greatest(call.low, call.name, pool, x, call.source)


def averages(call: Call) -> Wire:
    """Means over windows: sums where all are alike, else a map of every axis."""
    x = _straight(call)
    pool = regular(call.module, call.low.value(x).shape)
    if type(pool) in (nn.AvgPool1d, nn.AvgPool2d):
        made = torch_average(call.low, call.name, pool, x, call.source)
        if made is not None:
            return made
    return resize(call)


def _straight(call: Call) -> Any:
    if call.lead != 1:
        raise Refused(f"{call.what} of torch works on samples without time; take bitspike's own pool")
    return call.low.straight(call.x, call.source)
