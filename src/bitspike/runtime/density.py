"""How much of what convolutions and linear maps read is not 0: what the planner of the engine chooses kernels by."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arithmetic import Array
from .interpreter import step
from .ops import Operation
from .program import Program


def densities(program: Program, x: Any) -> dict[str, float]:
    """Operation with weights → share of its input that is not 0, to four digits, when the interpreter runs samples.

    Args:
        program: any. x: samples, as the program takes them.

    Raises:
        ProgramError: x is not what the program takes.

    >>> from bitspike.runtime import INPUT, Builder, Input, Value
    >>> b = Builder(Input(Value((2,), 0, 1)))
    >>> last = b.add("linear", [INPUT], {}, {"weight": b.constant(np.array([[1, 2]]))})
    >>> densities(b.finish(last), np.array([[[1, 0], [0, 0]]]))
    {'linear0': 0.25}
    """
    counts: dict[str, list[int]] = {}
    watched = tuple(
        _Watched(made, counts.setdefault(made.op.name, [0, 0])) if "weight" in made.constants else made
        for made in program.operations
    )
    step(watched, program.sequence(x), None, program.spec.sent_values)  # type: ignore[arg-type]
    return {name: round(some / every, 4) for name, (some, every) in counts.items() if every}


class _Watched:
    """An operation that counts what it reads."""

    def __init__(self, made: Operation, counts: list[int]) -> None:
        self._made, self._counts = made, counts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)

    def run(self, inputs: tuple[Array, ...], state: Any) -> Any:
        self._counts[0] += int(np.count_nonzero(inputs[0]))
        self._counts[1] += inputs[0].size
        return self._made.run(inputs, state)


__all__ = ["densities"]
