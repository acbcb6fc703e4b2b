"""Which operations run together: a head that reads neighbours, and what works number by number behind it.

A group runs tile by tile. What only the group itself reads never lies in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..ops import Operation
from ..spec import INPUT, Input, Value

ELEMENTWISE = frozenset({"rescale", "add", "multiply", "fire", "lookup", "latch", "mean"})
MOVES = frozenset({"slice", "pad"})


@dataclass
class Group:
    """Operations, by their place in the program, that run together over one space [C, H, W]; or a join of values."""

    space: tuple[int, int, int]
    operations: list[int] = field(default_factory=list)
    joins: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Grouped:
    """Groups in order, with what was renamed: inputs of joined operations read the joined values.

    Attributes:
        groups: in the order in which they run. inputs: operation → names it reads. values: by name, joined ones too.
        clocks: value → its class; values of one class always have the same number of steps, that of the input is 0.
    """

    groups: list[Group]
    inputs: list[tuple[str, ...]]
    values: dict[str, Value]
    clocks: dict[str, int]


def space_of(value: Value) -> tuple[int, int, int]:
    """[C], [C, L] and [C, H, W] as (C, H, W)."""
    channels, *sides = value.shape
    if len(sides) > 2:  # no operation reads more axes than reshape, slice and pad: all but channels in one row
        rows = 1
        for side in sides:
            rows *= side
        return channels, 1, rows
    return (channels, *(1,) * (2 - len(sides)), *sides)  # type: ignore[return-value]


def grouped(given: Input, operations: Sequence[Operation], sent: Sequence[str]) -> Grouped:
    """Put operations into groups: each as early as its latest input allows, cheap ones where they are read."""
    values = {INPUT: given.value}
    for made in operations:
        values.update(zip(made.op.outputs, made.written, strict=True))
    found = Grouped([], [], values, {INPUT: 0})
    home: dict[str, int] = {INPUT: -1}
    for index, made in enumerate(operations):
        names = made.op.inputs
        if made.op.kind == "echo":  # it is there before the first group runs, as the input is
            found.inputs.append(())
            home[made.op.outputs[0]], found.clocks[made.op.outputs[0]] = -1, 0
            continue
        space = space_of(made.read[0] if made.final else made.written[0])
        if len({found.clocks[name] for name in names}) > 1:
            names = _joined(found, home, made, names)
        clock = found.clocks[names[0]]
        if made.rates:
            clock = max(found.clocks.values()) + 1
        found.inputs.append(names)
        at = _group_for(found, home, made, names, space)
        found.groups[at].operations.append(index)
        for name in made.op.outputs:
            home[name], found.clocks[name] = at, clock
    _sink(found, operations, sent)
    return found


def rows_of(made: Operation) -> set[int]:
    """Places of inputs that are one number a channel, for all places of the other."""
    if made.op.kind == "multiply" and made.read[1].shape != made.read[0].shape:
        return {1}
    return set()


def _joined(found: Grouped, home: dict[str, int], made: Operation, names: tuple[str, ...]) -> tuple[str, ...]:
    group = Group((1, 1, 1))
    clock = max(found.clocks.values()) + 1
    renamed: dict[str, str] = {}
    for name in names:
        new = f"{made.op.name}:{name}"
        while new in found.values:
            new += ":"
        renamed.setdefault(name, new)
    for name, new in renamed.items():
        group.joins.append((name, new))
        found.values[new], found.clocks[new] = found.values[name], clock
        home[new] = len(found.groups)
    found.groups.append(group)
    return tuple(renamed[name] for name in names)


def _group_for(
    found: Grouped, home: dict[str, int], made: Operation, names: tuple[str, ...], space: tuple[int, int, int]
) -> int:
    rows = rows_of(made)
    latest = max(home[name] for name in names)
    if (
        made.op.kind in ELEMENTWISE
        and latest >= 0
        and not found.groups[latest].joins
        and found.groups[latest].space == space
        and all(home[names[i]] < latest for i in rows)
    ):
        return latest
    if made.op.kind in MOVES:  # right behind what it reads, so that what adds its numbers can stay with its own head
        found.groups.insert(latest + 1, Group(space))
        home.update({name: place + 1 for name, place in home.items() if place > latest})
        return latest + 1
    found.groups.append(Group(space))
    return len(found.groups) - 1


def _sink(found: Grouped, operations: Sequence[Operation], sent: Sequence[str]) -> None:
    """A scaling without memory that one later group alone reads moves there, if that makes what is stored smaller."""
    at = {index: place for place, group in enumerate(found.groups) for index in group.operations}
    for index in reversed(range(len(operations))):
        made = operations[index]
        if made.op.kind not in ("rescale", "lookup") or not made.steady or made.op.outputs[0] in sent:
            continue
        (name,), (source,) = made.op.outputs, found.inputs[index]
        readers = [i for i, names in enumerate(found.inputs) if name in names]
        homes = {at[i] for i in readers}
        joined = any(name in pair for group in found.groups for pair in group.joins)
        plain = all(
            operations[i].op.kind in ELEMENTWISE and not any(found.inputs[i][r] == name for r in rows_of(operations[i]))
            for i in readers
        )
        x, y = found.values[source], found.values[name]
        if joined or not plain or len(homes) != 1 or homes == {at[index]} or x.dtype.itemsize >= y.dtype.itemsize:
            continue
        (there,) = homes
        if found.groups[there].space != space_of(y):
            continue
        found.groups[at[index]].operations.remove(index)
        found.groups[there].operations.append(index)
        found.groups[there].operations.sort()
        at[index] = there
    for group in [group for group in found.groups if not group.operations and not group.joins]:
        found.groups.remove(group)
