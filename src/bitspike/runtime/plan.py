"""The memory plan: where every tensor of one sample lies in one arena, worked out ahead of time.

A program runs as a list of loops. The operations of a loop run once a step; a loop ends where an operation changes the
number of steps (`windows`), and what is the same at every step of a repeated input comes before all steps. A tensor
that only its own loop reads has room for one step; one that a later loop reads has room for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def plan(given: Input, operations: Sequence[Operation]) -> Plan:
    """Schedule and place everything: states first, then values, the largest first, each at the lowest free place."""
    keys = _keys(given, operations)
    loops = _loops(operations, keys)
    order = [index for loop in loops for index in loop.operations]
    lives = _lives(operations, loops, order, keys)
    states: dict[str, Place] = {}
    top = 0
    for made in operations:
        for slot in made.slots():
            states[f"{made.op.name}.{slot.name}"] = Place(top, slot.size_bytes)
            top += _aligned(slot.size_bytes)
    sizes = _sizes(given, operations, keys)
    values: dict[str, Place] = {}
    for name in sorted(sizes, key=lambda n: (-sizes[n][0], n)):
        size, steps = sizes[name]
        taken = sorted(
            (place.offset, place.offset + _aligned(place.size_bytes))
            for other, place in values.items()
            if lives[other][0] <= lives[name][1] and lives[name][0] <= lives[other][1]
        )
        offset = top
        for start, end in taken:
            if offset + size <= start:
                break
            offset = max(offset, end)
        values[name] = Place(offset, size, steps)
    peak = max([top, *(place.offset + _aligned(place.size_bytes) for place in values.values())])
    return Plan(tuple(loops), values, states, top, peak)


Key = tuple[int, int]
"""(how many changes of steps lie before, steps or 0 where all steps are the same)."""


def _keys(given: Input, operations: Sequence[Operation]) -> dict[str, Key]:
    """The loop that every value is written in."""
    keys = {INPUT: (0, 0 if given.repeat or given.value.steps == 1 else given.value.steps)}
    for made in operations:
        read = [keys[name] for name in made.op.inputs]
        level, constant = max(key[0] for key in read), all(key[1] == 0 for key in read)
        steps = made.written[0].steps
        once = constant and (made.steady or (made.rates and made.read[0].steps == 1))
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


def _lives(
    operations: Sequence[Operation], loops: Sequence[Loop], order: list[int], keys: dict[str, Key]
) -> dict[str, tuple[int, int]]:
    """First and last place in the order at which a value is in memory; whole loops where it crosses one."""
    at = {index: place for place, index in enumerate(order)}
    span: dict[int, tuple[int, int]] = {}
    for loop in loops:
        ends = (at[loop.operations[0]], at[loop.operations[-1]])
        span.update(dict.fromkeys(loop.operations, ends))
    writer = {name: index for index, made in enumerate(operations) for name in made.op.outputs}
    readers: dict[str, list[int]] = {name: [] for name in (INPUT, *writer)}
    for index, made in enumerate(operations):
        for name in made.op.inputs:
            readers[name].append(index)
    lives = {}
    for name, users in readers.items():
        own = writer.get(name)
        crosses = own is None or not users or any(span[user] != span[own] for user in users) or operations[own].rates
        if own is not None and not crosses:
            lives[name] = (at[own], max(at[user] for user in users))
            continue
        first = 0 if own is None else span[own][0]
        last = max([span[user][1] for user in users] or [len(order) - 1])
        lives[name] = (first, len(order) - 1 if not users else last)
    return lives


def _sizes(given: Input, operations: Sequence[Operation], keys: dict[str, Key]) -> dict[str, tuple[int, int]]:
    """Name → (bytes, steps it has room for)."""
    loop = {name: _loop_of(made, keys) for made in operations for name in made.op.outputs}
    crossing = {
        name
        for made in operations
        for name in made.op.inputs
        if name == INPUT or loop[name] != _loop_of(made, keys) or keys[name] != loop[name]
    }
    read = {name for made in operations for name in made.op.inputs}
    values = {INPUT: given.value}
    for made in operations:
        values.update(zip(made.op.outputs, made.written, strict=True))
    sizes = {}
    for name, value in values.items():
        steps = max(keys[name][1], 1) if name in crossing or name not in read else 1
        sizes[name] = (value.size_bytes * steps, steps)
    return sizes


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
