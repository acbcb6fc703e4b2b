"""The derivative of an arctangent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bitspike.checks import positive
from bitspike.functional.surrogate import SURROGATES, Stairs, Surrogate, sum_over_boundaries


@SURROGATES.register("atan")
@dataclass(frozen=True)
class ATan(Surrogate):
    """``h = (α/2) / (1 + (π/2·α·x)²)``, unit area.

    Source: Fang et al., PLIF (ICCV 2021); SpikingJelly's default with α = 2.

    Args:
        alpha: sharpness per membrane unit, > 0.

    >>> float(ATan().derivative(torch.tensor(1.0), Stairs(1.0)))
    1.0
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        positive("ATan", "alpha", self.alpha)

    def derivative(self, u: Tensor, stairs: Stairs) -> Tensor:
        """Sum of the bumps."""
        a = self.alpha
        return sum_over_boundaries(u, stairs, lambda x: a / 2 / (1 + (math.pi / 2 * a * x).square()), odd=False)

    def primitive(self, u: Tensor, stairs: Stairs) -> Tensor:
        """Sum of arctangent steps."""
        a = math.pi / 2 * self.alpha
        return sum_over_boundaries(u, stairs, lambda x: torch.atan(a * x) / math.pi + 0.5, odd=True)
