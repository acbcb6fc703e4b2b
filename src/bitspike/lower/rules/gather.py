"""Numbers brought to other places: slices, zeros, swaps of axes, copies along an axis; exact, and no range grows."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from bitspike.lower.places import Swap, box, layout, lists, swaps
from bitspike.lower.rules.along import along, plane
from bitspike.lower.wire import Array, Refused, Wire, wire
from bitspike.runtime import Grid

if TYPE_CHECKING:
    from bitspike.lower.lowering import Lowering

_DENSE = 2**22
"""Weights up to which any map of places is one linear map of zeros and ones."""
_CUTS = 32


def gather(low: Lowering, x: Wire, places: Array, source: str, name: str) -> Wire:
    """What a map of places makes of a wire, lying as in the network.

    Args:
        x: lies as in the network, or the map is meant for its value. places: int64 of the new shape, place in the
            value of every number, −1 for zeros. source: node of x, for its range. name: for operations.
    """
    x = replace(x, at=None)
    if (places < 0).any() or not _once(places, low.value(x).size):
        x = low.plain(x, source)
    x = _one_factor(low, x, places, source)
    factor, shift = (_carried(low, x, numbers, places) for numbers in (x.factor, x.shift))
    made = wire(_moved(low, low.usable(x, source), places, name), 1.0)
    return Wire(made.name, factor, shift)


def _once(places: Array, size: int) -> bool:
    flat = places.reshape(-1)
    return len(flat) == size and bool((np.bincount(flat[flat >= 0], minlength=size) == 1).all())


def _one_factor(low: Lowering, x: Wire, places: Array, source: str) -> Wire:
    """The wire itself where a factor a channel stays one; else one with a factor for all."""
    try:
        _carried(low, x, x.factor, places)
        _carried(low, x, x.shift, places)
    except Refused:
        return low.single(x, source)
    return low.usable(x, source)


def _carried(low: Lowering, x: Wire, numbers: Array, places: Array) -> Array:
    """Factors or shifts [..., C] of a value as those of what a map makes of it."""
    if not numbers.ndim or numbers.shape[-1] == 1:
        return numbers
    value = low.value(x)
    of = np.repeat(np.arange(value.shape[0]), value.size // value.shape[0])
    rows = np.where(places >= 0, of[places], -1).reshape(len(places) if places.ndim else 1, -1)
    most = rows.max(1)
    if ((rows != most[:, None]) & (rows >= 0)).any():
        raise Refused("a factor a channel does not stay one")
    carried: Array = numbers[..., np.maximum(most, 0)]
    return carried


def _moved(low: Lowering, x: Wire, places: Array, name: str) -> str:
    value = low.value(x)
    flat = places.reshape(-1)
    if np.array_equal(flat, np.arange(value.size)):
        return shaped(low, x, places.shape, name).name
    channels = _channels(places, value.shape)
    if channels is not None:
        return taken_channels(low, wire(x.name), channels.tolist(), name).name
    if (places < 0).any():
        inner = box(places >= 0)
        if inner is not None and all((np.diff(each) == 1).all() for each in inner):
            part = wire(_moved(low, x, places[np.ix_(*inner)], f"{name}.inside"))
            before = [int(each[0]) for each in inner]
            after = [n - int(each[-1]) - 1 for n, each in zip(places.shape, inner, strict=True)]
            return low.add("pad", name, [part], {"before": before, "after": after})
    elif _once(places, value.size):
        found = _ordered(low, x, places, name)
        if found is not None:
            return found
    else:
        used = np.zeros(value.size, bool)
        used[flat] = True
        inner = box(used.reshape(value.shape))
        if inner is not None and not used.all():
            kept = np.full(value.size, -1)
            kept[used] = np.arange(int(used.sum()))
            return _moved(low, _cut(low, x, inner, name), kept[places], name)
    each = lists(places, value.shape)
    if each is not None:
        return _by_axis(low, x, each, name)
    if flat.size * value.size <= _DENSE:
        table = (flat[:, None] == np.arange(value.size)).astype(np.int64)
        row = shaped(low, x, (value.size,), f"{name}.row")
        made = wire(low.add("linear", f"{name}.places", [row], {}, weight=(table, Grid(0, 1))))
        return shaped(low, made, places.shape, name).name
    raise Refused("it puts numbers where neither slices nor swaps of axes put them")


def shaped(low: Lowering, x: Wire, shape: tuple[int, ...], name: str) -> Wire:
    """The same numbers in another shape; factors are the caller's."""
    if low.value(x).shape == tuple(shape):
        return wire(x.name)
    if not 1 <= len(shape) <= 4:
        raise Refused(f"its output has {len(shape)} axes in a sample, a program's values have 1 to 4")
    return wire(low.add("reshape", name, [x], {"shape": [int(n) for n in shape]}))


