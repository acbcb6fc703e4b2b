"""A step size for another width: the least quantization error on given values."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from bitspike.functional.learned import processes
from bitspike.functional.quantize import round_half, sign_pm1
from bitspike.functional.steps import LEAST_STEP

_POWER = 2.4


def quantized(x: Tensor, step: Tensor, low: int, high: int, stride: int = 1) -> Tensor:
    """x on the grid ``step·{low .. high}``; stride 2: ±step.

    >>> quantized(torch.tensor([-0.6, 0.25, 9.0]), torch.tensor(0.5), 0, 3).tolist()
    [0.0, 0.5, 1.5]
    """
    return (sign_pm1(x) if stride == 2 else round_half((x / step).clamp(low, high))) * step


def error(x: Tensor, step: Tensor, low: int, high: int, stride: int = 1) -> Tensor:
    """``Σ |q(x) − x|^2.4`` down the columns of x [N, C] for the steps [C], float64 [C]."""
    away = (quantized(x, step, low, high, stride) - x).abs().pow(_POWER)
    return away.sum(0, dtype=torch.float64)


def best_step(
    x: Tensor, step: Tensor, low: int, high: int, stride: int = 1, grid: int = 100, shared: bool = False
) -> Tensor:
    """Step size with the least `error` per column among a grid and the present one, which wins a draw.

    The clip range of candidate i of G is ``R·i/G``, R = max x − min x, so its step is that over ``high``.

    Source: adaptive bit allocation (arXiv 2506.23717), code: renewal of spikes and linear weights, power 2.4.
    Differs: used for convolutions too; one step per column; the present step is a candidate.

    Args:
        x: values [N, C]. step: present step [C]. low, high, stride: levels of the grid. grid: G.
        shared: whether x is this process's share of the values; ranges and errors are then those of all processes.

    Returns:
        [C], at least 1e-5.
    """
    reduced = total if shared else (lambda values, operation=None: values)
    reach = reduced(torch.stack([x.amax(0), -x.amin(0)]), dist.ReduceOp.MAX).sum(0)
    shares = torch.arange(1, grid + 1, dtype=x.dtype, device=x.device).reshape(-1, 1) / grid
    candidates = torch.cat([step.reshape(1, -1), (shares * reach / high).clamp(min=LEAST_STEP)])
    errors = reduced(torch.stack([error(x, candidate, low, high, stride) for candidate in candidates]))
    least, place = errors[1:].min(0)
    found = candidates[1:].gather(0, place.reshape(1, -1))[0]
    return torch.where(least < errors[0], found, step)


def kept_range(step: Tensor, before: int, after: int) -> Tensor:
    """Closed form: the step that keeps the clip range, ``step·before/after`` for greatest levels before and after."""
    return (step * (before / after)).clamp(min=LEAST_STEP)


def start_step(x: Tensor, high: int) -> Tensor:
    """Initial step ``2·mean|x|/√high`` per column of x [N, C], over all processes; 0 where x is 0.

    Source: LSQ; adaptive bit allocation, code.
    """
    sums = torch.cat([x.abs().sum(0, dtype=torch.float64), torch.tensor([float(len(x))], device=x.device)])
    sums = total(sums)
    mean: Tensor = sums[:-1] / sums[-1]
    return (2 * mean / math.sqrt(high)).to(x.dtype)


def total(values: Tensor, operation: Callable[..., object] | object = dist.ReduceOp.SUM) -> Tensor:
    """Reduced over the processes that train together; the values themselves for one process."""
    if processes() > 1:
        values = values.clone()
        dist.all_reduce(values, op=operation)
    return values


def columns(x: Tensor, axis: int | None) -> Tensor:
    """x as [N, C] with C the size of an axis, or [N, 1] where there is none."""
    return x.reshape(-1, 1) if axis is None else x.movedim(axis, -1).reshape(-1, x.shape[axis])
