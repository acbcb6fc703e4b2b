"""What runs in one function: a task that reads neighbours, and what works number by number behind it.

What only the group itself reads never lies in memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bitspike.runtime import INPUT, Program
from bitspike.runtime.spec import Value

from .schedule import Loop, Schedule, Task

ELEMENTWISE = frozenset({"rescale", "add", "multiply", "fire", "lookup", "latch", "echo", "mean", "emit"})
HEADS = frozenset({"convolution", "linear", "sumpool", "maxpool", "tally"})


@dataclass
class Group:
    """Tasks of one function.

    Attributes:
        loop: where it runs. space: (channels, numbers a channel). tasks: in order.
    """

    loop: Loop
    space: tuple[int, int]
    tasks: list[Task] = field(default_factory=list)


def values_of(program: Program) -> dict[str, Value]:
    """Everything that is known of every value."""
    return {INPUT: program.spec.input.value, **program.spec.values}


def space_of(value: Value) -> tuple[int, int]:
    """(channels, numbers a channel)."""
    return value.shape[0], math.prod(value.shape[1:])


def grouped(found: Schedule, program: Program) -> list[Group]:
    """Groups in the order in which they run."""
    values, groups = values_of(program), list[Group]()
    for loop in found.loops:
        current: Group | None = None
        for task in loop.tasks:
            space = _space(task, values, program)
            joins = task.kind in ELEMENTWISE and current is not None and current.space == space
            if joins and current is not None and current.tasks[0].kind in ELEMENTWISE | HEADS:
                current.tasks.append(task)
            else:
                current = Group(loop, space, [task])
                groups.append(current)
    return groups


def _space(task: Task, values: dict[str, Value], program: Program) -> tuple[int, int]:
    if task.kind == "emit":
        return space_of(values[program.spec.sent_values[task.number]])
    if task.made is None:
        return space_of(values[task.writes[0]])
    return space_of(task.made.read[0] if task.made.final else task.made.written[0])
