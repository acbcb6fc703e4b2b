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


def targets_of(info: Mapping[str, Any] | Program) -> str:
    """What is noted; "classes" where nothing is.

    Raises:
        ValueError: something else.
    """
    given = info.spec.info if isinstance(info, Program) else info
    found = given.get("targets", TARGETS[0])
    one_of("program", "targets in its info", found, TARGETS)
    return str(found)


def said(outputs: Array, targets: str) -> Array | None:
    """[B, K] or [T, B, K] → class of every sample [B], or its labels bool [B, K]; None for numbers.

    >>> said(np.array([[1.0, 3.0], [-1.0, -3.0]]), "labels").tolist()
    [[True, True], [False, False]]
    """
    mean = outputs if outputs.ndim == 2 else outputs.mean(0)
    return None if targets == "numbers" else mean.argmax(-1) if targets == "classes" else mean > 0


def same(one: Array, other: Array) -> Array:
    """bool [B]: which samples get the same from both, of what `said` gives."""
    equal = one == other
    return equal if equal.ndim == 1 else equal.all(1)


class Tally:
    """Agreement and accuracy (of numbers, error) over batches."""

    def __init__(self, targets: str) -> None:
        self.targets, self.samples, self.alike, self.values = targets, 0, 0, 0
        self.right: list[float] | None = None

    def add(self, got: Array, wanted: Array, truth: Array | None) -> None:
        """One batch: outputs of the program and of the network, and what the samples are."""
        first, second = said(got, self.targets), said(wanted, self.targets)
        self.samples += got.shape[-2]
        if first is not None and second is not None:
            self.alike += int(same(first, second).sum())
        if truth is None:
            return
        self.right = self.right or [0.0, 0.0]
        for k, (answer, outputs) in enumerate(((first, got), (second, wanted))):
            if answer is not None:
                self.right[k] += int(same(answer, truth).sum())
            else:
                mean = outputs if outputs.ndim == 2 else outputs.mean(0)
                self.right[k] += float(np.square(mean - truth).mean(1).sum())

    def figures(self) -> dict[str, float | None]:
        """agreement; accuracy and folded_accuracy, or of numbers error and folded_error; None for what there is not."""
        names = ("error", "folded_error") if self.targets == "numbers" else ("accuracy", "folded_accuracy")
        found: dict[str, float | None] = dict.fromkeys(("accuracy", "folded_accuracy", "error", "folded_error"))
        if self.right is not None:
            shares = [total / self.samples for total in self.right]
            roots = [share**0.5 for share in shares] if self.targets == "numbers" else shares
            found |= dict(zip(names, roots, strict=True))
        return {"agreement": None if self.targets == "numbers" else self.alike / self.samples, **found}
