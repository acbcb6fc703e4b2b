"""Values of the step before: what is refused, what runs step by step, and that nothing else does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bitspike.runtime import INPUT, Builder, Input, Program, ProgramError, Value
from bitspike.runtime.echoes import parts_of

LATE = {"shape": [2], "low": -9, "high": 9, "exponent": 0}


def built(of: str, x: str = INPUT, **changed: Any) -> Program:
    """x, its sums over windows of 2 of 4 steps, held again; an echo; and the sum of both behind windows."""
    b = Builder(Input(Value((2,), -9, 9, 0, 4)))
    b.add("rescale", [INPUT], {"shift": 0, "exponent": 0}, {"multiplier": b.constant(np.array([1]))}, "same")
    b.add("windows", [INPUT], {"frames": 4, "steps": 2}, name="sums")
    b.add("windows", ["sums"], {"frames": 2, "steps": 4}, name="again")
    b.add("echo", [x], {"of": of, **LATE, **changed}, name="late")
    return b.finish("late")


def test_an_echo_must_be_of_what_it_says() -> None:
    assert built("same")(np.ones((4, 1, 2), int)).levels[:, 0, 0].tolist() == [0, 1, 1, 1]
    for of, changed, words in (
        ("nowhere", {}, "of must name a value that is written, got 'nowhere'"),
        ("same", {"high": 8}, "it must be declared as what it echoes"),
        ("same", {"exponent": 1}, "it must be declared as what it echoes"),
        ("same", {"shape": [3]}, "it must be declared as what it echoes"),
        ("again", {"low": -18, "high": 18}, "must have the steps of the program's input, got again, behind windows"),
        ("same", {"low": 1}, "its range must hold 0"),
        ("", {}, "it must be the name of a value"),
    ):
        with pytest.raises(ProgramError, match=words):
            built(of, **changed)
    with pytest.raises(ProgramError, match="got again, behind windows"):
        built("same", "again")


def test_what_feeds_itself_is_one_part_and_all_else_is_not() -> None:
    b = Builder(Input(Value((2,), -9, 9, 0, 3)))
    one = b.constant(np.array([1]))

    def scaled(x: str, name: str) -> str:
        return b.add("rescale", [x], {"shift": 0, "low": -9, "high": 9, "exponent": 0}, {"multiplier": one}, name)

    scaled(INPUT, "outside")
    for name in ("first", "second"):  # each reads the other's of the step before
        b.add("echo", [INPUT], {"of": name, **LATE}, name=f"{name}.before")
    b.add("echo", [INPUT], {"of": "behind", **LATE}, name="last")  # no loop: nothing reads it that it reads
    scaled(b.add("add", ["second.before", "outside"]), "first")
    scaled("first.before", "second")
    scaled("second", "behind")
    program = b.finish(scaled(b.add("add", ["behind", "last"]), "all"))
    loops = [
        {program.operations[i].op.name for i in part.operations} for part in parts_of(program.operations) if part.loops
    ]
    assert loops == [{"first.before", "second.before", "add4", "first", "second"}]
    x = np.zeros((6, 1, 2), int)
    x[0] = 1  # goes round: first, one step later second, one step later first …
    sent = program.stream(x)[0].levels[:, 0, 0]
    assert sent.tolist() == [0, 1, 1, 1, 1, 1]
    plain = Builder(Input(Value((2,), -9, 9, 0, 3)))
    plain.add("latch", [plain.add("latch", [INPUT])])
    assert [part.operations for part in parts_of(plain.finish("latch1").operations)] == [(0,), (1,)]


def test_what_feeds_itself_without_an_echo_cannot_be_written() -> None:
    b = Builder(Input(Value((2,), -9, 9, 0, 3)))
    with pytest.raises(ProgramError, match="must exist"):
        b.add("add", [INPUT, "later"], name="earlier")
