"""What the windows of torch's average pools hold, and what each sum is divided by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FIXED = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_ADAPTIVE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


def axes_of(pool: nn.Module) -> int:
    """How many axes one of torch's average pools works on; 0 of any other module.

    >>> axes_of(nn.AvgPool1d(2)), axes_of(nn.AdaptiveAvgPool3d(1)), axes_of(nn.MaxPool2d(2))
    (1, 3, 0)
    """
    kinds = next((kinds for kinds in (_FIXED, _ADAPTIVE) if type(pool) in kinds), ())
    return kinds.index(type(pool)) + 1 if kinds else 0


def windows(pool: Any, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(values in every window, what their sum is divided by) over axes of these sizes.

    Both int64, of the shape of one channel of the output. Zeros that torch counts as values are values here.

    >>> [t.tolist() for t in windows(nn.AdaptiveAvgPool1d(3), [8])], [
    ...     t.tolist() for t in windows(nn.AvgPool1d(3, 2, 1), [4])
    ... ]
    ([[3, 4, 3], [3, 4, 3]], [[3, 3], [3, 3]])
    """
    if type(pool) in _ADAPTIVE:
        wanted = _each(pool.output_size, len(sizes))
        held = torch.ones((), dtype=torch.int64, device="cpu")
        for n, w in zip(sizes, (n if w is None else int(w) for n, w in zip(sizes, wanted, strict=True)), strict=True):
            lengths = [math.ceil((i + 1) * n / w) - math.floor(i * n / w) for i in range(w)]
            held = held.unsqueeze(-1) * torch.tensor(lengths, device="cpu")
        return held, held
    ones = torch.ones(1, 1, *sizes, dtype=torch.float64, device="cpu")
    mean: Tensor = pool(ones)[0, 0]
    kernel, stride, padding = (_each(given, len(sizes)) for given in (pool.kernel_size, pool.stride, pool.padding))
    if len(sizes) == 1:  # torch's sum in one dimension is that of a row
        ones, kernel, stride, padding = ones.unsqueeze(2), (1, *kernel), (1, *stride), (0, *padding)
    add: Any = F.avg_pool3d if len(sizes) == 3 else F.avg_pool2d
    place = ones, kernel, stride, padding, pool.ceil_mode
    sums_of_ones, shares = add(*place, True, 1), add(*place, pool.count_include_pad)
    held, divisors = sums_of_ones / shares, sums_of_ones.reshape(mean.shape) / mean
    return held.reshape(mean.shape).round().long(), divisors.round().long()


def sums(pool: nn.Module, sizes: Sequence[int]) -> tuple[int, int]:
    """(n, d) where every output is a sum of at most n values over d, counting a value more than once.

    Windows that differ have the least common multiple of their divisors as d.

    >>> sums(nn.AvgPool2d((2, 1)), [4, 4]), sums(nn.AdaptiveAvgPool1d(3), [8])
    ((2, 2), (12, 12))
    """
    held, divisors = windows(pool, sizes)
    whole = math.lcm(*divisors.flatten().tolist())
    return int((held * (whole // divisors)).max()), whole


def _each(value: Any, axes: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
