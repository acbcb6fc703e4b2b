"""Torch's linear maps and convolutions that are no layers: weights computed from others, pruned, standardised."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.layers import Linear
from bitspike.lower.rules.functions.base import Call
from bitspike.lower.rules.moved import moved
from bitspike.lower.rules.synapse import connected
from bitspike.lower.wire import Refused, Wire
from bitspike.upgrade.layers import Convolution
from bitspike.upgrade.pointwise import Pointwise

_MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_KINDS = {"conv1d": nn.Conv1d, "conv2d": nn.Conv2d, "conv3d": nn.Conv3d}


def computed(module: nn.Module) -> bool:
    """Whether a module is one of torch's maps with weights that are computed from others."""
    kind = type(module).__bases__[0] if hasattr(module, "parametrizations") else type(module)
    return kind in _MAPS


@torch.no_grad()
def module(call: Call) -> Wire:
    """A module, with the weights that it has now."""
    given: Any = call.module
    if call.lead != 1:
        raise _without_time(call)
    call.run(torch.zeros(*[1] * call.lead, *call.shape, dtype=given.weight.dtype))  # hooks set the weight
    bias = None if given.bias is None else given.bias.detach().double()
    options = (
        {}
        if not hasattr(given, "stride")
        else {name: getattr(given, name) for name in ("stride", "padding", "dilation", "groups", "padding_mode")}
    )
    return _connected(call, given.weight.detach().double(), bias, options)


def function(call: Call) -> Wire:
    """A function whose weight does not depend on the input."""
    names = ("weight", "bias", "stride", "padding", "dilation", "groups")
    given = {**dict(zip(names, call.args[1:], strict=False)), **call.kwargs}
    weight, bias = given.get("weight"), given.get("bias")
    if not isinstance(weight, Tensor) or not (bias is None or isinstance(bias, Tensor)):
        raise Refused(f"the weight of {call.what} depends on the input")
    options = {name: given[name] for name in names[2:] if name in given}
    return _connected(call, weight.detach().double(), None if bias is None else bias.detach().double(), options)


def by_constant(call: Call, x: Wire, weight: Tensor) -> Wire:
    """A linear map [O, I] of the last axis of a wire."""
    return _connected(replace(call, wires=[x], sources=call.sources[:1]), weight, None, {})


def _connected(call: Call, weight: Tensor, bias: Tensor | None, options: dict[str, Any]) -> Wire:
    low, name, x, source = call.low, call.name, call.x, call.source
    if call.lead != 1:
        raise _without_time(call)
    outputs, inputs, *sides = weight.shape
    with torch.device("meta"):  # weights of their own are never drawn
        if sides:
            kind: Any = _KINDS[f"conv{len(sides)}d"]
            groups = int(options.get("groups", 1))
            made: Any = kind(inputs * groups, outputs, tuple(sides), **options, bias=False)
        elif len(call.shape) == 1:
            made = Linear(inputs, outputs, bias=False)
        else:
            made = nn.Linear(inputs, outputs, bias=False)
    made.weight, made.bias = nn.Parameter(weight), None if bias is None else nn.Parameter(bias)
    if sides:
        return connected(low, name, Convolution(made), x, source)
    if len(call.shape) == 1:
        return connected(low, name, made, x, source)
    x = moved(low, f"{name}.front", lambda v: v.movedim(-1, 1), x, source)
    y = connected(low, name, Pointwise(made), x, source)
    return moved(low, f"{name}.back", lambda v: v.movedim(1, -1), y, name)


def _without_time(call: Call) -> Refused:
    return Refused(f"{call.what} of torch works on samples without time; take bitspike's own layer")
