"""Programs of one operation, and numbers that meet borders and ties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bitspike.runtime import INPUT, Builder, Grid, Input, Program, Result, Value

INT32 = (-(2**31), 2**31 - 1)


def one(
    kind: str, value: Value, attributes: Mapping[str, Any] | None = None, outputs: tuple[str, ...] = (), **tensors: Any
) -> Program:
    """A program of one operation on the input; a tensor may be (numbers, grid)."""
    b = Builder(Input(value))
    roles = {}
    for role, numbers in tensors.items():
        if numbers is not None:
            array, grid = numbers if isinstance(numbers, tuple) else (numbers, None)
            roles[role] = b.constant(np.asarray(array), grid)
    return b.finish(b.add(kind, [INPUT], attributes, roles, outputs=outputs))


def numbers(low: int, high: int, *ties: int) -> st.SearchStrategy[int]:
    """Integers with their borders, 0, ±1 and what else decides ties."""
    known = [k for k in (low, high, 0, 1, -1, low + 1, high - 1, *ties, *(t - 1 for t in ties)) if low <= k <= high]
    return st.one_of(st.sampled_from(known), st.integers(low, high))


def arrays(shape: tuple[int, ...], elements: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    return hnp.arrays(np.int64, shape, elements=elements, fill=st.nothing())


def samples(result: Result) -> list[Any]:
    """levels [steps, B, ...] → for every sample a list over steps of nested lists."""
    return np.moveaxis(result.levels, 1, 0).tolist()  # type: ignore[no-any-return]


def per_sample(x: Any) -> list[Any]:
    return np.moveaxis(np.asarray(x), 1, 0).tolist()  # type: ignore[no-any-return]


def pieces(program: Program, x: Any, cuts: list[int]) -> tuple[Any, Mapping[str, int]]:
    """The same sequence as a stream, cut there: (levels that came out, in order, or the last; clamped)."""
    parts, state, last = [], None, None
    for chunk in np.split(np.asarray(x), cuts):
        if len(chunk):
            last, state = program.stream(chunk, state)
            parts.append(last.levels)
    assert last is not None
    final = program.operations[-1].final
    return (parts[-1] if final else np.concatenate(parts)), last.clamped


BINARY, TERNARY, SIGNS, BYTE = Grid(0, 1), Grid(-1, 1), Grid(-1, 1, stride=2), Grid(-127, 127)
