"""Batch norm as torch computes it, but for one defect."""

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
