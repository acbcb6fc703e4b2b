"""Pooling and flattening over [T, B, C, H, W]."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitspike.checks import bad_value, integer, one_of, time_first
from bitspike.formats import SpikeFormat
from bitspike.functional import once
from bitspike.layers.base import TimeLayer, in_full, merge_time, split_time


def _window(where: str, kernel: int, stride: int | None, padding: int = 0) -> tuple[int, int, int]:
    """(kernel, stride, padding), checked; the stride is the kernel unless given."""
    integer(where, "kernel", kernel, 1, 1024)
    integer(where, "padding", padding, 0, kernel // 2)
    return kernel, kernel if stride is None else integer(where, "stride", stride, 1, 1024), padding


class AvgPool2d(TimeLayer):
    """Average pooling; a spike factor passes through it.

    In a folded network it sums integer spikes, and 1/divisor is in the weights behind it. Where windows stick out the
    sum of a window of n values counts divisor/n times, a whole number.

    Args:
        kernel: side length; stride: default the kernel; padding: zeros, counted in the average.
        ceil: round sides up: a window that sticks out at the far edge averages what is there. With kernel = stride,
            H' = ⌈H/stride⌉, as behind a padded convolution with that stride.

    >>> AvgPool2d(2, ceil=True)(torch.tensor([0.0, 1.0, 5.0]).reshape(1, 1, 1, 1, 3)).flatten().tolist()
    [0.5, 5.0]
    """

    scaling = "linear"
    divisor: int = 0  # of the sums that a folded network sends; 0: it sends means

    def __init__(self, kernel: int, stride: int | None = None, padding: int = 0, ceil: bool = False) -> None:
        super().__init__()
        kernel, stride, padding = _window("AvgPool2d", kernel, stride, padding)
        self.kernel: int = kernel
        self.stride: int = stride
        self.padding: int = padding
        self.ceil: bool = bool(one_of("AvgPool2d", "ceil", ceil, (False, True)))

    def sizes(self, height: int, width: int) -> Tensor:
        """Values in every window, padding included, int64 [H', W'] (or [1, 1] where all windows are whole)."""
        if not self.ceil:
            return torch.tensor([[self.kernel**2]])
        rows, columns = (torch.tensor(self._lengths(side)) for side in (height, width))
        return rows[:, None] * columns

    def _lengths(self, side: int) -> list[int]:
        end = side + self.padding
        starts = range(-self.padding, min(end - self.kernel + self.stride, side), self.stride)
        return [min(self.kernel, end - start) for start in starts]

    def window(self, shape: tuple[int, ...] | None) -> int:
        """The least number that makes every mean over [T, B, C, H, W] of this shape a sum; 0 where it must be known."""
        if self.divisor or not self.ceil:
            return self.divisor or self.kernel**2
        return 0 if shape is None else math.lcm(*self.sizes(*shape[3:]).flatten().tolist())

    def pooled(self, shape: tuple[int, ...] | None) -> tuple[int, int]:
        """(`window`, `window`) of means, (`window`, 1) of sums."""
        count = self.window(shape)
        return count, 1 if self.divisor else count

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, C, H, W] → [T, B, C, H', W']."""
        return once(self._pool, x)

    def _pool(self, x: Tensor) -> Tensor:
        merged = merge_time("AvgPool2d", x, 5)
        where = (self.kernel, self.stride, self.padding, self.ceil)
        if not self.divisor:
            return split_time(F.avg_pool2d(merged, *where), x)
        sums = F.avg_pool2d(merged, *where, divisor_override=1)
        return split_time(sums * _counts("AvgPool2d", self.divisor, self.sizes(*x.shape[3:])).to(x), x)

    def extra_repr(self) -> str:
        divisor = f", summed for 1/{self.divisor}" if self.divisor else ""
        return f"kernel={self.kernel}, stride={self.stride}, padding={self.padding}, ceil={self.ceil}{divisor}"


def _counts(where: str, divisor: int, sizes: Tensor) -> Tensor:
    """How often the sum of a window of so many values counts, so that it is divisor times their mean."""
    if (divisor % sizes).any():
        must = f"a folded pool of sums for 1/{divisor} takes windows whose sizes divide {divisor}"
        raise bad_value(where, must, sorted(set(sizes.flatten().tolist())), "fold again, on inputs of this size")
    return divisor // sizes


