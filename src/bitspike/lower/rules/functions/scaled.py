"""Sums, differences, products and quotients, with constants or of two signals."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitspike.lower.lowering import Lowering
from bitspike.lower.rules.functions.base import Call, numbers
from bitspike.lower.rules.product import product
from bitspike.lower.rules.sums import added
from bitspike.lower.wire import Array, Refused, Wire


def add(call: Call) -> Wire:
    """``a + b``."""
    a, b = _two(call)
    if isinstance(a, Wire) and isinstance(b, Wire):
        return added(call.low, call.name, call.sources, [a, b])
    return affine(call, 1.0, b if isinstance(a, Wire) else a)


def subtract(call: Call) -> Wire:
    """``a − b``."""
    a, b = _two(call)
    if isinstance(a, Wire) and isinstance(b, Wire):
        return added(call.low, call.name, call.sources, [a, b.times(-1)])
    return affine(call, 1.0, -_number(b)) if isinstance(a, Wire) else affine(call, -1.0, a)


def subtract_from(call: Call) -> Wire:
    """``b − a``."""
    a, b = _two(call)
    if isinstance(a, Wire) and isinstance(b, Wire):
        return added(call.low, call.name, call.sources, [a.times(-1), b])
    return affine(call, -1.0, b) if isinstance(a, Wire) else affine(call, 1.0, -_number(a))


def negative(call: Call) -> Wire:
    """``−a``."""
    return call.x.times(-1)


def multiply(call: Call) -> Wire:
    """``a·b``."""
    a, b = _two(call)
    if isinstance(a, Wire) and isinstance(b, Wire):
        return product(call.low, call.name, call.sources, a, b)
    return affine(call, b if isinstance(a, Wire) else a, 0.0)


def divide(call: Call) -> Wire:
    """``a/b`` by a constant."""
    a, b = _two(call)
    if not isinstance(a, Wire) or isinstance(b, Wire):
        raise Refused("it divides by a signal, and a program divides by constants alone")
    return affine(call, 1.0 / _number(b), 0.0)


def norm(call: Call) -> Wire:
    """A batch norm with statistics of its own."""
    module: Any = call.module
    if module.training or module.running_mean is None:
        raise Refused(f"{call.what} divides by what it gets; give it running statistics")
    factor = (module.running_var + module.eps).rsqrt() * (1.0 if module.weight is None else module.weight)
    shift = (0.0 if module.bias is None else module.bias) - module.running_mean * factor
    wide = (-1, *[1] * (len(call.shape) - 1))
    return affine(call, factor.reshape(wide), shift.reshape(wide))


def affine(call: Call, factor: Any, shift: Any) -> Wire:
    """``factor·x + shift``, numbers or tensors that all samples and steps share."""
    low, x = call.low, call.x
    for role, given in (("factor", factor), ("shift", shift)):
        number = simplified(_number(given))
        if number.ndim:
            x, number = low.spread(x, full(low, x, number, call.lead))
        x = x.times(number) if role == "factor" else x.times(1.0, number)
    return x


def simplified(number: Array) -> Array:
    """One number where all are equal."""
    return np.asarray(number.flat[0]) if number.size and (number == number.flat[0]).all() else number


def full(low: Lowering, x: Wire, number: Array, lead: int) -> Array:
    """A constant for every number of a sample."""
    whole = (*[1] * lead, *low.shape(x))
    if number.ndim > len(whole):
        raise Refused(f"its constant {list(number.shape)} has more axes than the signal")
    try:
        spread = np.broadcast_to(number, whole)
    except ValueError:
        raise Refused(f"its constant {list(number.shape)} is larger than the signal {list(low.shape(x))}") from None
    found: Array = spread.reshape(low.shape(x))
    return found


def _two(call: Call) -> tuple[Any, Any]:
    if len(call.args) != 2 or call.kwargs:
        raise Refused(f"{call.what} with options has no integer operation")
    return call.args[0], call.args[1]


def _number(given: Any) -> Array:
    number = numbers(given)
    if isinstance(number, bool) or not np.isfinite(np.asarray(number, np.float64)).all():
        raise Refused("its constant is no finite number")
    return np.asarray(number, np.float64)
