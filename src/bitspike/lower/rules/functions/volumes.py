"""Torch's pools over three axes: over two, and then over the first."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from bitspike.lower.rules.functions.base import Call
from bitspike.lower.rules.gather import shaped
from bitspike.lower.rules.pool import each, regular
from bitspike.lower.wire import Refused, Wire, wire


def pool(call: Call) -> Wire:
    """Maxima and means over windows that are all alike."""
    if call.lead != 1:
        raise Refused(f"{call.what} of torch works on samples without time; upgrade the network")
    low = call.low
    x = low.straight(call.x, call.source)
    shape = low.value(x).shape
    if len(shape) != 4:
        raise Refused(f"it pools over 3 axes, and gets {list(shape)}")
    given: Any = regular(call.module, shape)
    if type(given) not in (nn.MaxPool3d, nn.AvgPool3d):
        raise Refused(f"its windows differ, {list(shape[1:])} to {given.output_size}; a program pools equal volumes")
    kernel, stride, padding = (each(n, 3) for n in (given.kernel_size, given.stride, given.padding))
    maxima = type(given) is nn.MaxPool3d
    options: dict[str, list[int]] = {"kernel": kernel, "stride": stride, "padding": padding}
    if maxima:
        options["dilation"] = each(given.dilation, 3)
    elif given.ceil_mode or (any(padding) and not given.count_include_pad):
        raise Refused("its windows hold different numbers of values; leave padding and ceil_mode out")
    ceil = {"ceil": bool(given.ceil_mode)}
    kind, room = ("maxpool", 1) if maxima else ("sumpool", math.prod(kernel))
    x = low.plain(x, call.source, room=room, positive=maxima)
    planes = shaped(low, x, (shape[0] * shape[1], *shape[2:]), f"{call.name}.planes")
    inner = wire(low.add(kind, f"{call.name}.inner", [planes], {k: v[1:] for k, v in options.items()} | ceil))
    sides = low.value(inner).shape[1:]
    stacks = shaped(low, inner, (shape[0], shape[1], math.prod(sides)), f"{call.name}.stacks")
    along = {k: [v[0], 0 if k == "padding" else 1] for k, v in options.items()}
    outer = wire(low.add(kind, f"{call.name}.outer", [stacks], along | ceil))
    made = shaped(low, outer, (shape[0], low.value(outer).shape[1], *sides), call.name)
    divisor = 1 if maxima else int(given.divisor_override or math.prod(kernel))
    return wire(made.name, x.factor / divisor)
