"""Runs a verified program chunk by chunk: the order of things; what an operation does is in `ops`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from .arithmetic import Array
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


def step(operations: tuple[Operation, ...], x: Array, state: State | None, output: str) -> tuple[Array, State]:
    """Run one chunk x [n, B, ...] of the input; returns what ``output`` is for it, [m, B, ...], and the state.

    An operation takes the steps that all its inputs have; the rest waits. It never sees an empty chunk.
    """
    before = State(x.shape[1]) if state is None else state
    values: dict[str, Array] = {INPUT: x}
    last = {name: i for i, made in enumerate(operations) for name in made.op.inputs} | {output: len(operations)}
    parts, waiting, clamped = dict(before.parts), dict(before.waiting), Counter(before.clamped)
    for i, made in enumerate(operations):
        name = made.op.name
        inputs = tuple(values[source] for source in made.op.inputs)
        if len(inputs) > 1:
            inputs, waiting[name] = _together(inputs, waiting.get(name))
        if len(inputs[0]) or (made.final and name in parts):
            ran = _run(made, inputs, parts.get(name))
        else:
            ran = Ran(tuple(np.zeros((0, x.shape[1], *v.shape), v.dtype) for v in made.written), parts.get(name))
        if ran.state is not None:
            parts[name] = ran.state
        if ran.clamped:
            clamped[name] += ran.clamped
        values.update(zip(made.op.outputs, ran.outputs, strict=True))
        for source in (*made.op.inputs, *made.op.outputs):
            if last.get(source, -1) <= i:
                values.pop(source, None)
    return values[output], State(before.batch, parts, waiting, dict(clamped))


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
