"""Channel attention: means, a small convolution, a table of the sigmoid, a product."""

from __future__ import annotations

import numpy as np

from bitspike.graph import Node
from bitspike.layers import Restimulate
from bitspike.lower.fixed_point import quantized_rows
from bitspike.lower.lowering import Lowering
from bitspike.lower.rules.time import hold, squeeze_sum
from bitspike.lower.wire import Refused, Wire, wire
from bitspike.runtime.arithmetic import round_half

_STEP, _REACH, _FRACTION = 7, 10, 15
"""The sigmoid's table: 2^7 entries a unit from −10 to 10, 15 fraction bits."""


def restimulate(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """``σ(conv(mean x))·x``, the attention with 15 fraction bits; the products are a signal for the next rescale."""
    module = node.module
    assert isinstance(module, Restimulate)
    if module.weight is None:
        return wires[0]
    name, source = node.name, low.source(node)
    x = low.operand(wires[0], source)
    if x.factor.ndim:
        raise Refused("the channels of its signal have units of their own")
    shape, steps = low.value(x).shape, low.value(x).steps
    z = x
    if len(shape) == 3:
        z = low.plain(z, source, room=shape[1] * shape[2])
        places = shape[1] * shape[2]
        pool = {"kernel": list(shape[1:]), "stride": list(shape[1:]), "padding": [0, 0], "divisor": places}
        z = wire(low.add("sumpool", f"{name}.mean", [z], pool), z.factor / places)
    if module.over == "whole":
        z = squeeze_sum(low, z, source, f"{name}.whole").times(1 / steps)
    row = low.add("reshape", f"{name}.row", [z], {"shape": [1, shape[0]]})
    kernel = module.weight.detach().double().cpu().numpy().reshape(1, 1, -1)
    weight, scale, error = quantized_rows(kernel, 16)
    half = [module.kernel // 2]
    attributes = {"stride": [1], "before": half, "after": half, "dilation": [1], "groups": 1, "exponent": None}
    mixed = low.add("convolution", f"{name}.mixed", [wire(row)], attributes, weight=weight)
    reach = _REACH << _STEP
    index = low.settle(wire(mixed, z.factor * scale), _STEP, f"{name}.index", low=-reach, high=reach)
    table = round_half(2.0**_FRACTION / (1 + np.exp(-np.arange(-reach, reach + 1) / 2.0**_STEP))).astype(np.int64)
    looked = low.add("lookup", f"{name}.sigmoid", [index], {"first": -reach, "exponent": _FRACTION}, table=table)
    a = wire(low.add("reshape", f"{name}.attention", [wire(looked)], {"shape": [shape[0]]}), 2.0**-_FRACTION)
    if module.over == "first":
        a = wire(low.add("latch", f"{name}.first", [a]), a.factor)
    elif module.over == "whole":
        a = hold(low, a, steps, f"{name}.held")
    low.report.notes.append(
        f"the sigmoid of {name} is a table of steps of 2^-{_STEP}: its values are off by at most "
        f"{2.0 ** -(_STEP + 3):.2g}, its weights by {float(error.max()):.2g} of their size"
    )
    return wire(low.add("multiply", name, [x, a]), x.factor * a.factor)
