"""Pooling and flattening over [T, B, C, H, W]."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from bitspike.checks import integer, time_first
from bitspike.layers.base import TimeLayer, merge_time, split_time


class AvgPool2d(TimeLayer):
    """Average pooling; a spike factor passes through it.

    Args:
        kernel: side length; stride: default the kernel; padding: zeros, counted in the average.
    """

    scaling = "linear"

    def __init__(self, kernel: int, stride: int | None = None, padding: int = 0) -> None:
        super().__init__()
        integer("AvgPool2d", "kernel", kernel, 1, 1024)
        self.kernel, self.stride, self.padding = kernel, stride or kernel, padding

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, C, H, W] → [T, B, C, H', W']."""
        return split_time(F.avg_pool2d(merge_time("AvgPool2d", x, 5), self.kernel, self.stride, self.padding), x)


class MaxPool2d(TimeLayer):
    """Max pooling; a positive spike factor passes through it, a negative one is refused when folding.

    Args:
        kernel: side length; stride: default the kernel.
    """

    scaling = "positive"
    keeps_format = True

    def __init__(self, kernel: int, stride: int | None = None) -> None:
        super().__init__()
        integer("MaxPool2d", "kernel", kernel, 1, 1024)
        self.kernel, self.stride = kernel, stride or kernel

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, C, H, W] → [T, B, C, H', W']."""
        return split_time(F.max_pool2d(merge_time("MaxPool2d", x, 5), self.kernel, self.stride), x)


class GlobalAvgPool(TimeLayer):
    """Mean over space, [T, B, C, H, W] → [T, B, C]."""

    scaling = "linear"

    def forward(self, x: Tensor) -> Tensor:
        """Mean over the last two axes."""
        merge_time("GlobalAvgPool", x, 5)
        return x.mean((3, 4))


class Flatten(TimeLayer):
    """[T, B, C, H, W] (or any [T, B, ...]) → [T, B, features], channel-major."""

    scaling = "linear"
    keeps_format = True

    def forward(self, x: Tensor) -> Tensor:
        """Flatten all axes after the batch."""
        time_first("Flatten", x, 3)
        return x.flatten(2)

    def carry(self, factor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A per-channel factor becomes one per feature."""
        return factor.repeat_interleave(math.prod(shape[3:])) if factor.dim() else factor
