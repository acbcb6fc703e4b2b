"""Cross-entropy of the mean output."""

from __future__ import annotations

from torch import Tensor

from bitspike.training.losses.base import LOSSES, cross_entropy


@LOSSES.register("mean")
def mean_loss(
    logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of logits [B, K], or of [T, B, K] averaged over time (rate-mean loss); see `cross_entropy`."""
    mean = logits.mean(0) if logits.dim() == 3 else logits
    return cross_entropy(mean, labels, label_smoothing, class_weights)
