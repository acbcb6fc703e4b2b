"""Tents around the boundaries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bitspike.checks import positive
from bitspike.functional.surrogate import SURROGATES, Stairs, Surrogate, sum_over_boundaries


@SURROGATES.register("triangle")
@dataclass(frozen=True)
class Triangle(Surrogate):
    """A tent of unit area around every boundary: ``h = max(0, 1 − |x|/half_width)/half_width``.

    Source: TET (arXiv 2202.11946), half-width 1.

    Args:
        half_width: in membrane units, > 0.

    >>> Triangle().derivative(torch.tensor([0.0, 0.5, 1.0]), Stairs(1.0)).tolist()
    [0.0, 0.5, 1.0]
    """

    half_width: float = 1.0

    def __post_init__(self) -> None:
        positive("Triangle", "half_width", self.half_width)

    def derivative(self, u: Tensor, stairs: Stairs) -> Tensor:
        """Sum of the tents."""
        w = self.half_width
        return sum_over_boundaries(u, stairs, lambda x: torch.clamp(1 - x.abs() / w, min=0) / w, odd=False)

    def primitive(self, u: Tensor, stairs: Stairs) -> Tensor:
        """Sum of piecewise-quadratic steps."""

        def step(x: Tensor) -> Tensor:
            y = torch.clamp(x / self.half_width, -1, 1)
            return 0.5 + y - 0.5 * y * y.abs()

        return sum_over_boundaries(u, stairs, step, odd=True)
