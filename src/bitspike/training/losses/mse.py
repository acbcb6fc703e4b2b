"""Mean squared error, for regression."""

from __future__ import annotations

from torch import Tensor

from bitspike.training.losses.base import REGRESSION_LOSSES


@REGRESSION_LOSSES.register("mse")
def mse_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """``mean (y − target)²`` over batch and values, of outputs [B, K], or of [T, B, K] averaged over time."""
    mean = outputs.mean(0) if outputs.dim() == 3 else outputs
    return (mean - targets).square().mean()
