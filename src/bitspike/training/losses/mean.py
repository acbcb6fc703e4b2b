"""Cross-entropy of the mean output."""

from __future__ import annotations

from torch import Tensor

from bitspike.layers import mean_over_steps
from bitspike.training.losses.base import LOSSES, cross_entropy


@LOSSES.register("mean")
def mean_loss(
    logits: Tensor,
    labels: Tensor,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    lengths: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of logits [B, K], or of [T, B, K] averaged over time (rate-mean loss); see `cross_entropy`."""
    return cross_entropy(mean_over_steps(logits, lengths), labels, label_smoothing, class_weights)
