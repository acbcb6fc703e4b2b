"""The product of two signals, place by place: gates."""

from __future__ import annotations

import math

import numpy as np

from bitspike.lower.lowering import Lowering
from bitspike.lower.rules.gather import shaped
from bitspike.lower.rules.sums import alike
from bitspike.lower.wire import Refused, Wire, wire


def product(low: Lowering, name: str, sources: list[str], a: Wire, b: Wire) -> Wire:
    """``a·b``; a number a channel is multiplied with all of it, other shapes are repeated as torch repeats them.

    Small integers are multiplied as they are, other signals with ``activation_bits``, whose product fits 32.
    """
    if low.value(a).steps != low.value(b).steps:
        raise Refused("its factors have other numbers of steps")
    pairs = [(a, sources[0]), (b, sources[1])]
    if math.prod(low.shape(a)) < math.prod(low.shape(b)):
        pairs.reverse()
    (x, of), (gate, by) = ((few(low, w, source), source) for w, source in pairs)
    shape, small = low.shape(x), low.shape(gate)
    wide = (*[1] * (len(shape) - len(small)), *small)
    if len(shape) > 1 and wide == (shape[0], *[1] * (len(shape) - 1)):
        x = low.straight(x, of)
        gate = shaped(low, gate.placed(None), shape[:1], f"{name}.channels").times(gate.factor)
    else:
        x, gate = alike(low, name, [of, by], [x, gate])
    made = low.add("multiply", name, [x, gate])
    return wire(made, x.factor * gate.factor, np.zeros(()), x.at)


def few(low: Lowering, x: Wire, source: str) -> Wire:
    """A signal with one factor, of at most 16 bits with a sign."""
    value = low.value(x)
    if x.scalar and value.exponent is not None and value.low >= -(2**15) and value.high < 2**15:
        return x
    return low.analog(x, source)
