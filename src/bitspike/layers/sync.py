"""Batch statistics over all processes, for data-parallel training."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.modules._functions import SyncBatchNorm


def synced() -> bool:
    """Whether more than one process trains together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _Total(torch.autograd.Function):
    """Sum of a vector over all processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def _total(x: Tensor) -> Tensor:
    return _Total.apply(x)  # type: ignore[no-any-return, no-untyped-call]


def sync_batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    momentum: float,
    eps: float,
    copies: int = 1,
) -> Tensor:
    """Training-mode batch norm of x [N, C, ...] with the statistics of the batches of all processes.

    On CUDA torch's own (the function behind `torch.nn.SyncBatchNorm`; we have not run it, for want of a GPU). It
    refuses CPU tensors, so on every other device two sums and a count are reduced, which any backend can.

    Args:
        x: this process's share; shares may differ in N.
        running_mean, running_var: [C], updated in place like torch's (unbiased variance).
        weight, bias: [C]. momentum, eps: as in torch.
        copies: how often this share counts: equal time steps that are given once; 1 on CUDA.

    Returns:
        [N, C, ...] in the dtype of x; under autocast sums are taken in float32.
    """
    if x.device.type == "cuda":
        group = dist.group.WORLD
        return SyncBatchNorm.apply(  # type: ignore[no-any-return]
            x, weight, bias, running_mean, running_var, eps, momentum, group, dist.get_world_size()
        )
    wide = x.to(torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32))
    return reduced_batch_norm(wide, running_mean, running_var, weight, bias, momentum, eps, copies).to(x.dtype)


def reduced_batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    momentum: float,
    eps: float,
    copies: int = 1,
) -> Tensor:
    """`sync_batch_norm` in reductions that autograd sees through.

    Variance is taken around the common mean, in a second reduction, to be as exact as one process on the joint batch.
    """
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [1, -1, *[1] * (x.dim() - 2)]
    count = torch.full((1,), float(x.numel() // x.shape[1] * copies), dtype=x.dtype, device=x.device)
    sums = _total(torch.cat([x.sum(axes) * copies, count]))
    total = sums[-1].detach()
    mean = sums[:-1] / total
    centred = x - mean.reshape(shape)
    variance = _total(centred.square().sum(axes) * copies) / total
    with torch.no_grad():
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        unbiased = variance * (total / (total - 1).clamp(min=1))
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    return centred * (weight / (variance + eps).sqrt()).reshape(shape) + bias.reshape(shape)
