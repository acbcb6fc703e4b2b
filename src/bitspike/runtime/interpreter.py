"""Runs a verified program chunk by chunk: the order of things; what an operation does is in `ops`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from .arithmetic import Array
from .echoes import Part, parts_of
from .errors import fault
from .ops import Operation, Ran
from .spec import INPUT


@dataclass(frozen=True)
class State:
    """Everything that a stream keeps from one chunk to the next.

    Attributes:
        batch: samples. parts: operation → its state. waiting: operation → steps of its inputs that wait for the other
            inputs. clamped: operation → numbers clamped so far. owner: the engine that made it.
    """

    batch: int
    parts: Mapping[str, Any] = field(default_factory=dict)
    waiting: Mapping[str, tuple[Array, ...]] = field(default_factory=dict)
    clamped: Mapping[str, int] = field(default_factory=dict)
    owner: Any = None

    def __copy__(self) -> State:
        """Itself: nobody changes it."""
        return self

    def __deepcopy__(self, memo: Any) -> State:
        """Itself, as well."""
        return self

    def __reduce__(self) -> NoReturn:
        raise fault("stream", "a state must stay in its process", "pickling", "start a new stream there")


Watch = Callable[[Operation, Ran], Ran]


def step(
    operations: tuple[Operation, ...],
    x: Array,
    state: State | None,
    sent: Sequence[str],
    order: tuple[Part, ...] | None = None,
    watch: Watch | None = None,
) -> tuple[tuple[Array, ...], State]:
    """Run one chunk x [n, B, ...] of the input; returns what the values ``sent`` are for it, [m, B, ...] each, and the
    state.

    An operation takes the steps that all its inputs have; the rest waits. It never sees an empty chunk. ``order`` is
    that of `parts_of`, which is found out where it is not given. ``watch`` sees what every operation gives, and
    returns what counts.
    """
    order = parts_of(operations) if order is None else order
    before = State(x.shape[1]) if state is None else state
    run = _Run(operations, dict(before.parts), dict(before.waiting), Counter(before.clamped), x.shape[1], watch)
    values: dict[str, Array] = {INPUT: x}
    places = [i for part in order for i in part.operations]
    last = {name: at for at, i in enumerate(places) for name in _needs(operations[i])} | dict.fromkeys(
        sent, len(places)
    )
    at = 0
    for part in order:
        if part.loops:
            run.loop(part.operations, values, len(x))
        else:
            run.one(part.operations[0], values)
        for i in part.operations:
            for name in (*_needs(operations[i]), *operations[i].op.outputs):
                if last.get(name, -1) < at + len(part.operations):
                    values.pop(name, None)
        at += len(part.operations)
    return tuple(values[name] for name in sent), State(before.batch, run.parts, run.waiting, dict(run.clamped))


def _needs(made: Operation) -> tuple[str, ...]:
    """Values that an operation reads, that which it echoes too."""
    return (*made.op.inputs, *([made.attributes["of"]] if made.op.kind == "echo" else []))


@dataclass
class _Run:
    """What changes while a chunk runs; see `State`."""

    operations: tuple[Operation, ...]
    parts: dict[str, Any]
    waiting: dict[str, tuple[Array, ...]]
    clamped: Counter[str]
    batch: int
    watch: Watch | None

    def one(self, i: int, values: dict[str, Array]) -> None:
        """One operation on all steps that its inputs have."""
        made, name = self.operations[i], self.operations[i].op.name
        inputs = tuple(values[source] for source in made.op.inputs)
        if len(inputs) > 1:
            inputs, self.waiting[name] = _together(inputs, self.waiting.get(name))
        if made.op.kind == "echo" and made.attributes["of"] in values:  # it does not depend on this one
            ran = _delayed(made, values[made.attributes["of"]], self.parts.get(name))
        elif len(inputs[0]) or (made.final and name in self.parts):
            ran = _run(made, inputs, self.parts.get(name))
        else:
            empty = tuple(np.zeros((0, self.batch, *v.shape), v.dtype) for v in made.written)
            ran = Ran(empty, self.parts.get(name))
        if self.watch is not None:
            ran = self.watch(made, ran)
        if ran.state is not None:
            self.parts[name] = ran.state
        if ran.clamped:
            self.clamped[name] += ran.clamped
        values.update(zip(made.op.outputs, ran.outputs, strict=True))

    def loop(self, places: tuple[int, ...], values: dict[str, Array], steps: int) -> None:
        """Operations that feed themselves, step after step; all that they read has the steps of the input."""
        inside = {name for i in places for name in self.operations[i].op.outputs}
        outside = {name for i in places for name in self.operations[i].op.inputs} - inside
        echoes = [self.operations[i] for i in places if self.operations[i].op.kind == "echo"]
        found: dict[str, list[Array]] = {name: [] for name in inside}
        for t in range(steps):
            now = {name: values[name][t : t + 1] for name in outside}
            for i in places:
                self.one(i, now)
            for made in echoes:
                self.parts[made.op.name] = now[made.attributes["of"]][0]
            for name, rows in found.items():
                rows.append(now[name])
        values.update((name, np.concatenate(rows)) for name, rows in found.items())


def _delayed(made: Operation, x: Array, last: Any) -> Ran:
    """An echo of what is known for all steps."""
    first = made.run((x[:1],), last).outputs[0]
    return Ran((np.concatenate([first, x[:-1]]),), x[-1].copy())


def _together(inputs: tuple[Array, ...], left: tuple[Array, ...] | None) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """(steps that all inputs have, what is left of each)."""
    whole = inputs
    if left is not None and any(len(part) for part in left):
        whole = tuple(np.concatenate(pair) if len(pair[0]) else pair[1] for pair in zip(left, inputs, strict=True))
    count = min(map(len, whole))
    return tuple(x[:count] for x in whole), tuple(x[count:].copy() for x in whole)


def _run(made: Operation, inputs: tuple[Array, ...], state: Any) -> Ran:
    """One operation; where all steps of all inputs are one array, a steady one runs once."""
    steps = len(inputs[0])
    if not made.steady or steps < 2 or any(x.strides[0] for x in inputs):
        return made.run(inputs, state)
    ran = made.run(tuple(x[:1] for x in inputs), state)
    held = tuple(np.broadcast_to(y, (steps, *y.shape[1:])) for y in ran.outputs)
    return Ran(held, ran.state, ran.clamped * steps)
