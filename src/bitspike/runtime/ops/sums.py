"""Bounds of weighted sums: what accumulators need, in any order of summation."""

from __future__ import annotations

import numpy as np

from ..arithmetic import Array
from ..limits import INT16, INT32, INT64
from ..spec import Value
from .base import Operation


def bounds(op: Operation, weight: Array, x: Value) -> tuple[int, int]:
    """Range that holds the sums of ``weight`` [O, K] over x, their biases, and every partial sum of both.

        high = max_o(max(b_o, 0) + max(x.high, 0)·P_o − min(x.low, 0)·N_o)
        low  = min_o(min(b_o, 0) + min(x.low, 0)·P_o − max(x.high, 0)·N_o)

    with P_o the sum of the positive weights of an output and N_o that of the negative ones, sign dropped. Zeros around
    an image, and sums that are cut off anywhere, lie between them, too. A bias fits the type of the sums, which is
    that of the range.
    """
    bias = op.constants.get("bias")
    if bias is not None and bias.shape != (len(weight),):
        raise op.bad(f"bias must be [{len(weight)}]", list(bias.shape), "correct it")
    if weight.min(initial=0) < INT16[0] or weight.max(initial=0) > INT16[1]:
        raise op.bad("weights must fit 16 bits", f"{weight.min()}..{weight.max()}", "quantize them to fewer bits")
    if not weight.size:
        raise op.bad("the weight must hold numbers", list(weight.shape), "leave the layer out")
    below, above = min(x.low, 0), max(x.high, 0)
    positive, negative = _row_sums(np.maximum(weight, 0)), _row_sums(np.minimum(weight, 0))
    shift = np.zeros(len(weight), np.int64) if bias is None else bias.astype(np.int64)
    most = max(above, -below) * (int(positive.max()) - int(negative.min()))
    if most >= 2**62:  # rare, and few outputs then: with plain integers, which have no end
        positive, negative, shift = (part.astype(object) for part in (positive, negative, shift))
    low = int((np.minimum(shift, 0) + below * positive + above * negative).min())
    high = int((np.maximum(shift, 0) + above * positive + below * negative).max())
    if low < INT64[0] or high > INT64[1]:
        raise op.bad("sums must fit 64 bits", f"{low}..{high}", "rescale the input to fewer bits")
    return low, high


def _row_sums(table: Array) -> Array:
    """Sums of rows in int64; NumPy is slow where rows are short."""
    total: Array = np.zeros(len(table), np.int64)
    if table.shape[1] > 16:
        return np.add.reduce(table, 1, dtype=np.int64, out=total)
    for column in table.T:
        total += column
    return total


def accumulator_bits(value: Value) -> int:
    """16, 32 or 64: what holds every partial sum of a value that a convolution or linear map writes.

    >>> accumulator_bits(Value((1,), -32768, 32767)), accumulator_bits(Value((1,), 0, 32768))
    (16, 32)
    """
    for bits, (low, high) in ((16, INT16), (32, INT32)):
        if low <= value.low and value.high <= high:
            return bits
    return 64
