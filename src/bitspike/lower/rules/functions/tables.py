"""Functions of one number that no rescale is: tables, as good as their steps, which the report says."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from bitspike.lower.rules.functions.base import Call
from bitspike.lower.wire import Array, Refused, Wire, wire
from bitspike.runtime.arithmetic import round_half

NAMES = (
    "sigmoid tanh gelu silu hardswish elu selu celu mish softplus softsign logsigmoid tanhshrink hardshrink softshrink "
    "exp square pow sqrt log erf sin cos threshold rsqrt reciprocal"
).split()
MODULES = (
    nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.Hardswish, nn.ELU, nn.SELU, nn.CELU, nn.Mish, nn.Softplus, nn.Softsign,
    nn.LogSigmoid, nn.Tanhshrink, nn.Hardshrink, nn.Softshrink, nn.Threshold,
)  # fmt: skip
_ENTRIES, _OUT, _ROOM = 2**13, 2**15 - 1, 2


def table(call: Call) -> Wire:
    """The function at every level, or at steps of a power of two as far as twice the calibration data go."""
    low = call.low
    x = low.single(call.x, call.source)
    value = low.value(x)
    if value.high - value.low < 2 * _ENTRIES:
        first, count, step, index = value.low, value.high - value.low + 1, float(x.factor), x
        off = 0.0
    else:
        reach = min(
            max(low.measured.most.get(call.source, 0.0) * _ROOM, 2.0**-20) or math.inf, max(low.bound(x), 2.0**-20)
        )
        reach = low.bound(x) if call.source not in low.measured.most else reach
        exponent = max(-60, min(30, math.floor(math.log2(_ENTRIES / reach))))
        end = math.ceil(reach * 2.0**exponent)
        first, count, step = -end, 2 * end + 1, 2.0**-exponent
        index = low.settle(x, exponent, f"{call.name}.index", low=-end, high=end)
        off = step / 2
    places = (first + np.arange(count)) * step
    real = _values(call, places)
    most = float(np.abs(real).max()) or 1.0
    fraction = max(-60, min(30, math.floor(math.log2(_OUT / most))))
    levels = round_half(np.ldexp(real, fraction)).astype(np.int64)
    error = max(float(np.abs(_values(call, places + move) - np.ldexp(levels, -fraction)).max()) for move in (-off, off))
    far = "" if not off else f", steps of {step:.2g} from {places[0]:.3g} to {places[-1]:.3g}, beyond which it stays"
    low.report.notes.append(f"{call.what} of {call.name} is a table{far}: its values are off by at most {error:.2g}")
    name = low.add("lookup", call.name, [index], {"first": int(first), "exponent": fraction}, table=levels)
    return wire(name, 2.0**-fraction, at=index.at)


@torch.no_grad()
def _values(call: Call, places: Array) -> Array:
    """The function of numbers."""
    numbers = torch.as_tensor(places, dtype=torch.float64).reshape(*[1] * call.lead, -1)
    found: Array = call.run(numbers).reshape(-1).double().numpy()
    if found.shape != places.shape or not np.isfinite(found).all():
        raise Refused(f"{call.what} is not finite on the range of its input")
    return found
