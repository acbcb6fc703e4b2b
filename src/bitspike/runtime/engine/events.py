"""The form that adds a row of weights for every number that is not 0."""

from __future__ import annotations

from ..limits import INT8, INT32
from ..ops import Operation
from .forms import GATHER, Form
from .layout import operand_sides

_MOST_PLACES = 2**16
"""Channels of the taps of a kernel, and numbers of a row of an operand, that a list of events can name."""


def gathered(made: Operation) -> Form | None:
    """The form of a convolution or linear map, where it can be had."""
    x, y, weight = made.read[0], made.written[0], made.constants["weight"]
    if y.low < INT32[0] or y.high > INT32[1] or made.attributes.get("groups", 1) > 1 or x.dtype.itemsize > 1:
        return None
    if weight.min() < INT8[0] or weight.max() > INT8[1]:
        return None
    _, width = operand_sides(made)
    if weight[0].size >= _MOST_PLACES or width * x.shape[0] > _MOST_PLACES:
        return None
    return Form(GATHER, 0, f"{x.low}..{x.high} where not 0, weights in 8 bits", max(x.high, -x.low) + (x.low < 0))


__all__ = ["gathered"]
