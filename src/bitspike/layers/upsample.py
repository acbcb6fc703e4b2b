"""Enlarging images: every value becomes a block of the same value."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from bitspike.checks import pair
from bitspike.functional import once
from bitspike.layers.base import TimeLayer, merge_time, split_time


class Upsample(TimeLayer):
    """Nearest neighbours: [T, B, C, H, W] → [T, B, C, f·H, g·W]; spikes stay spikes, it costs nothing.

    Args:
        factor: f = g, or (f, g); whole numbers of at least 1.

    Raises:
        ValueError: a factor out of range, or an input of another number of axes.

    >>> import torch
    >>> Upsample(2)(torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 1, 2))[0, 0, 0].tolist()
    [[1.0, 1.0, 3.0, 3.0], [1.0, 1.0, 3.0, 3.0]]
    """

    scaling = "linear"
    keeps_format = True

    def __init__(self, factor: int | tuple[int, int] = 2) -> None:
        super().__init__()
        self.factor: tuple[int, int] = pair("Upsample", "factor", factor, 1, 64)

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, C, H, W] → the same values, each f·g times."""
        return once(self._enlarge, x)

    def _enlarge(self, x: Tensor) -> Tensor:
        height, width = self.factor
        merged = merge_time("Upsample", x, 5)
        size = (merged.shape[2] * height, merged.shape[3] * width)
        return split_time(F.interpolate(merged, size, mode="nearest"), x)

    def extra_repr(self) -> str:
        height, width = self.factor
        return f"factor={height if height == width else self.factor}"
