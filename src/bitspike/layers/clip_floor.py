"""The activation of networks that are trained to be converted: a clipped staircase with a learned ceiling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bitspike.checks import floating, integer, positive
from bitspike.functional import round_ste
from bitspike.layers.base import TimeLayer


class ClipFloor(TimeLayer):
    """An activation with L levels above 0, for training an ANN that becomes a spiking network with few errors.

    Quantization-clip-floor: ``a = λ/L·clip(⌊x·L/λ + ½⌋, 0, L)``, λ learned, floor straight-through.

    With L = 2^(m+n) − 1 a multi-bit neuron has the same levels: `bitspike.ann2snn` then loses nothing at T = 1.
    Gradients: da/dx = [0 <= x <= λ]; da/dλ = (a − x·[0 <= x <= λ])/λ, which is 1 above the ceiling.

    Source: QCFS (Bu et al., ICLR 2022), shift ½. λ = |raw_ceiling| is ours.

    Args:
        levels: L, 1 to 65535. ceiling: λ at the start, > 0.

    >>> ClipFloor(2, 2.0)(torch.tensor([-1.0, 0.4, 0.5, 1.49, 9.0])).tolist()
    [0.0, 0.0, 1.0, 1.0, 2.0]
    """

    def __init__(self, levels: int = 15, ceiling: float = 8.0) -> None:
        super().__init__()
        self.levels: int = integer("ClipFloor", "levels", levels, 1, 2**16 - 1)
        positive("ClipFloor", "ceiling", ceiling)
        self.raw_ceiling: nn.Parameter = nn.Parameter(torch.tensor(float(ceiling)))

    def ceiling(self) -> Tensor:
        """λ [], differentiable."""
        return self.raw_ceiling.abs()

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same shape."""
        floating("ClipFloor", x)
        ceiling = self.ceiling().to(x.dtype)
        step = ceiling / self.levels
        inside = (x / step).clamp(0, self.levels)
        return round_ste(inside) * step

    def extra_repr(self) -> str:
        return f"levels={self.levels}"
