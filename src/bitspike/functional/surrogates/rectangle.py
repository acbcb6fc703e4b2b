"""Windows: the derivative of a clamp."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bitspike.checks import bad_value, positive
from bitspike.functional.surrogate import SURROGATES, Stairs, Surrogate


@SURROGATES.register("rectangle")
@dataclass(frozen=True)
class Rectangle(Surrogate):
    """A window of unit area around every boundary.

    ``h(u) = 1/width where |u − b| <= width/2``, edges included. With ``width=None`` the windows are as wide as the
    spacing and touch: one window over the whole range, 1/spacing inside.

    Source: clamp window of Ternary Spike's code (|u| <= 1 at threshold 0.5); LM-HT (NeurIPS 2024) window
    [θ/2, (L+½)θ] for graded spikes.

    Args:
        width: full width in membrane units, > 0; None for the spacing of the staircase.

    >>> Rectangle().derivative(torch.tensor([-1.1, -1.0, 0.0, 1.0]), Stairs(0.5, 1.0, 1, signed=True)).tolist()
    [0.0, 1.0, 1.0, 1.0]
    """

    width: float | None = None

    def __post_init__(self) -> None:
        if self.width is not None:
            positive("Rectangle", "width", self.width)

    def check(self, where: str, stairs: Stairs) -> None:
        """Windows of neighbouring boundaries may touch, not overlap."""
        width = self.width or stairs.spacing
        limit = min(stairs.spacing if stairs.count > 1 else math.inf, 2 * stairs.first if stairs.signed else math.inf)
        if width > limit:
            must = f"the windows of a Rectangle must not overlap (width <= {limit:g} here)"
            raise bad_value(where, must, f"width {width:g}", "narrow it, or take a smooth surrogate")

    def derivative(self, u: Tensor, stairs: Stairs) -> Tensor:
        """1/width inside a window, edges included, else 0."""
        magnitude = u.abs() if stairs.signed else u
        if self.width is None or stairs.count == 1:
            width = self.width or stairs.spacing
            low = stairs.first - width / 2
            high = stairs.first + (stairs.count - 1) * stairs.spacing + width / 2
            return ((magnitude >= low) & (magnitude <= high)).to(u.dtype) / width
        _, offset = self._nearest(magnitude, stairs)
        return (offset.abs() <= self.width / 2).to(u.dtype) / self.width

    def primitive(self, u: Tensor, stairs: Stairs) -> Tensor:
        """A ramp over every window; with touching windows one ramp from 0 to count."""
        magnitude = u.abs() if stairs.signed else u
        below, offset = self._nearest(magnitude, stairs)
        ramp = below + torch.clamp(offset / (self.width or stairs.spacing) + 0.5, 0, 1)
        return ramp * u.detach().sign() if stairs.signed else ramp

    @staticmethod
    def _nearest(magnitude: Tensor, stairs: Stairs) -> tuple[Tensor, Tensor]:
        index = torch.clamp(
            torch.floor((magnitude.detach() - stairs.first) / stairs.spacing + 0.5), 0, stairs.count - 1
        )
        return index, magnitude - (stairs.first + index * stairs.spacing)
