"""The tables of losses: on the logits of classes, on numbers to be met, and on sets of labels."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from bitspike.registry import Registry

LOSSES: Registry[Callable[..., Tensor]] = Registry("loss")
"""Name → ``loss(logits, labels, label_smoothing, **options)``.

logits are [B, K] or, from a "steps" read-out, [T, B, K]; labels int64 [B]. The result is a differentiable mean [] over
the batch. Options are keywords with defaults; a recipe gives them in ``train.loss_options``. A loss that has a keyword
``class_weights`` ([K] or None) gets those of the recipe; one that has ``lengths`` ([B] or None) the steps of sequences
that end at different ones, where logits are [T, B, K].
"""

REGRESSION_LOSSES: Registry[Callable[..., Tensor]] = Registry("regression loss")
"""Name → ``loss(outputs, targets, **options)``: outputs [B, K] or [T, B, K], targets float [B, K]; as `LOSSES`."""

LABEL_LOSSES: Registry[Callable[..., Tensor]] = Registry("label loss")
"""Name → ``loss(outputs, targets, **options)``: logits [B, K] or [T, B, K], targets bool [B, K], any number of
which is true; as `LOSSES`, without label_smoothing and class_weights."""

MIXED = ("mean", "tet")
"""Losses whose labels may be shares of classes, float [B, K], as mixed samples have them."""

_GIVEN = ("logits", "outputs", "labels", "targets", "label_smoothing", "class_weights", "lengths")


def find_loss(name: str) -> Callable[..., Tensor]:
    """A registered loss of any kind; raises `ValueError` for another name."""
    return next((table[name] for table in (REGRESSION_LOSSES, LABEL_LOSSES) if name in table), None) or LOSSES[name]


def loss_options(name: str) -> tuple[str, ...]:
    """Keywords of a registered loss that a recipe may set.

    >>> loss_options("tet"), loss_options("mse")
    (('weight', 'target'), ())
    """
    return tuple(key for key in inspect.signature(find_loss(name)).parameters if key not in _GIVEN)


def takes_weights(name: str) -> bool:
    """Whether a registered loss takes class weights."""
    return "class_weights" in inspect.signature(find_loss(name)).parameters


def takes_lengths(name: str) -> bool:
    """Whether a registered loss knows which steps are of a sequence."""
    return "lengths" in inspect.signature(find_loss(name)).parameters


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float, class_weights: Tensor | None) -> Tensor:
    """Mean over samples of the cross-entropy times the weight of the sample's class, if there are weights.

    Differs: torch divides by the sum of the weights in the batch, so that a sample counts more in some batches than in
    others; here it is the number of samples.

    Args:
        logits: [B, K]. labels: [B], or shares of classes [B, K]. label_smoothing: [0, 1). class_weights: [K] or None.

    >>> import torch
    >>> logits, labels = torch.zeros(2, 2), torch.tensor([0, 1])
    >>> round(float(cross_entropy(logits, labels, 0.0, torch.tensor([3.0, 1.0])) / torch.tensor(2.0).log()), 6)
    2.0
    """
    if class_weights is None:
        return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    weights = class_weights.to(logits)
    total = F.cross_entropy(logits, labels, weights, reduction="sum", label_smoothing=label_smoothing)
    return total / len(labels)