class SumPool2d(TimeLayer):
    """Sum pooling, ``y = Σ x`` over the window; a spike factor passes through it, and sums of levels are levels.

    Args:
        kernel: side length; stride: default the kernel; padding: zeros.

    >>> SumPool2d(2)(torch.ones(1, 1, 1, 2, 2)).flatten().tolist()
    [4.0]
    """

    scaling = "linear"

    def __init__(self, kernel: int, stride: int | None = None, padding: int = 0) -> None:
        super().__init__()
        kernel, stride, padding = _window("SumPool2d", kernel, stride, padding)
        self.kernel: int = kernel
        self.stride: int = stride
        self.padding: int = padding

    def format_of(self, spikes: SpikeFormat | None) -> SpikeFormat | None:
        """Alphabet of the output for spikes of an alphabet: that of a sum over the window."""
        return None if spikes is None else spikes.summed(self.kernel**2)

    def pooled(self, shape: tuple[int, ...] | None) -> tuple[int, int]:
        """Sums of k² values."""
        return self.kernel**2, 1

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, C, H, W] → [T, B, C, H', W']."""
        return once(self._pool, x)

    def _pool(self, x: Tensor) -> Tensor:
        merged = merge_time("SumPool2d", x, 5)
        return split_time(F.avg_pool2d(merged, self.kernel, self.stride, self.padding, divisor_override=1), x)

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, stride={self.stride}, padding={self.padding}"


class MaxPool2d(TimeLayer):
    """Max pooling; a positive spike factor passes through it, a negative one is refused when folding.

    Args:
        kernel: side length; stride: default the kernel.
    """

    scaling = "positive"
    keeps_format = True

    def __init__(self, kernel: int, stride: int | None = None) -> None:
        super().__init__()
        kernel, stride, _ = _window("MaxPool2d", kernel, stride)
        self.kernel: int = kernel
        self.stride: int = stride

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, C, H, W] → [T, B, C, H', W']."""
        return once(self._pool, x)

    def _pool(self, x: Tensor) -> Tensor:
        return split_time(F.max_pool2d(merge_time("MaxPool2d", x, 5), self.kernel, self.stride), x)


class TallyMaxPool2d(TimeLayer):
    """Max pooling for converted networks: it compares what neurons sent so far, not single spikes.

    Max pooling of what was sent so far: ``y_t = max Σ_{τ<=t} x_τ − max Σ_{τ<t} x_τ``, maxima over the window.

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
        kernel, stride, _ = _window("TallyMaxPool2d", kernel, stride)
        self.kernel: int = kernel
        self.stride: int = stride

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, C, H, W] → [T, B, C, H', W']."""
        return self.stream_step(x, None)[0]

    def stream_step(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One chunk; the state is (sums of the inputs [B, C, H, W], sums of the outputs [B, C, H', W']),
        in float32 where x has half precision."""
        merge_time("TallyMaxPool2d", x, 5)
        sums, sent = (torch.zeros_like(in_full(x[0])), None) if state is None else state
        outputs = []
        for step in x.unbind(0):
            sums = sums + step
            top = F.max_pool2d(sums, self.kernel, self.stride)
            outputs.append(top if sent is None else top - sent)
            sent = top
        return torch.stack(outputs).to(x.dtype), (sums, outputs[0] if sent is None else sent)

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
        """One chunk; the state is (sums of the inputs, sums of the outputs), in float32 where x has half precision."""
        time_first("TallyPool", x, 3)
        sums, sent = (torch.zeros_like(in_full(x[0])), None) if state is None else state
        outputs = []
        for step in x.unbind(0):
            sums = sums + step
            top = self.pool(sums)
            outputs.append(top if sent is None else top - sent)
            sent = top
        return torch.stack(outputs).to(x.dtype), (sums, outputs[0] if sent is None else sent)


class GlobalAvgPool(TimeLayer):
    """Mean over space, [T, B, C, H, W] → [T, B, C]; in a folded network the sum of integer spikes, as `AvgPool2d`."""

    scaling = "linear"
    divisor: int = 0  # of the sums that a folded network sends; 0: it sends means

    def window(self, shape: tuple[int, ...] | None) -> int:
        """Values of a mean over [T, B, C, H, W] of this shape; 0 where it must be known."""
        return self.divisor or (0 if shape is None else shape[3] * shape[4])

    def pooled(self, shape: tuple[int, ...] | None) -> tuple[int, int]:
        """(`window`, `window`) of means, (`window`, 1) of sums."""
        count = self.window(shape)
        return count, 1 if self.divisor else count

    def forward(self, x: Tensor) -> Tensor:
        """Mean over the last two axes."""
        return once(self._average, x)

    def _average(self, x: Tensor) -> Tensor:
        merge_time("GlobalAvgPool", x, 5)
        if not self.divisor:
            return x.mean((3, 4))
        count = _counts("GlobalAvgPool", self.divisor, torch.tensor(x.shape[3] * x.shape[4]))
        return x.sum((3, 4)) * count.to(x)

    def extra_repr(self) -> str:
        return f"summed for 1/{self.divisor}" if self.divisor else ""


class Flatten(TimeLayer):
    """Turns all axes behind the batch into one, in front of a linear layer.

    [T, B, C, H, W] (or any [T, B, ...]) → [T, B, features], channel-major.
    """

    scaling = "linear"
    keeps_format = True

    def forward(self, x: Tensor) -> Tensor:
        """Flatten all axes after the batch."""
        time_first("Flatten", x, 3)
        return once(lambda step: step.flatten(2), x)

    def carry(self, factor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A per-channel factor becomes one per feature."""
        return factor.repeat_interleave(math.prod(shape[3:])) if factor.dim() else factor
