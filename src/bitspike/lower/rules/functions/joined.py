"""Signals side by side, and as a new axis; with constants beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from bitspike.lower.rules.functions.base import Call
from bitspike.lower.rules.functions.scaled import affine
from bitspike.lower.rules.moved import moved
from bitspike.lower.rules.sums import beside
from bitspike.lower.wire import Refused, Wire


def join(call: Call) -> Wire:
    """torch.cat and torch.stack."""
    parts = call.args[0] if call.args else call.kwargs.get("tensors")
    if not isinstance(parts, (list, tuple)):
        raise Refused("what it puts side by side cannot be read off")
    if not all(isinstance(part, Wire) for part in parts):
        return _with_constants(call, list(parts))
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

        pairs = enumerate(zip(wires, sources, strict=True))
        wires = [moved(low, f"{call.name}.new{i}", new_axis, x, s) for i, (x, s) in pairs]
    return beside(low, call.name, sources, wires, axis)


def _with_constants(call: Call, parts: list[Any]) -> Wire:
    """A signal with zeros beside it, and the constants added there: a class token."""
    if len(call.wires) != 1 or call.lead != 1:
        raise Refused(f"{call.what} of {len(call.wires)} signals and a constant has no integer operation")
    place = next(i for i, part in enumerate(parts) if isinstance(part, Wire))
    function = torch.stack if call.what == "stack" else torch.cat
    axis = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", 0)

    def beside_zeros(x: torch.Tensor) -> torch.Tensor:
        return function([x if i == place else torch.zeros_like(part) for i, part in enumerate(parts)], axis)

    zeros = torch.zeros(1, *call.shape, dtype=torch.float64)
    constants = function([zeros if i == place else part for i, part in enumerate(parts)], axis)
    x = moved(call.low, call.name, beside_zeros, call.x, call.source, samples=(1,))
    return affine(replace(call, wires=[x]), 1.0, constants)
