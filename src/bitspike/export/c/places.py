"""Where everything lies in a context: arrays of numbers of 1, 2, 4 and 8 bytes, states first.

As in the memory plan of the program, what lives at other times shares a place; but only with numbers of its width, so
that C's rules on types hold, and without padding.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitspike.runtime import INPUT, Program
from bitspike.runtime.echoes import echoes_of

from .groups import ELEMENTWISE, HEADS, Group, values_of
from .names import ctype
from .schedule import Schedule

ARENAS = {1: "b", 2: "h", 4: "w", 8: "d"}
"""Bytes of a number → name of its array."""


@dataclass(frozen=True)
class Place:
    """An array in the context.

    Attributes:
        arena: b, h, w or d. offset, size: in numbers; of one step. type: of its numbers. slots: steps it has room for.
    """

    arena: str
    offset: int
    size: int
    type: str
    slots: int = 1


@dataclass(frozen=True)
class Places:
    """All arrays: of values, by name, and of states, by "operation.slot"; numbers in every arena; largest scratch."""

    values: dict[str, Place]
    states: dict[str, Place]
    totals: dict[str, int]

    @property
    def size_bytes(self) -> int:
        """Of the arenas."""
        return sum(self.totals[arena] * size for size, arena in ARENAS.items())


def places(program: Program, found: Schedule, groups: list[Group]) -> Places:
    """Place states, then values: the largest first, each at the lowest free place."""
    known, end = values_of(program), len(groups)
    states: dict[str, Place] = {}
    totals = dict.fromkeys(ARENAS.values(), 0)
    for made in program.operations:
        if made.op.kind == "windows" and made.read[0].steps == 1:
            continue
        for slot in made.slots():
            size = slot.size_bytes
            width = {"int64": 8, "int32": 4}.get(slot.dtype) or _width(slot.dtype)
            arena = ARENAS[width]
            states[f"{made.op.name}.{slot.name}"] = Place(arena, totals[arena], size // width, ctype(slot.dtype))
            totals[arena] += size // width
    taken: dict[str, list[tuple[int, int, int, int]]] = {arena: [] for arena in totals}
    sizes = {}
    for name, (first, last, slots) in lives(program, found, groups, end).items():
        sizes[name] = known[name].size * slots, first, last, slots
    values = {}
    tops = dict(totals)
    for name in sorted(sizes, key=lambda name: (-sizes[name][0], name)):
        size, first, last, slots = sizes[name]
        arena = ARENAS[known[name].dtype.itemsize]
        offset = tops[arena]
        for start, stop, begin, finish in sorted(taken[arena]):
            if begin <= last and first <= finish:
                if offset + size <= start:
                    break
                offset = max(offset, stop)
        taken[arena].append((offset, offset + size, first, last))
        totals[arena] = max(totals[arena], offset + size)
        values[name] = Place(arena, offset, known[name].size, ctype(known[name].dtype), slots)
    return Places(values, states, totals)


def _width(dtype: str) -> int:
    return 1 if dtype.endswith("t8") else 2


def lives(program: Program, found: Schedule, groups: list[Group], end: int) -> dict[str, tuple[int, int, int]]:
    """Value that must lie in memory → (first and last group that it is held in, steps it has room for)."""
    known = values_of(program)
    writer, readers = {}, dict[str, set[int]]()
    span = dict[tuple[int, str], tuple[int, int]]()
    for at, group in enumerate(groups):
        key = group.loop.clock, group.loop.mode
        span[key] = span.get(key, (at, at))[0], at
        for task in group.tasks:
            for name in task.writes:
                if name == found.alias[name]:
                    writer[name] = at
            for name in task.reads:
                readers.setdefault(name, set()).add(at)
    forced = {task.writes[0] for group in groups for task in group.tasks if task.kind == "fire"}
    echoed = {found.alias[name] for name in echoes_of(program.operations).values()}
    held = dict[str, tuple[int, int, int]]()
    for name, at in writer.items():
        read = readers.get(name, set())
        whole = groups[at].tasks[0].kind not in ELEMENTWISE | HEADS
        if read <= {at} and name not in forced | echoed and not whole:
            continue
        held[name] = _life(name, at, read, groups, found, span, end, known[name].steps)
        if name in echoed:  # until the step is over, and from one step to the next where it is made once
            held[name] = 0, end, held[name][2]
    return held


def _life(
    name: str,
    at: int,
    read: set[int],
    groups: list[Group],
    found: Schedule,
    span: dict[tuple[int, str], tuple[int, int]],
    end: int,
    steps: int,
) -> tuple[int, int, int]:
    home = groups[at].loop
    own = found.made_by.get(name, home.clock)  # the clock of its steps
    loops = {(groups[i].loop.clock, groups[i].loop.mode) for i in read}
    clocks = {clock for clock, _ in loops}
    aliased = {found.clock[other] for other, root in found.alias.items() if root == name}
    slots = 1 if found.mode[name] == "once" else steps
    if name == INPUT:
        return 0, end, slots
    if clocks - aliased - {own}:
        return 0, end, slots
    if own == home.clock and clocks <= {own}:
        if home.mode == "held" and loops != {(home.clock, "held")} and loops:
            return at, end, 1
        last = max([at, *(span[loop][1] if loop != (home.clock, home.mode) else max(read) for loop in loops)])
        return at, last, 1
    first = span[home.clock, home.mode][0]
    return first, max([span[home.clock, home.mode][1], *(span[loop][1] for loop in loops)]), slots
