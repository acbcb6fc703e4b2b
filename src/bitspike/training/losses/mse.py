"""Mean squared error, for regression."""

from __future__ import annotations

from torch import Tensor

from bitspike.layers import mean_over_steps
from bitspike.training.losses.base import REGRESSION_LOSSES


@REGRESSION_LOSSES.register("mse")
def mse_loss(outputs: Tensor, targets: Tensor, lengths: Tensor | None = None) -> Tensor:
    """``mean (y − target)²`` over batch and values, of outputs [B, K], or of [T, B, K] averaged over time."""
    return (mean_over_steps(outputs, lengths) - targets).square().mean()
