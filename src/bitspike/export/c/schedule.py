"""When operations run in a live stream: loops over clocks, in order.

Values of one clock always have the same number of steps. The input's clock is the first; `windows` makes a new one of
the clock that it reads, and an operation that joins values of several clocks takes the steps that all have. Whatever
the clocks, all of them are even where a window of the input ends, so that no value waits for longer than a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bitspike.runtime import INPUT, Program
from bitspike.runtime.ops import Operation

Base = tuple[object, ...]
ROOT: Base = ("input",)


@dataclass(frozen=True)
class Task:
    """One thing to run: an operation, "take" (the input is kept for later clocks) or "emit" (a row comes out).

    Attributes:
        kind: of the operation. made: the operation, where it is one. reads, writes: values, aliases resolved.
        number: place in the program; of "emit" among the outputs.
    """

    kind: str
    made: Operation | None
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    number: int = -1


@dataclass(frozen=True)
class Clock:
    """Steps that values have.

    Attributes:
        bases: numbers of the clocks made by `windows` (or 0) whose steps it waits for; itself where it is one.
        steps: in a window. key: how it comes about.
    """

    bases: tuple[int, ...]
    steps: int
    key: tuple[Base, ...]


@dataclass(frozen=True)
class Loop:
    """Tasks that run one after the other at a step of a clock.

    Attributes:
        mode: "held" where a whole run of a repeated input needs it at the first step only, "once" where all steps of
            a window are the same, else "step".
    """

    clock: int
    mode: str
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Schedule:
    """What runs when.

    Attributes:
        loops: in order. clocks: by number; 0 is the input's. alias: value → the value whose numbers it has.
        mode, clock: of every value by name. made_by: value that `windows` writes → number of its clock.
    """

    loops: tuple[Loop, ...]
    clocks: tuple[Clock, ...]
    alias: dict[str, str]
    mode: dict[str, str]
    clock: dict[str, int]
    made_by: dict[str, int]


def schedule(program: Program) -> Schedule:
    """Clocks and loops of a program."""
    return _Schedule(program).done()


class _Schedule:
    def __init__(self, program: Program) -> None:
        given = program.spec.input
        self.program = program
        self.keys: list[tuple[Base, ...]] = [(ROOT,)]
        self.steps = [given.value.steps]
        self.clock = {INPUT: 0}
        self.mode = {INPUT: "held" if given.repeat and given.value.steps > 1 else "step"}
        self.alias: dict[str, str] = {INPUT: INPUT}
        self.made_by: dict[str, int] = {}
        self.tasks: dict[tuple[int, str], list[Task]] = {}
        for number, made in enumerate(program.operations):
            self._place(number, made)
        means = {made.op.outputs[0] for made in program.operations if made.final}
        for number, name in enumerate(program.spec.sent_values):
            if name not in means:
                self._add(self.clock[name], "step", Task("emit", None, (self.alias[name],), (), number))
        readers = [key[0] for key, tasks in self.tasks.items() for task in tasks if INPUT in task.reads]
        if any(readers):
            self.tasks.setdefault((0, self.mode[INPUT]), []).insert(0, Task("take", None, (), (INPUT,)))

    def _number(self, key: tuple[Base, ...], steps: int) -> int:
        if key not in self.keys:
            self.keys.append(key)
            self.steps.append(steps)
        return self.keys.index(key)

    def _add(self, clock: int, mode: str, task: Task) -> None:
        self.tasks.setdefault((clock, mode), []).append(task)

    def _place(self, number: int, made: Operation) -> None:
        op = made.op
        read = [self.clock[name] for name in op.inputs]
        bases = tuple(sorted({base for clock in read for base in self.keys[clock]}, key=repr))
        at = self._number(bases, made.read[0].steps)
        modes = {self.mode[name] for name in op.inputs}
        mode = modes.pop() if len(modes) == 1 and made.steady else "step"
        if mode == "held" and len(set(read)) > 1:
            mode = "step"
        reads = () if op.kind == "echo" else tuple(self.alias[name] for name in op.inputs)
        clock, written, held = at, mode, made.rates and made.read[0].steps == 1
        if made.rates:
            clock = self._number(
                (("windows", bases, made.read[0].steps, made.written[0].steps),), made.written[0].steps
            )
            written = "once" if held else "step"
            mode = self.mode[op.inputs[0]] if held else "step"
            self.made_by[op.outputs[0]] = clock
        for name in op.outputs:
            self.clock[name], self.mode[name] = clock, written
            self.alias[name] = reads[0] if op.kind == "reshape" or held else name
        if op.kind != "reshape":
            self._add(at, mode, Task(op.kind, made, reads, op.outputs, number))

    def done(self) -> Schedule:
        """Everything in order: what a loop reads of another loop comes before."""
        numbers = {key: i for i, key in enumerate(self.keys)}
        clocks = []
        for key, steps in zip(self.keys, self.steps, strict=True):
            clocks.append(Clock(tuple(sorted(numbers[(base,)] for base in key)), steps, key))
        order = sorted(self.tasks, key=lambda at: (*_rank(self.keys[at[0]]), at[0], at[1] == "step"))
        loops = tuple(Loop(clock, mode, tuple(self.tasks[clock, mode])) for clock, mode in order)
        return Schedule(loops, tuple(clocks), self.alias, self.mode, self.clock, self.made_by)


def _rank(key: Sequence[Base]) -> tuple[int, int]:
    """(how many changes of steps lie before, how many clocks are joined): grows from what is read to what reads."""
    return max(_depth(base) for base in key), len(key)


def _depth(base: Any) -> int:
    return 0 if base == ROOT else 1 + max(_depth(inner) for inner in base[1])


def most_rows(found: Schedule, program: Program, output: str) -> int:
    """Rows of a value that comes out which one step of a stream brings at most."""
    if any(made.final and output in made.op.outputs for made in program.operations):
        return 1
    key = found.clocks[found.clock[output]].key
    counts = [min(_ready(base, frames) for base in key) for frames in range(program.spec.input.value.steps + 1)]
    return max(after - before for before, after in pairwise(counts))


def _ready(base: Any, frames: int) -> int:
    """Steps of a clock after so many of the input."""
    if base == ROOT:
        return frames
    _, inner, many, steps = base
    return min(_ready(part, frames) for part in inner) * steps // many
