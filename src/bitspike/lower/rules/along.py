"""Linear maps along one axis, of integers: a convolution whose kernel is the whole axis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bitspike.lower.wire import Array, Refused, Wire, wire
from bitspike.runtime import Grid

if TYPE_CHECKING:
    from bitspike.lower.lowering import Lowering

_WEIGHTS, _STRIDE = 2**24, 1024


def along(low: Lowering, x: Wire, shape: tuple[int, ...], axis: int, table: Array, name: str, grid: Any = None) -> Wire:
    """``y[…, j, …] = Σ_i table[j, i]·x[…, i, …]`` of a value of this shape, of at most four axes; axes stay in order.

    The last axis of images goes round: a convolution over one axis puts the new axis before those behind the channels,
    and a swap brings it back.
    """
    P, B, Q = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    after = (*shape[:axis], len(table), *shape[axis + 1 :])
    outer = shape[0] if axis > 1 else P
    if axis > 1 and P * len(table) * B > outer * (len(table) * B + (P // outer) ** 2):
        middle = P // outer
        x = _grouped(low, x, (outer, middle * B, Q), B, table, f"{name}.turned", grid)  # [outer, n, middle, Q]
        back = (outer, len(table) * middle, Q)
        same = np.eye(middle, dtype=np.int64)
        return _reshaped(low, _grouped(low, x, back, middle, same, f"{name}.back", Grid(0, 1)), after)
    return _reshaped(low, _grouped(low, x, (P, B, Q), B, table, name, grid), after)


def plane(low: Lowering, x: Wire, rows: Array, columns: Array, name: str, grid: Any = None) -> Wire:
    """``rows·X·columnsᵀ`` of every channel of images [C, H, W]: two convolutions, each of which turns the image."""
    C, H, W = low.value(x).shape
    x = _grouped(low, x, (C, H * W, 1), W, columns, f"{name}.columns", grid)  # [C, W', H]
    x = _grouped(low, x, (C, len(columns) * H, 1), H, rows, f"{name}.rows", grid)  # [C, H', W']
    return _reshaped(low, x, (C, len(rows), len(columns)))


def front(
    low: Lowering, x: Wire, axes: tuple[int, ...], axis: int, name: str
) -> tuple[Wire, tuple[int, ...], dict[str, Any]]:
    """A value [P, B, Q] with one factor as what a convolution reads that maps B to outputs in front, [O, P, Q].

    Returns:
        (wire, shape of a weight [O, B] behind O, attributes; none for a linear map).
    """
    P, B, Q = math.prod(axes[:axis]), axes[axis], math.prod(axes[axis + 1 :])
    if P > 1 and B > _STRIDE:
        raise Refused(f"it maps an axis of {B} that does not stand in front; a program does so up to {_STRIDE}")
    shape: tuple[int, ...]
    kernel: tuple[int, ...]
    if P == 1:
        shape, kernel, stride = ((B, Q), (B, 1), [1]) if Q > 1 else ((B,), (B,), [])
    elif Q == 1:
        shape, kernel, stride = (1, P * B), (1, B), [B]
    else:
        shape, kernel, stride = (1, P * B, Q), (1, B, 1), [B, 1]
    return _reshaped(low, x, shape).times(x.factor), kernel, _window(stride) if stride else {}


def _window(stride: list[int], groups: int = 1) -> dict[str, Any]:
    zeros, ones = [0] * len(stride), [1] * len(stride)
    return {"stride": stride, "before": zeros, "after": zeros, "dilation": ones, "groups": groups}


def _grouped(
    low: Lowering, x: Wire, shape: tuple[int, int, int], side: int, table: Array, name: str, grid: Any = None
) -> Wire:
    """[P, A·side, Q] → [P, n, A, Q]: every stretch of ``side`` places by a table [n, side]."""
    P, _, Q = shape
    if P * table.size > _WEIGHTS:
        raise Refused(
            f"its map would need {P * table.size} weights; a smaller image, or a step before it with fewer channels"
        )
    if side > _STRIDE and shape[1] != side:
        raise Refused(f"it maps an axis of {side} places; a program does so up to {_STRIDE}")
    rest = (Q,) if Q > 1 else ()
    x = _reshaped(low, x, (*shape[:2], *rest))
    weight = np.tile(table, (P, 1)).reshape(P * len(table), 1, side, *[1] * len(rest))
    stride = [side if shape[1] != side else 1, *[1] * len(rest)]
    given = weight if grid is None else (weight, grid)
    return wire(low.add("convolution", name, [x], _window(stride, P), weight=given))


def _reshaped(low: Lowering, x: Wire, shape: tuple[int, ...]) -> Wire:
    if low.value(x).shape == shape:
        return wire(x.name)
    return wire(low.add("reshape", f"{x.name}.shape", [x], {"shape": list(shape)}))
