"""SuperSpike's derivative, of height 1."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bitspike.checks import positive
from bitspike.functional.surrogate import SURROGATES, Stairs, Surrogate, sum_over_boundaries


@SURROGATES.register("fast_sigmoid")
@dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """``h = 1/(1 + slope·|x|)²``: height 1, area 2/slope (not 1).

    Source: Zenke & Ganguli, SuperSpike (2018); snnTorch's default with slope 25.

    Args:
        slope: per membrane unit, > 0.

    >>> import torch; float(FastSigmoid().derivative(torch.tensor(1.0), Stairs(1.0)))
    1.0
    """

    slope: float = 25.0

    def __post_init__(self) -> None:
        positive("FastSigmoid", "slope", self.slope)

    def derivative(self, u: Tensor, stairs: Stairs) -> Tensor:
        """Sum of the bumps."""
        return sum_over_boundaries(u, stairs, lambda x: 1 / (1 + self.slope * x.abs()).square(), odd=False)

    def primitive(self, u: Tensor, stairs: Stairs) -> Tensor:
        """Sum of ``x/(1 + slope·|x|) + 1/slope`` (from 0 to 2/slope)."""

        def step(x: Tensor) -> Tensor:
            return x / (1 + self.slope * x.abs()) + 1 / self.slope

        return sum_over_boundaries(u, stairs, step, odd=True)
