"""Exact integer arithmetic on NumPy arrays: what `docs/program-format.md` writes as equations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_TYPES = tuple(np.dtype(kind) for kind in ("int8", "uint8", "int16", "uint16", "int32", "int64"))


def storage(low: int, high: int) -> np.dtype[Any]:
    """The first of int8, uint8, int16, uint16, int32, int64 that holds ``low .. high``.

    >>> [storage(0, top).name for top in (1, 255, 256, 65535, 65536)]
    ['int8', 'uint8', 'int16', 'uint16', 'int32']
    """
    for kind in _TYPES:
        info = np.iinfo(kind)
        if info.min <= low and high <= info.max:
            return kind
    raise OverflowError(f"{low}..{high} is no range of 64-bit integers")


def half(shift: int) -> int:
    """What rounds a right shift half up: 2^(shift − 1), 0 without a shift."""
    return 1 << (shift - 1) if shift else 0


def shifted(product: int, shift: int) -> int:
    """``(product + half) >> shift`` of plain integers: half up, also below 0.

    >>> [shifted(k, 1) for k in (-3, -2, -1, 0, 1, 2, 3)]
    [-1, -1, 0, 0, 1, 1, 2]
    """
    return (product + half(shift)) >> shift


def clamp(x: int, low: int, high: int) -> int:
    """``min(max(x, low), high)`` of plain integers."""
    return min(max(x, low), high)


def saturate(x: Array, low: int, high: int) -> tuple[Array, int]:
    """int64 values clamped to ``low .. high``, and how many were outside.

    >>> saturate(np.array([-9, 0, 9]), -1, 8)
    (array([-1,  0,  8]), 2)
    """
    if not x.size or (int(x.min()) >= low and int(x.max()) <= high):
        return x, 0
    clipped = np.clip(x, low, high)
    return clipped, int(np.count_nonzero(clipped != x))


def scaled(x: Array, multiplier: Array | int, shift: int) -> Array:
    """``(x·multiplier + half) >> shift`` in int64, which the caller has proved wide enough."""
    product = np.multiply(x, multiplier, dtype=np.int64)
    if shift:
        product += half(shift)
        product >>= shift
    return product


def round_half(x: Array) -> Array:
    """float64 → nearest integers in float64, halves away from zero.

    >>> round_half(np.array([0.5, -0.5, 2.5, 0.49999999999999994])).tolist()
    [1.0, -1.0, 3.0, 0.0]
    """
    magnitude = np.abs(x)
    whole = np.floor(magnitude)
    rounded: Array = np.copysign(whole + (magnitude - whole >= 0.5), x)
    return rounded


def exact_type(bound: int) -> np.dtype[Any]:
    """The type in which products and all their partial sums up to ``bound`` in magnitude are exact in any order.

    Floating point is no more than a fast integer calculator here: float32 to 2^24, float64 to 2^53, else int64.

    >>> [exact_type(2**bits).name for bits in (24, 25, 53, 54)]
    ['float32', 'float64', 'float64', 'int64']
    """
    return np.dtype("float32" if bound <= 2**24 else "float64" if bound <= 2**53 else "int64")


def as_int(x: Array, low: int, high: int) -> Array:
    """Whole numbers of any type in the storage type of a range that holds them."""
    return x.astype(storage(low, high), copy=False)
