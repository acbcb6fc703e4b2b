"""A model of what a convolution or linear map costs in its forms, fitted to measurements; it proves nothing.

Nanoseconds of one step on one thread, without what every form has, such as the neuron behind. x86: least squares over
eleven shapes × six densities × two alphabets on a CPU with AMX at 3.2 GHz, mean error 4 to 16 %. NEON: instructions
counted, since nothing here runs it but an emulator.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..ops import Operation
from .bits import fit_of, relative_cost
from .forms import BITS, GATHER, I16, I32, U8, Form, dense_form, element_bytes


@dataclass(frozen=True)
class Events:
    """Of the event-driven form.

    Attributes:
        lanes: weights that are added together. place: for an output. few, many: for `lanes` weights of an event, by how
            many levels it can have. number: for a number of the input. event: for one that is not 0.
    """

    lanes: int
    place: float
    few: float
    many: float
    number: float = 0.22
    event: float = 0.2


@dataclass(frozen=True)
class Dense:
    """Of a dense form: outputs go `lanes` at a time; for a product, and for a number of the padded input."""

    lanes: int
    product: float
    number: float = 0.13


_EVENTS = {
    "scalar": Events(1, 60, 0.53, 0.53, 1.0, 1.0),
    "avx2": Events(32, 34, 0.45, 1.1, event=0.9),
    "avx512vnni": Events(64, 23, 0.65, 0.65),
    "amx": Events(64, 24, 0.62, 0.62),
    "neon": Events(16, 40, 0.5, 1.2, 0.5, 1.0),
    "neondot": Events(16, 40, 0.5, 1.2, 0.5, 1.0),
}
_DENSE = {
    ("scalar", I32): Dense(1, 0.56, 0.7),
    ("avx2", U8): Dense(8, 0.0081),
    ("avx2", I16): Dense(8, 0.0128),
    ("avx512vnni", U8): Dense(16, 0.0026),
    ("avx512vnni", I16): Dense(16, 0.0052),
    ("amx", U8): Dense(16, 0.0006),
    ("amx", I16): Dense(16, 0.0052),
    ("neon", U8): Dense(4, 0.04),
    ("neon", I16): Dense(4, 0.04),
    ("neondot", U8): Dense(4, 0.0105),
    ("neondot", I16): Dense(4, 0.04),
}
_LIKE = {"avx512popcnt": "avx512vnni"}
"""Instruction sets that have these kernels of another one."""
_NEAR, _FAR = 2**16, 2**20
"""Bytes of weights up to which they stay in the first cache, and in the second."""
_BYTE = {"near": 0.01, "far": 0.034}
"""For a byte of weights that is read once for few products: a linear map."""
_FEW = 64
"""Magnitude up to which kernels take an event as one of few levels."""


def cost(made: Operation, form: Form, isa: str, density: float) -> float | None:
    """Nanoseconds of a step, or None where the model does not know the form.

    Args:
        made: a convolution or linear map. isa: instruction set. density: share of its input that is not 0.
    """
    if form.number == BITS:
        fit, dense_one = fit_of(made), dense_form(made, isa)
        other = cost(made, dense_one, isa, density)
        share = None if fit is None else relative_cost(made, fit, isa, element_bytes(dense_one))
        return None if share is None or other is None else share * other
    isa = _LIKE.get(isa, isa)
    weight, x, y = made.constants["weight"], made.read[0], made.written[0]
    outputs, depth = len(weight), int(weight[0].size)
    places = y.size // outputs
    if form.number == GATHER:
        each = _EVENTS[isa]
        stride = -(-outputs // each.lanes) * each.lanes
        size = (depth + 1) * stride
        row = (each.few if form.most <= _FEW else each.many) * stride / each.lanes
        row *= 1.0 if size <= _NEAR or isa == "scalar" else 1.6 if size <= _FAR else 3.0
        return places * (each.place + depth * density * row) + x.size * (each.number + density * each.event)
    dense = _DENSE.get((isa, form.number))
    if dense is None:
        return None
    products = places * depth * -(-outputs // dense.lanes) * dense.lanes * dense.product
    if isa == "scalar":  # it skips zeros
        return products * density + places * depth * dense.number
    if places == 1:
        size = outputs * depth * (2 if form.number == I16 else 1)
        few = products if isa != "amx" else 4 * products  # too few rows for its tiles
        return max(few, size * _BYTE["near" if size <= _FAR else "far"] / y.steps)
    return products + x.size * dense.number


__all__ = ["cost"]
