"""Mean absolute error, for regression."""

from __future__ import annotations

from torch import Tensor

from bitspike.layers import mean_over_steps
from bitspike.training.losses.base import REGRESSION_LOSSES


@REGRESSION_LOSSES.register("l1")
def l1_loss(outputs: Tensor, targets: Tensor, lengths: Tensor | None = None) -> Tensor:
    """``mean |y − target|`` over batch and values, of outputs [B, K], or of [T, B, K] averaged over time.

    >>> import torch
    >>> l1_loss(torch.tensor([[[1.0]], [[3.0]]]), torch.tensor([[4.0]])).item()
    2.0
    """
    return (mean_over_steps(outputs, lengths) - targets).abs().mean()
