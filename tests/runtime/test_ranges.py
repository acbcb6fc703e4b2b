"""What is declared of outputs: range, unit and steps follow from the inputs by the rules of the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bitspike.runtime import INPUT, Builder, Input, Value
from programs.machines import INT32, one

UP, BOTH, WIDE = Value((2,), 3, 9, 5, 4), Value((2,), -3, 5, 5, 4), Value((2,), *INT32)
LINE, DOWN = Value((1, 2), 3, 9, 5, 4), Value((1, 2), -9, -3, 5, 4)
TWO = {"count": [2], "signed": True, "reset": "hard", "up": 5, "down": 3}
NARROW = {"shift": 0, "low": 7, "high": 9, "exponent": 0}
SPREAD = {"kernel": [2], "stride": [1], "padding": [1]}
RANGES: dict[str, tuple[Callable[[], Any], tuple[int, int, int, int]]] = {
    "pad": (lambda: one("pad", UP, {"before": [1], "after": [0]}), (0, 9, 5, 4)),
    "slice": (lambda: one("slice", UP, {"start": [0], "stop": [1], "stride": [1]}), (3, 9, 5, 4)),
    "reshape": (lambda: one("reshape", UP, {"shape": [1, 2]}), (3, 9, 5, 4)),
    "latch": (lambda: one("latch", UP), (3, 9, 5, 4)),
    "echo": (
        lambda: one("echo", BOTH, {"of": INPUT, "shape": [2], "low": -3, "high": 5, "exponent": 5}),
        (-3, 5, 5, 4),
    ),
    "maxpool": (lambda: one("maxpool", LINE, {**SPREAD, "dilation": [1]}), (3, 9, 5, 4)),
    "tally": (lambda: one("tally", LINE, {**SPREAD, "dilation": [1]}), (0, 9, 5, 4)),
    "tally below 0": (lambda: one("tally", DOWN, {**SPREAD, "dilation": [1]}), (-9, 0, 5, 4)),
    "sumpool": (lambda: one("sumpool", LINE, SPREAD), (0, 18, 5, 4)),
    "sumpool with a divisor": (
        lambda: one("sumpool", DOWN, {**SPREAD, "divisor": 6}),
        (-54, 0, 5, 4),
    ),
    "windows": (lambda: one("windows", UP, {"frames": 4, "steps": 6}), (0, 18, 5, 6)),
    "hold": (lambda: one("windows", Value((2,), 3, 9, 5, 1), {"frames": 1, "steps": 6}), (3, 9, 5, 6)),
    "twice as many": (lambda: one("windows", Value((2,), 3, 9, 5, 2), {"frames": 2, "steps": 4}), (3, 9, 5, 4)),
    "lookup": (
        lambda: one("lookup", Value((2,), 1, 1, 5, 4), {"first": 0, "exponent": 3}, table=[7, 1, 4]),
        (1, 7, 3, 4),
    ),
    "linear": (lambda: one("linear", UP, {"exponent": 2}, weight=[[2, -1]]), (-9, 18, 7, 4)),
    "linear with a bias": (
        lambda: one("linear", UP, weight=[[2, 1], [-1, -1]], bias=[-4, 5]),
        (-18, 27, 5, 4),
    ),
    "rescale": (
        lambda: one("rescale", BOTH, {"shift": 1, "exponent": 0}, multiplier=[1, -2], bias=[10]),
        (5, 13, 0, 4),
    ),
    "rescale, clamped": (
        lambda: one("rescale", BOTH, NARROW, multiplier=[1]),
        (7, 7, 0, 4),
    ),
    "fire": (
        lambda: one("fire", BOTH, {"count": [1, 3], "reset": "hard", "up": 5}, first=[1], spacing=[1]),
        (0, 15, 0, 4),
    ),
    "fire, signed": (
        lambda: one("fire", WIDE, TWO, first=[1], spacing=[1]),
        (-6, 10, 0, 1),
    ),
    "mean": (lambda: one("mean", UP), (0, 9 * (2**31 - 1), 5, 1)),
}


@pytest.mark.parametrize("case", RANGES)
def test_ranges_units_and_steps_are_those_of_the_page(case: str) -> None:
    """They are declared in files, so they may never become others."""
    build, expected = RANGES[case]
    program = build()
    value = program.spec.values[program.spec.output]
    assert (value.low, value.high, value.exponent, value.steps) == expected


def test_joined_channels_are_stored_as_their_range_says() -> None:
    """0..200 (uint8) beside 0..100 (int8) is uint8, although NumPy would take int16."""
    b = Builder(Input(Value((2,), 0, 200)))
    tensors = {"multiplier": b.constant(np.array([1]))}
    small = b.add("rescale", [INPUT], {"shift": 1, "low": 0, "high": 100, "exponent": 0}, tensors)
    program = b.finish(b.add("concat", [INPUT, small]))
    result = program(np.array([[[200, 7]]]))
    assert result.levels.dtype == np.uint8 and result.levels.tolist() == [[[200, 7, 100, 4]]]