def _channels(places: Array, shape: tuple[int, ...]) -> Array | None:
    """Which whole channels of a value a map takes, in order, where it does nothing else, in few pieces."""
    inner = math.prod(shape[1:])
    if places.ndim != len(shape) or places.shape[1:] != shape[1:] or (places < 0).any():
        return None
    rows = places.reshape(len(places), -1)
    first = rows[:, 0] // inner
    if not np.array_equal(rows, first[:, None] * inner + np.arange(inner)):
        return None
    return first if int((np.diff(first) != 1).sum()) < _CUTS else None


def _cut(low: Lowering, x: Wire, inner: list[Array], name: str) -> Wire:
    """A box of a value, as a new value of just these places."""
    shape, steps = low.value(x).shape, []
    for each in inner:
        gaps = np.diff(each)
        steps.append(int(gaps[0]) if len(gaps) and (gaps == gaps[0]).all() else 1)
    start, stop = [int(each[0]) for each in inner], [int(each[-1]) + 1 for each in inner]
    if any(start) or tuple(stop) != shape or any(step > 1 for step in steps):
        part = {"start": start, "stop": stop, "stride": steps}
        x = wire(low.add("slice", f"{name}.part", [x], part))
    for k, (each, first, step) in enumerate(zip(inner, start, steps, strict=True)):
        now = low.value(x).shape
        if len(each) != now[k]:
            table = ((each - first)[:, None] // step == np.arange(now[k])).astype(np.int64)
            x = along(low, x, now, k, table, f"{name}.axis{k}", Grid(0, 1))
    return x


def _by_axis(low: Lowering, x: Wire, each: list[Array], name: str) -> str:
    """Lists of places an axis; images whose rows and columns both change turn round twice."""
    shape = low.value(x).shape
    tables = [(line[:, None] == np.arange(n)).astype(np.int64) for line, n in zip(each, shape, strict=True)]
    moving = [k for k, n in enumerate(shape) if not np.array_equal(each[k], np.arange(n))]
    if len(shape) == 3 and moving == [1, 2]:
        return plane(low, x, tables[1], tables[2], name, Grid(0, 1)).name
    for k in moving:
        x = along(low, x, low.value(x).shape, k, tables[k], f"{name}.axis{k}", Grid(0, 1))
    return x.name


def _ordered(low: Lowering, x: Wire, places: Array, name: str) -> str | None:
    """Axes in another order, by swaps."""
    found = layout(places)
    plan = None if found is None else swaps(found.axes, found.order)
    if plan is None:
        return None
    for i, each in enumerate(plan):
        x = swap(low, x, each, f"{name}.swap{i}")
    return shaped(low, x, places.shape, name).name


def swap(low: Lowering, x: Wire, each: Swap, name: str) -> Wire:
    """[P, A, B, Q] → [P, B, A, Q]: slices side by side, or a convolution that takes a place of B for every output."""
    P, A, B, Q = each.P, each.A, each.B, each.Q
    if P == 1 and B <= _CUTS // 2:
        x = shaped(low, x, (A, B, Q), f"{name}.axes")
        cuts = [{"start": [0, b, 0], "stop": [A, b + 1, Q], "stride": [1, 1, 1]} for b in range(B)]
        parts = [wire(low.add("slice", f"{name}.part{b}", [x], cut)) for b, cut in enumerate(cuts)]
        return wire(low.add("concat", name, parts) if len(parts) > 1 else parts[0].name)
    rest = (Q,) if Q > 1 else ()
    x = shaped(low, x, (P, A * B, *rest), f"{name}.axes")
    ones = [1] * len(rest)
    attributes = {
        "stride": [B, *ones],
        "before": [0, *(0 for _ in rest)],
        "after": [0, *(0 for _ in rest)],
        "dilation": [1, *ones],
        "groups": P,
    }
    weight = np.tile(np.eye(B, dtype=np.int64), (P, 1)).reshape(P * B, 1, B, *ones)
    return wire(low.add("convolution", name, [x], attributes, weight=(weight, Grid(0, 1))))


def taken_channels(low: Lowering, x: Wire, places: list[int], name: str) -> Wire:
    """Some channels of a plain wire, in any order: slices side by side."""
    shape = low.value(x).shape
    cuts = [0, *(i for i in range(1, len(places)) if places[i] != places[i - 1] + 1), len(places)]
    parts = []
    for a, b in pairwise(cuts):
        rest = [0] * (len(shape) - 1)
        start, stop = places[a], places[b - 1] + 1
        attributes = {"start": [start, *rest], "stop": [stop, *shape[1:]], "stride": [1] * len(shape)}
        parts.append(wire(low.add("slice", f"{name}.part{a}", [x], attributes)))
    made = parts[0].name if len(parts) == 1 else low.add("concat", name, parts)
    factor: Array = x.factor[..., places] if x.factor.ndim and x.factor.shape[-1] > 1 else x.factor
    return wire(made, factor)
