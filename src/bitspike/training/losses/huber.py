"""Huber's loss, for regression with outliers."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from bitspike.checks import bad_value
from bitspike.layers import mean_over_steps
from bitspike.training.losses.base import REGRESSION_LOSSES


@REGRESSION_LOSSES.register("huber")
def huber_loss(outputs: Tensor, targets: Tensor, delta: float = 1.0, lengths: Tensor | None = None) -> Tensor:
    """``d²/2`` where ``d = |y − target| <= δ``, else ``δ·(d − δ/2)``; mean over batch and values.

    Source: P. Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964.

    Args:
        outputs: [B, K], or [T, B, K], which is averaged over time. targets: [B, K]. delta: δ > 0.
        lengths: [B], of sequences of fewer than T steps; None: all have T.
    """
    if not 0 < delta < math.inf:
        raise bad_value("huber", "delta must be a number > 0", delta, "set train.loss_options.delta")
    return F.huber_loss(mean_over_steps(outputs, lengths), targets, delta=delta)
