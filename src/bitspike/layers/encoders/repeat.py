"""Direct coding: the sample at every step."""

from __future__ import annotations

from torch import Tensor

from bitspike.checks import integer
from bitspike.layers.encoders.base import ENCODERS, Encoder


@ENCODERS.register("repeat")
class Repeat(Encoder):
    """Direct coding: every step sees the sample itself (a view; nothing is copied).

    Source: Ternary Spike's code.

    Args:
        T: time steps, >= 1.

    >>> import torch; Repeat(3)(torch.zeros(2, 1, 4, 4)).shape
    torch.Size([3, 2, 1, 4, 4])
    """

    repeats = True

    def __init__(self, T: int) -> None:
        super().__init__()
        self.T = integer("Repeat", "T", T, 1, 10_000)

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] → [T, B, ...]."""
        self._check(x)
        return x.unsqueeze(0).expand(self.T, *[-1] * x.dim())

    def extra_repr(self) -> str:
        return f"T={self.T}"
