"""The table of losses on logits."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import Tensor

from bitspike.registry import Registry

LOSSES: Registry[Callable[..., Tensor]] = Registry("loss")
"""Name → ``loss(logits, labels, label_smoothing, **options)``.

logits are [B, K] or, from a "steps" read-out, [T, B, K]; labels int64 [B]. The result is a differentiable mean [] over
the batch. Options are keywords with defaults; a recipe gives them in ``train.loss_options``.
"""

_GIVEN = ("logits", "labels", "label_smoothing")


def loss_options(name: str) -> tuple[str, ...]:
    """Keywords of a registered loss that a recipe may set.

    >>> loss_options("tet")
    ('weight', 'target')
    """
    return tuple(key for key in inspect.signature(LOSSES[name]).parameters if key not in _GIVEN)
