"""Batch norm as torch computes it, but for one defect, and on one of several equal copies."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """``F.batch_norm`` of x [N, C, ...] whose gradient is right for N = 1, too.

    On the CPU its backward pass reads a gradient [1, C, ...] in the wrong order where the stride of the first axis,
    which has no meaning, looks like that of another order (seen with torch 2.13).
    """
    y = F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    if training and len(x) == 1 and y.requires_grad and not torch.compiler.is_compiling():
        y.register_hook(lambda gradient: gradient.contiguous())
    return y


def batch_norm_of_copies(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor,
    bias: Tensor,
    momentum: float,
    eps: float,
    copies: int,
    updates: int = 1,
) -> Tensor:
    """What training-mode `batch_norm` of so many copies of x [N, C, ...] gives for each, and does to the statistics.

    Mean and variance of the copies are those of x; the unbiased variance counts all of their n values per channel,

        running_var ← (1 - m)·running_var + m·variance·n·copies/(n·copies - 1).

    Args:
        copies: >= 1, whose statistics are joint. updates: how often the running statistics move, >= 1: T where every
            step is a batch of its own (then copies is 1). The rest as in `batch_norm`; n must be > 1, as for torch.
    """
    mean, var = torch.zeros_like(running_mean), torch.ones_like(running_var)
    y = batch_norm(x, mean, var, weight, bias, True, 1.0, eps)
    count = x.numel() // x.shape[1]
    with torch.no_grad():
        unbiased = var * ((count - 1) / count * (count * copies) / (count * copies - 1))
        for _ in range(updates):
            running_mean.mul_(1 - momentum).add_(mean, alpha=momentum)
            running_var.mul_(1 - momentum).add_(unbiased, alpha=momentum)
    return y
