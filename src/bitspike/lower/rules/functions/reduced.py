"""Sums, means and maxima over axes, and the greater of two signals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bitspike.lower.places import layout
from bitspike.lower.rules.functions.base import Call
from bitspike.lower.rules.gather import shaped
from bitspike.lower.rules.sums import alike, together
from bitspike.lower.wire import Refused, Wire, wire

_TAPS = 2**14


def total(call: Call) -> Wire:
    """A mean or sum over axes; a mean's division waits for the next rescale."""
    axes, keep = _over(call)
    count = math.prod(call.shape[axis] for axis in axes)
    x = _pooled(call, call.x, axes, keep, "sumpool", room=count)
    return x.times(1 / count) if call.what == "mean" else x


def extreme(call: Call) -> Wire:
    """A maximum or minimum over axes."""
    axes, keep = _over(call)
    sign = -1.0 if call.what in ("amin", "min") else 1.0
    return _pooled(call, call.x.times(sign), axes, keep, "maxpool").times(sign)


def either(call: Call) -> Any:
    """torch.max and torch.min: of two signals, over all axes, or over one, with the places, which nothing may read."""
    if len(call.wires) == 2:
        return elementwise(call)
    return (extreme(call), None) if len(call.args) > 1 or call.kwargs else extreme(call)


def elementwise(call: Call) -> Wire:
    """The greater (lesser) of two signals at every place: a maximum over two planes."""
    low = call.low
    sign = -1.0 if call.what in ("min", "minimum") else 1.0
    if len(call.wires) != 2:
        raise Refused(f"{call.what} of a signal and a constant has no integer operation; clamp it")
    parts = alike(low, call.name, call.sources, [x.times(sign) for x in call.wires])
    at = parts[0].at
    parts = together(low, call.name, call.sources, [part.placed(None) for part in parts], 1)
    factor = parts[0].factor
    if any(part.factor.ndim or part.factor != factor or factor <= 0 for part in parts):
        exponent = low.fraction_bits_of(max(low.bound(part) for part in parts), 0.0)
        parts = [low.settle(part, exponent, f"{call.name}.current{i}") for i, part in enumerate(parts)]
        factor = parts[0].factor
    shape = low.value(parts[0]).shape
    size = math.prod(shape)
    rows = [shaped(low, part, (1, size), f"{call.name}.row{i}") for i, part in enumerate(parts)]
    both = wire(low.add("concat", f"{call.name}.both", rows))
    planes = shaped(low, both, (1, 2, size), f"{call.name}.planes")
    top = wire(low.add("maxpool", f"{call.name}.greater", [planes], _window([2, 1], True)))
    made = shaped(low, top, shape, call.name)
    return wire(made.name, factor * sign, at=at)


def _over(call: Call) -> tuple[list[int], bool]:
    """(axes of a sample, whether they are kept)."""
    given = {**dict(zip(("dim", "keepdim"), call.args[1:], strict=False)), **call.kwargs}
    if set(given) - {"dim", "keepdim", "axis"}:
        raise Refused(f"{call.what} with options has no integer operation")
    named = given.get("dim", given.get("axis"))
    if named is None or named == ():
        raise Refused(f"{call.what} over all axes mixes samples")
    return sorted(call.axes(named)), bool(given.get("keepdim", False))


def _window(kernel: list[int], maximum: bool) -> dict[str, Any]:
    zeros, ones = [0] * len(kernel), [1] * len(kernel)
    more: dict[str, Any] = {"dilation": ones} if maximum else {}
    return {"kernel": kernel, "stride": ones, "padding": zeros, **more}


def _pooled(call: Call, x: Wire, axes: list[int], keep: bool, kind: str, room: int = 1) -> Wire:
    """A pool over whole axes of a wire, wherever they lie."""
    low, shape = call.low, call.shape
    after = tuple(1 if k in axes else n for k, n in enumerate(shape) if keep or k not in axes)
    if not after:
        raise Refused("its output has no axis beside the batch, a program's values have 1 to 4; keep one of size 1")
    places = np.arange(low.value(x).size).reshape(low.value(x).shape) if x.at is None else x.at
    found = layout(places)
    if found is None:
        x = low.straight(x, call.source)
        found = layout(np.arange(low.value(x).size).reshape(low.value(x).shape))
    assert found is not None  # numbers that lie as in the network
    gone = {found.order[i] for axis in axes for i in found.groups[axis]}
    kept_front = x.at is None and 0 not in axes
    if x.factor.ndim and not kept_front:
        x = low.single(x, call.source)
    x = low.plain(x, call.source, room=room, positive=kind == "maxpool")
    factor, sizes = x.factor, list(found.axes)
    made = wire(x.name)
    for run in reversed(_runs(sorted(gone), found.axes)):
        P, B, Q = (math.prod(sizes[a:b]) for a, b in ((0, run[0]), (run[0], run[-1] + 1), (run[-1] + 1, len(sizes))))
        view = shaped(low, made, (P, B, Q) if Q > 1 else (P, B), f"{call.name}.view{run[0]}")
        made = wire(
            low.add(kind, f"{call.name}.over{run[0]}", [view], _window([B, 1] if Q > 1 else [B], kind == "maxpool"))
        )
        sizes[run[0] : run[-1] + 1] = [1] * len(run)
    rest = [i for i in range(len(found.axes)) if i not in gone]
    order = [rest.index(i) for i in found.order if i not in gone]
    left = [found.axes[i] for i in rest] or [1]
    at = np.arange(math.prod(left)).reshape(left)
    at = (at.transpose(order) if rest else at).reshape(after)
    made = shaped(low, made, tuple(left) if len(left) <= 4 else (math.prod(left),), call.name)
    straight = at.shape == low.value(made).shape and np.array_equal(at.reshape(-1), np.arange(at.size))
    return Wire(made.name, factor, np.zeros(()), None if straight else at)


def _runs(gone: list[int], sizes: tuple[int, ...]) -> list[list[int]]:
    """Neighbouring axes together, as long as a window holds them."""
    runs: list[list[int]] = []
    for axis in gone:
        fits = runs and runs[-1][-1] == axis - 1 and math.prod(sizes[i] for i in [*runs[-1], axis]) <= _TAPS
        if fits:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    return runs
