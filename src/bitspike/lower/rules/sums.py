"""Sums of branches, concatenations and parts: all branches in one unit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bitspike.graph import Node
from bitspike.graph.moves import axis_of, joined, summands, whole_in
from bitspike.layers import Join
from bitspike.lower.lowering import Lowering
from bitspike.lower.rules.moved import moved
from bitspike.lower.rules.time import hold, squeeze_sum, windows_sum
from bitspike.lower.wire import Refused, Wire, wire


def add(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """A residual sum; levels with one factor are added as they are, everything else as currents."""
    item = low.graph.items[node.name]
    names = [branch.name for branch in summands(item)]
    if len(names) < 2:
        raise Refused("it is no plain sum of two branches or more")
    parts = [low.wires[name] for name in names]
    steps = {low.value(branch).steps for branch in parts}
    if isinstance(node.module, Join):
        parts = _joined_steps(low, node, names, parts, steps)
    elif len(steps) > 1 and min(steps) == 1 and len(steps) == 2:
        name = [f"{node.name}.hold{i}" for i in range(len(parts))]
        parts = [
            hold(low, low.plain(p, n), max(steps), h) if low.value(p).steps == 1 else p
            for p, n, h in zip(parts, names, name, strict=True)
        ]
    elif len(steps) > 1:
        raise Refused(f"its branches have {' and '.join(map(str, sorted(steps)))} steps")
    return added(low, node.name, names, parts)


def added(low: Lowering, name: str, sources: list[str], parts: list[Wire]) -> Wire:
    """The sum of signals, one repeated over the axes that it lacks."""
    parts = alike(low, name, sources, parts)
    at = parts[0].at
    parts = together(low, name, sources, [part.placed(None) for part in parts], len(parts))
    return wire(low.add("add", name, parts), parts[0].factor, at=at)


def alike(low: Lowering, name: str, sources: list[str], parts: list[Wire]) -> list[Wire]:
    """Signals of one shape, the numbers of all lying alike; what is smaller is repeated as torch repeats it."""
    try:
        shape = np.broadcast_shapes(*(low.shape(part) for part in parts))
    except ValueError:
        raise Refused(f"its signals have the shapes {[list(low.shape(part)) for part in parts]}") from None
    made = []
    for i, (part, source) in enumerate(zip(parts, sources, strict=True)):
        if low.shape(part) != shape:
            part = moved(low, f"{name}.repeated{i}", lambda x: x.expand(len(x), *shape), part, source)
        made.append(part)
    places = [np.arange(math.prod(shape)).reshape(shape) if part.at is None else part.at for part in made]
    if not all(np.array_equal(each, places[0]) for each in places):
        return [low.straight(part, source) for part, source in zip(made, sources, strict=True)]
    if len({low.value(part).shape for part in made}) > 1:  # one has its numbers in a row
        return [low.in_a_row(part).placed(places[0]) for part in made]
    return made


def together(low: Lowering, name: str, names: list[str], parts: list[Wire], count: int) -> list[Wire]:
    """Wires in one unit, whose sum (of ``count``) fits 32 bits."""
    values = [low.value(branch) for branch in parts]
    first = parts[0]
    whole = all(v.exponent == values[0].exponent and v.exponent is not None for v in values)
    alike = all(p.scalar and p.factor == first.factor for p in parts)
    total = sum(max(abs(v.low), abs(v.high)) for v in values)
    if whole and alike and total < 2**31:
        return parts
    common = _shifts(low, parts) if total < 2**15 else None
    if common is not None:
        made = []
        for i, branch in enumerate(parts):
            ratio = Wire(branch.name, branch.factor / common, np.zeros(()))
            made.append(low.settle(ratio, 0, f"{name}.levels{i}").times(common))
        return made
    far = sum(low.bound(branch) for branch in parts) if count > 1 else max(low.bound(branch) for branch in parts)
    most = max([low.measured.most.get(each, 0.0) for each in [*names, name]])
    exponent = min(low.fraction_bits_of(far, most), *(low.bits_of_shift(branch) for branch in parts))
    return [low.settle(branch, exponent, f"{name}.current{i}") for i, branch in enumerate(parts)]


def _shifts(low: Lowering, parts: list[Wire]) -> float | None:
    """A factor of which those of all wires are whole multiples up to 256, if there is one."""
    if any(p.shift.any() or low.value(p).exponent is None for p in parts):
        return None
    factors = np.concatenate([np.abs(p.factor).reshape(-1) for p in parts])
    if not (factors > 0).all():
        return None
    ratio = factors / factors.min()
    return float(factors.min()) if (ratio == np.floor(ratio)).all() and ratio.max() <= 256 else None


def _joined_steps(low: Lowering, node: Node, names: list[str], parts: list[Wire], steps: set[int]) -> list[Wire]:
    """Branches of a `Join` with one number of steps."""
    assert isinstance(node.module, Join)
    if len(steps) == 1:
        return parts
    made = []
    for i, (name, branch) in enumerate(zip(names, parts, strict=True)):
        before = low.value(branch).steps
        if node.module.keep_time:
            made.append(windows_sum(low, branch, name, max(steps), f"{node.name}.windows{i}", math.gcd))
        else:
            made.append(squeeze_sum(low, branch, name, f"{node.name}.mean{i}").times(1 / before))
    return made


def concat(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """Signals side by side along any axis of a sample."""
    item = low.graph.items[node.name]
    names = [branch.name for branch in joined(item)]
    if not names:
        raise Refused("what it puts side by side cannot be read off")
    parts = [low.wires[name] for name in names]
    axis = axis_of(item, len(low.shape(parts[0])) + 2)
    if axis < 2:
        raise Refused("it joins time steps or samples")
    return beside(low, node.name, names, parts, axis - 2)


def beside(low: Lowering, name: str, sources: list[str], parts: list[Wire], axis: int) -> Wire:
    """Signals side by side along an axis of a sample, which is brought in front for it."""
    if len(parts) == 1:
        return parts[0]

    def turned(x: Any) -> Any:
        return x.movedim(axis + 1, 1)

    def back(x: Any) -> Any:
        return x.movedim(1, axis + 1)

    if axis:
        parts = [
            moved(low, f"{name}.front{i}", turned, p, s) for i, (p, s) in enumerate(zip(parts, sources, strict=True))
        ]
    parts = [low.straight(p, s) for p, s in zip(parts, sources, strict=True)]
    if len({low.value(part).steps for part in parts}) > 1:
        raise Refused("its parts have other numbers of steps")
    plain = [low.plain(branch, source) for branch, source in zip(parts, sources, strict=True)]
    values = [low.value(branch) for branch in plain]
    if len({v.exponent for v in values}) > 1 or any(p.factor.ndim == 2 for p in plain) or _far_apart(plain):
        plain = together(low, name, sources, plain, 1)
        values = [low.value(branch) for branch in plain]
    spread = [np.broadcast_to(p.factor, (v.shape[0],)) for p, v in zip(plain, values, strict=True)]
    made = wire(low.add("concat", name, plain), np.concatenate(spread))
    return moved(low, name, back, made, name) if axis else made


def _far_apart(parts: list[Wire]) -> bool:
    """Whether levels of one part are so small beside those of another that weights of one scale would lose them."""
    sizes = [float(np.abs(p.factor).max(initial=0.0)) for p in parts]
    return max(sizes) > 16 * min((size for size in sizes if size), default=math.inf)


def split(low: Lowering, node: Node, wires: list[Wire]) -> Any:
    """Nothing until a piece is taken."""
    return wires[0]


def select(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """Some numbers of every sample and step, also a piece of a split."""
    item = low.graph.items[node.name]
    source = whole_in(item)
    pieces = item.all_input_nodes[0]
    if len(item.all_input_nodes) > 1 or (pieces is not source and len(pieces.all_input_nodes) > 1):
        raise Refused("it takes places that another tensor holds; write their numbers")

    def taken(x: Any) -> Any:
        if pieces is not source:
            x = low.graph.again(pieces.name, {source.name: x})
        return low.graph.again(node.name, {pieces.name: x})

    return moved(low, node.name, taken, low.wires[source.name], source.name, lead=2)
