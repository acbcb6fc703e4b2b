"""What outputs stand for, and when two of them say the same: a program notes it as "targets" in its info."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bitspike.checks import one_of
from bitspike.runtime import Program

TARGETS = ("classes", "labels", "numbers")
"""The greatest output's class (the usual), every label whose output is above 0, or the outputs themselves."""

Array = np.ndarray[Any, Any]


def targets_of(info: Mapping[str, Any] | Program, output: str = "") -> str:
    """What is noted, for all outputs or as a dict by output; "classes" where nothing is.

    Raises:
        ValueError: something else.
    """
    given = info.spec.info if isinstance(info, Program) else info
    found = given.get("targets", TARGETS[0])
    found = found.get(output, TARGETS[0]) if isinstance(found, Mapping) else found
    one_of("program", "targets in its info", found, TARGETS)
    return str(found)


def sends_steps(program: Program, output: str = "") -> bool:
    """Whether an output is [T, B, K, ...], one a step, and not [B, K, ...]."""
    value = program.spec.sent[output].value
    return not any(made.final and value in made.op.outputs for made in program.operations)


def said(outputs: Array, targets: str) -> Array | None:
    """[B, K, ...] → class of every sample and place [B, ...], or its labels bool [B, K, ...]; None for numbers.

    >>> said(np.array([[1.0, 3.0], [-1.0, -3.0]]), "labels").tolist()
    [[True, True], [False, False]]
    """
    return None if targets == "numbers" else outputs.argmax(1) if targets == "classes" else outputs > 0


def same(one: Array, other: Array, targets: str) -> Array:
    """[B]: share of a sample's places (1 or 0 without places) that get the same from both, of what `said` gives."""
    equal = one == other
    equal = equal.all(1) if targets == "labels" else equal
    return equal.reshape(len(equal), -1).mean(1)


class Tally:
    """Agreement and accuracy (of numbers, error) over batches; of maps the mean over their places.

    Args:
        targets: as `targets_of` gives it. steps: whether outputs are [T, B, K, ...], of which the mean counts.
    """

    def __init__(self, targets: str, steps: bool) -> None:
        self.targets: str = targets
        self.steps: bool = steps
        self.samples: int = 0
        self.alike: float = 0.0
        self.right: list[float] | None = None

    def add(self, got: Array, wanted: Array, truth: Array | None) -> None:
        """One batch: outputs of the program and of the network, and what the samples are."""
        got, wanted = (each.mean(0) if self.steps else each for each in (got, wanted))
        first, second = said(got, self.targets), said(wanted, self.targets)
        self.samples += len(got)
        if first is not None and second is not None:
            self.alike += float(same(first, second, self.targets).sum())
        if truth is None:
            return
        self.right = self.right or [0.0, 0.0]
        for k, (answer, outputs) in enumerate(((first, got), (second, wanted))):
            if answer is not None:
                self.right[k] += float(same(answer, truth, self.targets).sum())
            else:
                squares = np.square(outputs - truth)
                self.right[k] += float(squares.reshape(len(squares), -1).mean(1).sum())

    def figures(self) -> dict[str, float | None]:
        """agreement; accuracy and folded_accuracy, or of numbers error and folded_error; None for what there is not."""
        names = ("error", "folded_error") if self.targets == "numbers" else ("accuracy", "folded_accuracy")
        found: dict[str, float | None] = dict.fromkeys(("accuracy", "folded_accuracy", "error", "folded_error"))
        if self.right is not None:
            shares = [total / self.samples for total in self.right]
            roots = [share**0.5 for share in shares] if self.targets == "numbers" else shares
            found |= dict(zip(names, roots, strict=True))
        return {"agreement": None if self.targets == "numbers" else self.alike / self.samples, **found}
