"""Temporal efficient training: the loss of every step."""

from __future__ import annotations

from torch import Tensor

from bitspike.checks import bad_value
from bitspike.training.losses.base import LOSSES, cross_entropy


@LOSSES.register("tet")
def tet_loss(
    logits: Tensor,
    labels: Tensor,
    weight: float = 1e-3,
    target: float = 1.0,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """``(1 − λ)·mean_t CE(logit_t, y) + λ·MSE(logit, φ)``.

    Source: TET (arXiv 2202.11946): λ = 1e-3, φ = 1.

    Args:
        logits: [T, B, K] (a "steps" read-out). labels: [B]. weight: λ. target: φ.
        class_weights: [K], of the first term.

    Raises:
        ValueError: logits without a time axis.
    """
    if logits.dim() != 3:
        raise bad_value("tet_loss", "logits must be [T, B, K]", list(logits.shape), 'choose readout = "steps"')
    steps, batch, _ = logits.shape
    repeated = labels.expand(steps, batch).reshape(-1)
    per_step = cross_entropy(logits.flatten(0, 1), repeated, label_smoothing, class_weights)
    return (1 - weight) * per_step + weight * (logits - target).square().mean()
