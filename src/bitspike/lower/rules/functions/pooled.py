"""Torch's pools over windows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bitspike.lower.lowering import Lowering
from bitspike.lower.rules.functions.base import Call
from bitspike.lower.rules.functions.resized import resize
from bitspike.lower.rules.moved import moved
from bitspike.lower.rules.pool import greatest, regular, torch_average
from bitspike.lower.wire import Refused, Wire


def maxima(call: Call) -> Wire:
    """Maxima over windows."""
    x = _straight(call)
    if getattr(call.module, "return_indices", False):
        raise Refused("it returns places of maxima")
    return of_windows(call.low, call.name, call.module, x, call.source)


def of_windows(low: Lowering, name: str, module: Any, x: Wire, source: str) -> Wire:
    """Maxima of a step: over regular windows, or over those of an adaptive pool, each repeated to one length."""
    pool = regular(module, low.value(x).shape)
    if type(pool) in (nn.MaxPool1d, nn.MaxPool2d):
        return greatest(low, name, pool, x, source)
    sides = low.value(x).shape[1:]
    wanted = pool.output_size if isinstance(pool.output_size, (tuple, list)) else (pool.output_size,) * len(sides)
    lines, lengths = [], []
    for side, count in zip(sides, wanted, strict=True):
        count = side if count is None else int(count)
        windows = [range(i * side // count, -(-(i + 1) * side // count)) for i in range(count)]
        longest = max(len(window) for window in windows)
        lines.append(torch.tensor([min(w[0] + j, w[-1]) for w in windows for j in range(longest)]))
        lengths.append(longest)

    def windowed(x: Tensor) -> Tensor:
        for axis, line in enumerate(lines):
            x = x.index_select(axis + 2, line)
        return x

    x = low.straight(moved(low, f"{name}.windows", windowed, x, source), source)
    size: Any = tuple(lengths)
    return greatest(low, name, nn.MaxPool1d(size[0]) if len(size) == 1 else nn.MaxPool2d(size), x, source)


def averages(call: Call) -> Wire:
    """Means over windows: sums where all are alike, else a map of every axis."""
    x = _straight(call)
    pool = regular(call.module, call.low.value(x).shape)
    if type(pool) in (nn.AvgPool1d, nn.AvgPool2d):
        made = torch_average(call.low, call.name, pool, x, call.source)
        if made is not None:
            return made
    return resize(call)


def _straight(call: Call) -> Wire:
    if call.lead != 1:
        raise Refused(f"{call.what} of torch works on samples without time; take bitspike's own pool")
    return call.low.straight(call.x, call.source)
