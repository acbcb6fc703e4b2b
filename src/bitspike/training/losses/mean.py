"""Cross-entropy of the mean output."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from bitspike.training.losses.base import LOSSES


@LOSSES.register("mean")
def mean_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits [B, K], or of [T, B, K] averaged over time (rate-mean loss)."""
    mean = logits.mean(0) if logits.dim() == 3 else logits
    return F.cross_entropy(mean, labels, label_smoothing=label_smoothing)
