"""What flows between the rules: a value of the program, and what it stands for in the folded network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Refused(Exception):  # noqa: N818 (no error of the user's: rules raise it, `compile` collects all of them)
    """Why a rule cannot lower a node."""


class TooWide(Refused):
    """A number does not fit: nothing to say of a node behind a refused one, whose numbers are made up."""


@dataclass(frozen=True, eq=False)
class Wire:
    """``true value = factor·q + shift`` for the integers q of a value of the program; not yet paid for by a rescale.

    Attributes:
        name: of the value. factor: float64 [], [C] or [steps, C or 1]. shift: float64 [] or [C]; C is
            axis 0 of the value.
        at: where the numbers lie, if elsewhere than in the network: int64 of the network's shape of a sample, the place
            of each of its numbers in the value, read in order; every place once. None: as in the network.
    """

    name: str
    factor: Array
    shift: Array
    at: Array | None = None

    @property
    def scalar(self) -> bool:
        """Whether one factor serves all channels and steps, without a shift."""
        return self.factor.ndim == 0 and not self.shift.any()

    def times(self, factor: Any, shift: Any = 0.0) -> Wire:
        """The wire of ``factor·x + shift``."""
        factor = np.asarray(factor, np.float64)
        moved = self.shift * factor if self.shift.any() else np.zeros(())
        return replace(self, factor=simple(self.factor * factor), shift=simple(moved + np.asarray(shift, np.float64)))

    def placed(self, at: Array | None) -> Wire:
        """The same numbers, lying there."""
        return self if at is self.at else replace(self, at=at)


def wire(name: str, factor: Any = 1.0, shift: Any = 0.0, at: Array | None = None) -> Wire:
    """A wire of a value whose integers are worth ``factor`` each.

    >>> wire("x", np.array([0.5, 0.5])).times(2, np.array([1.0, 2.0]))
    Wire(name='x', factor=array(1.), shift=array([1., 2.]), at=None)
    """
    return Wire(name, simple(np.asarray(factor, np.float64)), simple(np.asarray(shift, np.float64)), at)


def simple(numbers: Array) -> Array:
    """The same numbers with no axis along which they are all equal: [steps, C] → [C] → []."""
    if numbers.ndim == 2 and (numbers == numbers[:1]).all():
        numbers = numbers[0]
    if numbers.ndim == 1 and numbers.size and (numbers == numbers[0]).all():
        return np.asarray(numbers[0])
    return np.asarray(numbers)
