"""Functions that bend at one or two points: exact, as clamps of a rescale."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bitspike.lower.rules.functions.base import Call, numbers
from bitspike.lower.rules.functions.scaled import full, simplified
from bitspike.lower.rules.sums import added
from bitspike.lower.wire import Refused, Wire

_TOP = 2**31 - 1


def clip(call: Call) -> Wire:
    """``min(max(x, low), high)``: ReLU, ReLU6, Hardtanh, clamps by numbers."""
    low, high = _limits(call)
    return clipped(call, call.x, low, high)


def hard_sigmoid(call: Call) -> Wire:
    """``min(max(x/6 + ½, 0), 1)``."""
    return clipped(call, call.x.times(1 / 6, 0.5), 0.0, 1.0)


def clipped(call: Call, x: Wire, low: float, high: float) -> Wire:
    """A current between two numbers; one that is there already is left as it is."""
    value = call.low.value(x)
    ends = [float(f * end) for end in (value.low, value.high) for f in np.atleast_1d(x.factor).reshape(-1)]
    if not x.shift.any() and low <= min(ends) and max(ends) <= high:
        return x
    exponent = call.low.fraction_bits(x, call.source)
    finite = max((abs(end) for end in (low, high) if math.isfinite(end)), default=0.0)
    if finite:
        exponent = min(exponent, math.floor(math.log2(_TOP / finite)))
    bounds = [
        max(-_TOP - 1, min(_TOP, round(end * 2.0**exponent))) if math.isfinite(end) else None for end in (low, high)
    ]
    least, most = -_TOP - 1 if bounds[0] is None else bounds[0], _TOP if bounds[1] is None else bounds[1]
    return call.low.settle(x, exponent, f"{call.name}.relu", low=least, high=most)


def bent(call: Call) -> Wire:
    """``max(x, 0) + slope·min(x, 0)``: LeakyReLU, PReLU, and with −1 the magnitude."""
    slope = -1.0 if call.what == "abs" else _slope(call)
    low, x = call.low, call.x
    exponent = low.fraction_bits(x, call.source, 2.0)
    above = low.settle(x, exponent, f"{call.name}.above.relu", low=0)
    below = low.settle(x, exponent, f"{call.name}.below.relu", high=0)
    number = simplified(np.asarray(numbers(slope), np.float64))
    if number.ndim:
        wide = number.reshape(-1, *[1] * (len(call.shape) - 1)) if number.ndim == 1 else number
        below, number = low.spread(below, full(low, below, wide, call.lead))
        above, _ = low.spread(above, np.broadcast_to(full(low, above, wide, call.lead), low.shape(above)))
    return added(low, call.name, [call.source] * 2, [above, below.times(number)])


def _slope(call: Call) -> Any:
    if call.what.lower() == "prelu":
        return call.option("weight", 0, None)
    return float(call.option("negative_slope", 0, 0.01))


def _limits(call: Call) -> tuple[float, float]:
    name = call.what.lower()
    if name in ("relu", "relu6"):
        return 0.0, 6.0 if name == "relu6" else math.inf
    names = ("min_val", "max_val") if name == "hardtanh" else ("min", "max")
    places = {"clamp_max": (9, 0)}.get(name, (0, 1))
    defaults = (-1.0, 1.0) if name == "hardtanh" else (None, None)
    found = [call.option(n, p, d) for n, p, d in zip(names, places, defaults, strict=True)]
    if any(end is not None and not isinstance(end, (int, float)) for end in found):
        raise Refused("its limits are no numbers")
    low, high = found
    return (-math.inf if low is None else float(low)), (math.inf if high is None else float(high))
