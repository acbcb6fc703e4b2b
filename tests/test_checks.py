"""The one form of error message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bitspike import checks


def test_a_message_has_three_parts() -> None:
    assert checks.message("A", "b must hold", 3, "do that") == "A: b must hold, got 3; do that."
    assert checks.message("A", "b must hold", 3, "did you mean 'c'?").endswith("; did you mean 'c'?")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: checks.one_of("A", "x", "hart", ("hard", "soft")),
            ["'hard', 'soft'", "'hart'", "did you mean 'hard'?"],
        ),
        (lambda: checks.one_of("A", "x", "zzz", ("hard", "soft")), ["choose one of these"]),
        (lambda: checks.one_of("A", "x", 3, (1, 2)), ["1, 2", "got 3"]),
        (lambda: checks.one_of("A", "x", 3, ()), ["x must be left out, as there are none", "remove it"]),
        (lambda: checks.at_least("A", "x", 1, 2), ["x must be >= 2", "got 1"]),
        (lambda: checks.at_least("A", "x", float("nan"), 2), ["nan"]),
        (lambda: checks.in_range("A", "x", 3, 0, 2), ["[0, 2]", "got 3"]),
        (lambda: checks.in_range("A", "x", -0.1, 0, 2), ["got -0.1"]),
        (lambda: checks.in_range("A", "x", float("nan"), 0, 2), ["nan"]),
        (lambda: checks.positive("A", "x", 0), ["positive", "got 0"]),
        (lambda: checks.positive("A", "x", float("inf")), ["finite"]),
        (lambda: checks.positive("A", "x", float("nan")), ["nan"]),
        (lambda: checks.integer("A", "x", 5, 0, 4), ["[0, 4]", "got 5"]),
        (lambda: checks.time_first("A", torch.zeros(3)), ["[T, B, ...]", "[3]"]),
        (lambda: checks.time_first("A", torch.zeros(3, 2), 3), ["3 axes", "[3, 2]"]),
        (lambda: checks.time_first("A", torch.zeros(0, 2)), ["T (axis 0) must be >= 1", "got 0"]),
        (lambda: checks.finite("A", "x", torch.tensor([1.0, float("nan"), float("inf")])), ["2 NaN or inf of 3"]),
    ],
)
def test_bad_values(call: Callable[[], object], words: list[str], refuses: Any) -> None:
    with refuses("A", *words):
        call()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: checks.integer("A", "x", True, 0, 4), ["int", "bool"]),
        (lambda: checks.integer("A", "x", 2.0, 0, 4), ["float"]),
        (lambda: checks.positive("A", "x", "1"), ["number", "str"]),  # type: ignore[arg-type]
        (lambda: checks.in_range("A", "x", None, 0, 1), ["number", "NoneType"]),  # type: ignore[arg-type]
        (lambda: checks.at_least("A", "x", [1], 0), ["number", "list"]),  # type: ignore[arg-type]
        (lambda: checks.floating("A", torch.zeros(1, dtype=torch.int32)), ["torch.int32", ".float()"]),
        (lambda: checks.floating("A", [1.0]), ["list"]),  # type: ignore[arg-type]
        (lambda: checks.time_first("A", torch.zeros(2, 2, dtype=torch.int64)), ["torch.int64"]),
    ],
)
def test_bad_types(call: Callable[[], object], words: list[str], refuses: Any) -> None:
    with refuses("A", *words, kind=TypeError):
        call()


def test_what_is_good_passes() -> None:
    assert checks.one_of("A", "x", 2, (1, 2)) == 2
    assert checks.integer("A", "x", 4, 0, 4) == 4
    checks.at_least("A", "x", 2, 2)
    checks.in_range("A", "x", 2.0, 0, 2)
    checks.in_range("A", "x", np.float32(0.5), 0, 2)
    checks.positive("A", "x", 1e-300)
    checks.time_first("A", torch.zeros(1, 1))
    checks.finite("A", "x", torch.zeros(0))


def test_the_helper_of_these_tests_can_fail(refuses: Any) -> None:
    """Another form, another place, another kind and a missing word are all noticed."""
    good = checks.message("A", "b must hold", 3, "do that")
    for error, words in ((ValueError("b is wrong"), []), (ValueError(good), ["absent"]), (ValueError("B" + good), [])):
        with pytest.raises(AssertionError), refuses("A", *words):
            raise error
    with pytest.raises(TypeError), refuses("A"):
        raise TypeError(good)
    with pytest.raises(pytest.fail.Exception), refuses("A"):
        pass
