"""Signals side by side, and as a new axis."""

from __future__ import annotations

from typing import Any

from bitspike.lower.rules.functions.base import Call
from bitspike.lower.rules.moved import moved
from bitspike.lower.rules.sums import beside
from bitspike.lower.wire import Refused, Wire


def join(call: Call) -> Wire:
    """torch.cat and torch.stack of signals."""
    parts = call.args[0] if call.args else call.kwargs.get("tensors")
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, Wire) for part in parts):
        raise Refused(f"{call.what} of a signal and a constant has no integer operation")
    axis = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", 0)
    low, stacked = call.low, call.what == "stack"
    count = len(low.shape(parts[0])) + call.lead + stacked
    axis = axis % count - call.lead
    if axis < 0:
        raise Refused(f"{call.what} joins time steps or samples")
    wires, sources = list(parts), call.sources
    if stacked:

        def new_axis(x: Any) -> Any:
            return x.unsqueeze(axis + 1)

        wires = [
            moved(low, f"{call.name}.new{i}", new_axis, x, s)
            for i, (x, s) in enumerate(zip(wires, sources, strict=True))
        ]
    return beside(low, call.name, sources, wires, axis)
