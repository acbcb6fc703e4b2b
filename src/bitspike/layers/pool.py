"""Pooling and flattening over [T, B, C, H, W]."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitspike.checks import bad_value, integer, time_first
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


class TallyMaxPool2d(TimeLayer):
    """Max pooling of what was sent so far: ``y_t = max Σ_{τ<=t} x_τ − max Σ_{τ<t} x_τ``, maxima over the window.

    The sum of the outputs is the maximum of the sums, so a mean over time is pooled as the ANN pools its activations;
    the maximum of every step would be too large where spikes of a window alternate. One output lies between the least
    and the greatest spike of its window at that step, so the format is kept; at T = 1 it is plain max pooling.

    Source: ours; for binary spikes it lets through the input that has fired most (Rueckauer et al., 2017: gating).

    Args:
        kernel: side length; stride: default the kernel.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]).reshape(3, 1, 1, 1, 2).expand(3, 1, 1, 2, 2)
    >>> TallyMaxPool2d(2)(x).flatten().tolist()
    [1.0, 0.0, 1.0]
    """

    scaling = "positive"
    keeps_format = True
    stateful = True

    def __init__(self, kernel: int, stride: int | None = None) -> None:
        super().__init__()
        integer("TallyMaxPool2d", "kernel", kernel, 1, 1024)
        self.kernel, self.stride = kernel, stride or kernel

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, C, H, W] → [T, B, C, H', W']."""
        return self.stream_step(x, None)[0]

    def stream_step(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One chunk; the state is (sums of the inputs [B, C, H, W], sums of the outputs [B, C, H', W'])."""
        merge_time("TallyMaxPool2d", x, 5)
        sums, sent = (torch.zeros_like(x[0]), None) if state is None else state
        outputs = []
        for step in x.unbind(0):
            sums = sums + step
            top = F.max_pool2d(sums, self.kernel, self.stride)
            outputs.append(top if sent is None else top - sent)
            sent = top
        return torch.stack(outputs), (sums, outputs[0] if sent is None else sent)

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, stride={self.stride}"


class TallyPool(TimeLayer):
    """`TallyMaxPool2d` for any of torch's max poolings: padded, dilated, rectangular, adaptive, in 1 to 3 dimensions.

    ``y_t = pool(Σ_{τ<=t} x_τ) − pool(Σ_{τ<t} x_τ)``. Padding never wins a maximum.

    Args:
        pool: e.g. ``nn.MaxPool2d(3, 2, padding=1)``, without indices.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).reshape(2, 1, 1, 2)
    >>> TallyPool(nn.MaxPool1d(3, 1, 1))(x).flatten().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

    scaling = "positive"
    keeps_format = True
    stateful = True

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        if getattr(pool, "return_indices", False):
            raise bad_value("TallyPool", "the pool must return values only", "return_indices=True", "leave it out")
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, C, ...] → [T, B, C, ...]."""
        return self.stream_step(x, None)[0]

    def stream_step(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One chunk; the state is (sums of the inputs, sums of the outputs)."""
        time_first("TallyPool", x, 3)
        sums, sent = (torch.zeros_like(x[0]), None) if state is None else state
        outputs = []
        for step in x.unbind(0):
            sums = sums + step
            top = self.pool(sums)
            outputs.append(top if sent is None else top - sent)
            sent = top
        return torch.stack(outputs), (sums, outputs[0] if sent is None else sent)


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
