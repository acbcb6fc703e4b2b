"""The derivative of a logistic step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bitspike.checks import positive
from bitspike.functional.surrogate import SURROGATES, Stairs, Surrogate, sum_over_boundaries


@SURROGATES.register("sigmoid")
@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """``h = α·σ(αx)·(1 − σ(αx))``, unit area.

    Source: the logistic surrogate common to SNN libraries (SpikingJelly, α = 4).

    Args:
        alpha: sharpness per membrane unit, > 0.

    >>> float(Sigmoid().derivative(torch.tensor(1.0), Stairs(1.0)))
    1.0
    """

    alpha: float = 4.0

    def __post_init__(self) -> None:
        positive("Sigmoid", "alpha", self.alpha)

    def derivative(self, u: Tensor, stairs: Stairs) -> Tensor:
        """Sum of the bumps."""

        def bump(x: Tensor) -> Tensor:
            y = torch.sigmoid(self.alpha * x)
            return self.alpha * y * (1 - y)

        return sum_over_boundaries(u, stairs, bump, odd=False)

    def primitive(self, u: Tensor, stairs: Stairs) -> Tensor:
        """Sum of logistic steps."""
        return sum_over_boundaries(u, stairs, lambda x: torch.sigmoid(self.alpha * x), odd=True)
