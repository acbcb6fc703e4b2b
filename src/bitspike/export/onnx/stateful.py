"""Operations with state, step by step: fire, tally, windows, latch, mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bitspike.export.onnx.memoryless import highest
from bitspike.export.onnx.numbers import Exact, Fixed, Num
from bitspike.export.onnx.states import States
from bitspike.export.onnx.values import Clock, Sequence
from bitspike.runtime.limits import INT32
from bitspike.runtime.ops.windows import overlaps

Emit = Callable[[Exact, Any, list[Sequence], States], list[Sequence]]


def fire(exact: Exact, made: Any, inputs: list[Sequence], states: States) -> list[Sequence]:
    (x,), shape, name, at = inputs, made.read[0].shape, made.op.name, made.attributes
    axes = len(shape)
    rows = [len(table) for table in made.tables.values() if table is not None]
    clock = states.clock(name, max(*rows, len(at["count"]), 2) - 1 if _counts(made) else 0, x.count)
    v = states.read(name, "v", shape, *INT32)
    sent = states.read(name, "sent", shape, *INT32) if at["cancel"] else None
    spikes, potentials = [], []
    for t, current in enumerate(x.steps):
        now = clock.after(t)
        v = _started(exact, made, v, now, axes)
        u = _charged(exact, made, v, current, now, axes)
        k, fired = _level(exact, made, u, now, axes)
        if at["cancel"]:
            if sent is not None:
                k = exact.maximum(k, exact.total(exact.negative(sent), -sent.high, -sent.low))
            else:
                k = exact.maximum(k, exact.whole(0))
            sent = exact.clamp(k if sent is None else exact.add(sent, k), *INT32)
            fired = None
        v = _reset(exact, made, u, k, fired, now, axes)
        spikes.append(_emitted(exact, made, k))
        potentials.append(u)
    states.write(name, "v", v, shape)
    if at["cancel"]:
        states.write(name, "sent", sent, shape)
    found = [spikes, potentials][: len(made.written)]
    return [Sequence(exact, shape, x.count, steps=steps) for steps in found]


def _counts(made: Any) -> bool:
    """Whether it must know how many steps have passed."""
    tables = [table for table in made.tables.values() if table is not None]
    return made.tables["initial"] is not None or len(made.attributes["count"]) > 1 or any(len(t) > 1 for t in tables)


def _started(exact: Exact, made: Any, v: Num | None, now: Clock, axes: int) -> Num | None:
    """The membrane before a step; None: 0."""
    initial = made.tables["initial"]
    first = now.first() if initial is not None else False
    if first is False:
        return v
    start = exact.fixed(now.row(initial, axes))
    return start if first is True or v is None else exact.where(str(first), start, v)


def _charged(exact: Exact, made: Any, v: Num | None, x: Num, now: Clock, axes: int) -> Num:
    multiplier, shift = made.attributes["decay"]
    if v is not None and multiplier:
        left = v if multiplier == 1 << shift else exact.scaled(v, Fixed(np.array([multiplier])), shift)
        u = exact.clamp(exact.add(left, x), *INT32)
    else:
        u = x
    floor = made.tables["floor"]
    return u if floor is None else exact.maximum(u, exact.fixed(now.row(floor, axes)))


def _level(exact: Exact, made: Any, u: Num, now: Clock, axes: int) -> tuple[Num, str | None]:
    """(level, whether a gate was reached)."""
    at, tables = made.attributes, made.tables
    n, rises = u, None
    if at["signed"] and u.low < 0:
        rises = exact.at_least(u, exact.whole(0))
        down = exact.total(exact.negative(u), -u.high, -u.low)
        n = exact.where(rises, u, down)
        n = exact.folded(n, max(0, u.low, -u.high), max(-u.low, u.high))
    spacing = None if tables["spacing"] is None else now.row(tables["spacing"], axes)
    counts = np.array(at["count"]).reshape(-1, 1)
    k = exact.level(n, now.row(tables["first"], axes), spacing, max(at["count"]))
    if len(at["count"]) > 1:
        k = exact.minimum(k, exact.fixed(now.row(counts, axes)))
    fired = None
    if tables["gate"] is not None:
        fired = exact.at_least(n, exact.fixed(now.row(tables["gate"], axes)))
        k = exact.where(fired, k, exact.whole(0))
    if rises is not None:
        k = exact.where(rises, k, exact.total(exact.negative(k), -k.high, -k.low))
    return k, fired


def _reset(exact: Exact, made: Any, u: Num, k: Num, fired: str | None, now: Clock, axes: int) -> Num:
    if made.attributes["reset"] == "hard":
        nodes, zero = exact.nodes, exact.whole(0)
        rests = nodes.add("Not", fired) if fired else nodes.add("Equal", k.digits[0], zero.digits[0])
        return exact.where(rests, u, zero)
    taken = exact.times(k, now.row(made.tables["charge"], axes))
    return exact.clamp(exact.minus(u, taken), *INT32)


def _emitted(exact: Exact, made: Any, k: Num) -> Num:
    up, down = made.attributes["up"], made.attributes["down"]
    sent = k if up == 1 else exact.times(k, Fixed(np.array([up])))
    if down != up and k.low < 0:
        below = k if down == 1 else exact.times(k, Fixed(np.array([down])))
        sent = exact.where(exact.at_least(k, exact.whole(0)), sent, below)
    y = made.written[0]
    return exact.folded(sent, max(sent.low, y.low), min(sent.high, y.high))


def tally(exact: Exact, made: Any, inputs: list[Sequence], states: States) -> list[Sequence]:
    (x,), (y,), shape, name = inputs, made.written, made.read[0].shape, made.op.name
    sums, top = states.read(name, "sums", shape, *INT32), states.read(name, "sent", y.shape, *INT32)
    parts = []
    for step in x.steps:
        sums = step if sums is None else exact.clamp(exact.add(sums, step), *INT32)
        now = highest(exact, made.pool, sums, shape[1:])
        change = now if top is None else exact.minus(now, top)
        parts.append(exact.folded(change, max(change.low, y.low), min(change.high, y.high)))
        top = now
    states.write(name, "sums", sums, shape)
    states.write(name, "sent", top, y.shape)
    return [Sequence(exact, y.shape, x.count, steps=parts)]


def windows(exact: Exact, made: Any, inputs: list[Sequence], states: States) -> list[Sequence]:
    (x,), (y,), frames, steps = inputs, made.written, made.attributes["frames"], made.attributes["steps"]
    if x.held:
        parts = overlaps(frames, steps)
        share = sum(weight for frame in parts for weight, _ in frame) // steps
        whole = exact.times(x.merged, Fixed(np.array([share])))
        return [Sequence(exact, y.shape, steps, merged=whole, held=True)]
    closed: list[Num] = []
    open_: list[Num] = []
    for step, frame in zip(x.steps, overlaps(frames, steps), strict=True):
        for weight, closes in frame:
            open_.append(step if weight == 1 else exact.times(step, Fixed(np.array([weight]))))
            if closes:
                closed.append(exact.add(*open_) if len(open_) > 1 else open_[0])
                open_ = []
    return [Sequence(exact, y.shape, steps, steps=closed)]


def latch(exact: Exact, made: Any, inputs: list[Sequence], states: States) -> list[Sequence]:
    (x,), (y,), name = inputs, made.written, made.op.name
    first = x.steps[0]
    kept = states.read(name, "first", y.shape, y.low, y.high)
    if kept is not None:
        begins = states.clock(name, 1, x.count).first()
        first = exact.where(str(begins), first, kept)
    states.write(name, "first", first, y.shape)
    return [Sequence(exact, y.shape, x.count, merged=first, held=True)]


def mean(exact: Exact, made: Any, inputs: list[Sequence], states: States) -> list[Sequence]:
    (x,), (y,), name, keep = inputs, made.written, made.op.name, made.attributes["keep"]
    clock = states.clock(name, len(keep) - 1, x.count)
    low, high = states.bounds(y.low, y.high, x.steps[0].low, x.steps[0].high)
    total = states.read(name, "total", y.shape, low, high)
    kept = []
    for t, step in enumerate(x.steps):
        row = clock.after(t).row(np.array(keep)[:, None], 1)
        if row.high:
            kept.append(step if row.low else exact.times(step, row))
    parts = [*kept, *([] if total is None else [total])]
    terms = [term for part in parts for term in part.terms]
    total = exact.total(terms, low, high) if parts else exact.times(x.steps[0], Fixed(np.array([0])))
    states.write(name, "total", total, y.shape)
    return [Sequence(exact, y.shape, 1, merged=total)]


ROWS: dict[str, Emit] = {"fire": fire, "tally": tally, "windows": windows, "latch": latch, "mean": mean}
"""Kind → how it is written."""
