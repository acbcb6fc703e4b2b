"""Temporal efficient training: the loss of every step."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from bitspike.checks import bad_value
from bitspike.layers import step_mask
from bitspike.training.losses.base import LOSSES, cross_entropy


@LOSSES.register("tet")
def tet_loss(
    logits: Tensor,
    labels: Tensor,
    weight: float = 1e-3,
    target: float = 1.0,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    lengths: Tensor | None = None,
) -> Tensor:
    """``(1 − λ)·mean_t CE(logit_t, y) + λ·MSE(logit, φ)``.

    Source: TET (arXiv 2202.11946): λ = 1e-3, φ = 1.

    Args:
        logits: [T, B, K] (a "steps" read-out). labels: [B], or shares of classes [B, K]. weight: λ. target: φ.
        class_weights: [K], of the first term. lengths: [B], of sequences of fewer than T steps: both means are over a
            sample's own steps, then over the batch. None: all have T.

    Raises:
        ValueError: logits without a time axis.
    """
    if logits.dim() != 3:
        raise bad_value("tet_loss", "logits must be [T, B, K]", list(logits.shape), 'choose readout = "steps"')
    steps = len(logits)
    if lengths is not None:
        return _unequal(logits, labels, weight, target, label_smoothing, class_weights, lengths)
    repeated = labels.expand(steps, *labels.shape).flatten(0, 1)
    per_step = cross_entropy(logits.flatten(0, 1), repeated, label_smoothing, class_weights)
    return (1 - weight) * per_step + weight * (logits - target).square().mean()


def _unequal(
    logits: Tensor,
    labels: Tensor,
    weight: float,
    target: float,
    label_smoothing: float,
    class_weights: Tensor | None,
    lengths: Tensor,
) -> Tensor:
    """The mean over the batch of what the samples give alone."""
    own = step_mask(lengths, len(logits))  # [T, B]
    share = 1 / (lengths * len(lengths)).to(logits.dtype).expand_as(own)[own]
    valid, marks = logits[own], labels.expand_as(own)[own]  # the rows of steps that are, [M, K] and [M]
    given = None if class_weights is None else class_weights.to(logits)
    each = F.cross_entropy(valid, marks, given, reduction="none", label_smoothing=label_smoothing)
    return (share * ((1 - weight) * each + weight * (valid - target).square().mean(1))).sum()
