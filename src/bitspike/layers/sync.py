"""Batch statistics over all processes, for data-parallel training."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_reduce


def synced() -> bool:
    """Whether more than one process trains together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sync_batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    momentum: float,
    eps: float,
) -> Tensor:
    """Training-mode batch norm of x [N, C, ...] with the statistics of the batches of all processes.

    Two sums and a count are reduced (differentiably), so any backend will do, gloo on a CPU included; torch's own
    `SyncBatchNorm` refuses CPU tensors. Variance is taken around the common mean, in a second reduction, to be as
    exact as one process on the joint batch.

    Args:
        x: this process's share; shares may differ in N.
        running_mean, running_var: [C], updated in place like torch's (unbiased variance).
        weight, bias: [C]. momentum, eps: as in torch.
    """
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [1, -1, *[1] * (x.dim() - 2)]
    count = torch.full((1,), float(x.numel() // x.shape[1]), dtype=x.dtype, device=x.device)
    sums = all_reduce(torch.cat([x.sum(axes), count]))
    total = sums[-1].detach()
    mean = sums[:-1] / total
    centred = x - mean.reshape(shape)
    variance = all_reduce(centred.square().sum(axes)) / total
    with torch.no_grad():
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        unbiased = variance * (total / (total - 1).clamp(min=1))
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    return centred * (weight / (variance + eps).sqrt()).reshape(shape) + bias.reshape(shape)
