"""The table of measures, and what a measure is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bitspike.registry import Registry

Kind = Literal["classes", "numbers", "labels"]
"""What targets are: one class a sample, numbers to be met, or for every label whether the sample has it."""

Array = np.ndarray[Any, Any]


def _defined(targets: Array) -> str | None:
    return None


@dataclass(frozen=True)
class Measure:
    """One figure for a whole set.

    Args:
        kind: of targets.
        words: what tables and messages call it.
        score: (outputs float64 [N, K], targets int64 [N], float64 [N, K] or bool [N, K]) → the figure.
        constant: targets → the best figure that one answer for all samples gives.
        higher: whether more is better.
        percent: whether it is a share, shown in %.
        undefined: targets → why they have no such figure, or None.
    """

    kind: Kind
    words: str
    score: Callable[[Array, Array], float]
    constant: Callable[[Array], float]
    higher: bool = True
    percent: bool = True
    undefined: Callable[[Array], str | None] = _defined

    def text(self, figure: float) -> str:
        """The figure as a person reads it."""
        return f"{figure:.2%}" if self.percent else f"{figure:.4g}"


MEASURES: Registry[Measure] = Registry("measure")
"""Name → `Measure`; a recipe names one in ``train.metric``, by which the best epoch is chosen."""


def measures_of(kind: Kind) -> tuple[str, ...]:
    """Names of the measures of one kind of targets, the usual one first.

    >>> measures_of("numbers")
    ('error', 'mae', 'rmse', 'r2')
    """
    return tuple(name for name, measure in MEASURES.items() if measure.kind == kind)
