"""The memory plan: where every tensor of one sample lies in one arena, worked out ahead of time.

A program runs as a list of loops. The operations of a loop run once a step; a loop ends where an operation changes the
number of steps (`windows`), and what is the same at every step of a repeated input comes before all steps. A tensor
that only its own loop reads has room for one step; one that a later loop reads has room for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .echoes import echoes_of
from .ops import Operation
from .spec import INPUT, Input

ALIGNMENT = 64


@dataclass(frozen=True)
class Place:
    """Where a tensor lies, in bytes from the start of the arena, and how many steps it has room for."""

    offset: int
    size_bytes: int
    steps: int = 1


@dataclass(frozen=True)
class Loop:
    """Operations, by their place in the program, that run one after the other, ``steps`` times."""

    steps: int
    operations: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """One sample's memory.

    Attributes:
        loops: the schedule of a window. values: by name. states: by "operation.slot"; they live from window to window.
        state_bytes, peak_bytes: of the states, and of everything.
    """

    loops: tuple[Loop, ...]
    values: dict[str, Place]
    states: dict[str, Place]
    state_bytes: int
    peak_bytes: int

    def __str__(self) -> str:
        loops = ", ".join(f"{len(loop.operations)} operations × {loop.steps}" for loop in self.loops)
        kept = self.peak_bytes - self.state_bytes
        return f"arena {self.peak_bytes:,} bytes a sample: states {self.state_bytes:,}, values {kept:,}; {loops}"


def plan(given: Input, operations: Sequence[Operation], sent: Sequence[str]) -> Plan:
    """Schedule and place everything: states first, then values, the largest first, each at the lowest free place.

    ``sent`` names the values that come out.
    """
    keys = _keys(given, operations)
    loops = _loops(operations, keys)
    crossing = _crossing(operations, keys, sent)
    lives = _lives(operations, loops, crossing, sent)
    states: dict[str, Place] = {}
    top = 0
    for made in operations:
        for slot in made.slots():
            states[f"{made.op.name}.{slot.name}"] = Place(top, slot.size_bytes)
            top += _aligned(slot.size_bytes)
    sizes = _sizes(given, operations, keys, crossing)
    values = placed(sizes, lives, top)
    peak = max([top, *(place.offset + _aligned(place.size_bytes) for place in values.values())])
    return Plan(tuple(loops), values, states, top, peak)


def placed(sizes: dict[str, tuple[int, int]], lives: dict[str, tuple[int, int]], top: int) -> dict[str, Place]:
    """The largest first, each at the lowest place from ``top`` on that is free as long as it lives."""
    values: dict[str, Place] = {}
    known = np.zeros((4, len(sizes)), np.int64)  # start, end, first and last place in the order
    for count, name in enumerate(sorted(sizes, key=lambda n: (-sizes[n][0], n))):
        (size, steps), (first, last) = sizes[name], lives[name]
        others = known[:, :count]
        others = others[:, (others[2] <= last) & (first <= others[3])]
        starts, ends = others[:2, np.argsort(others[0], kind="stable")]
        free = np.maximum.accumulate(np.concatenate([[top], ends]))
        fits = np.flatnonzero(free[:-1] + size <= starts)
        offset = int(free[fits[0] if len(fits) else -1])
        known[:, count] = offset, offset + _aligned(size), first, last
        values[name] = Place(offset, size, steps)
    return values


Key = tuple[int, int]
"""(how many changes of steps lie before, steps or 0 where all steps are the same)."""


def _keys(given: Input, operations: Sequence[Operation]) -> dict[str, Key]:
    """The loop that every value is written in."""
    keys = {INPUT: (0, 0 if given.repeat or given.value.steps == 1 else given.value.steps)}
    for made in operations:
        read = [keys[name] for name in made.op.inputs]
        level, constant = max(key[0] for key in read), all(key[1] == 0 for key in read)
        steps = made.written[0].steps
        once = (constant and made.steady) or (made.rates and made.read[0].steps == 1)
        if made.rates:
            level += 1
        for name in made.op.outputs:
            keys[name] = (level, 0 if once else steps)
    return keys


def _loop_of(made: Operation, keys: dict[str, Key]) -> Key:
    """The loop that an operation runs in: that of its outputs, or of its input where it changes the steps."""
    if not made.rates:
        key = keys[made.op.outputs[0]]
        return (key[0], made.read[0].steps) if made.final else key
    level, steps = keys[made.op.inputs[0]]
    return level, steps or (0 if made.read[0].steps == 1 else made.read[0].steps)


def _loops(operations: Sequence[Operation], keys: dict[str, Key]) -> list[Loop]:
    found: dict[Key, list[int]] = {}
    for index, made in enumerate(operations):
        found.setdefault(_loop_of(made, keys), []).append(index)
    return [Loop(max(key[1], 1), tuple(found[key])) for key in sorted(found)]


def _crossing(operations: Sequence[Operation], keys: dict[str, Key], sent: Sequence[str]) -> set[str]:
    """Values that outlive a step: read by another loop than the one that writes them, or sent."""
    loop = {name: _loop_of(made, keys) for made in operations for name in made.op.outputs}
    found = {INPUT, *sent}
    for made in operations:
        found.update(name for name in made.op.inputs if loop.get(name) != _loop_of(made, keys))
    return found


def _lives(
    operations: Sequence[Operation], loops: Sequence[Loop], crossing: set[str], sent: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """First and last place, in the order of running, at which a value is held; whole loops where it crosses one."""
    order = [index for loop in loops for index in loop.operations]
    at = {index: place for place, index in enumerate(order)}
    span = {index: (at[loop.operations[0]], at[loop.operations[-1]]) for loop in loops for index in loop.operations}
    lives: dict[str, tuple[int, int]] = {INPUT: (0, 0)}
    for index, made in enumerate(operations):
        for name in made.op.outputs:
            lives[name] = (span[index][0], span[index][1]) if name in crossing else (at[index], at[index])
    for index, made in enumerate(operations):
        for name in made.op.inputs:
            end = span[index][1] if name in crossing else at[index]
            lives[name] = (lives[name][0], max(lives[name][1], end))
    for place, name in echoes_of(operations).items():  # it is kept when the loop has gone round
        ends = [span[i][1] for i, made in enumerate(operations) if i == place or name in made.op.outputs]
        lives[name] = (lives[name][0], max(lives[name][1], *ends))
    for name in sent:
        lives[name] = (lives[name][0], len(order) - 1)
    return lives


def _sizes(
    given: Input, operations: Sequence[Operation], keys: dict[str, Key], crossing: set[str]
) -> dict[str, tuple[int, int]]:
    """Name → (bytes, steps it has room for)."""
    values = {INPUT: given.value}
    for made in operations:
        values.update(zip(made.op.outputs, made.written, strict=True))
    steps = {name: max(keys[name][1], 1) if name in crossing else 1 for name in values}
    return {name: (value.size_bytes * steps[name], steps[name]) for name, value in values.items()}


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
