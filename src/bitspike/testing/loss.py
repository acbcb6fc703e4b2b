"""The conformance suite of a loss on logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bitspike.testing import expectations as tell

_B, _K, _T = 6, 4, 3


def check_loss(loss: Callable[..., Tensor], *, time: bool = False) -> None:
    """Raise unless a loss keeps the contract of `bitspike.training.losses.LOSSES`.

    Args:
        loss: ``loss(logits, labels, label_smoothing=..., **options)``, its options with defaults.
        time: whether it wants logits of every step [T, B, K]; else [B, K] and [T, B, K] are both tried.

    Raises:
        ConformanceError: names the broken promise and the first offending value.

    >>> from bitspike.training.losses import mean_loss
    >>> check_loss(mean_loss)
    """
    where = f"check_loss({getattr(loss, '__name__', type(loss).__name__)})"
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(_B) % _K
    for shape in ((_T, _B, _K),) if time else ((_B, _K), (_T, _B, _K)):
        logits = torch.randn(shape, generator=generator, dtype=torch.float64)
        _check(where, loss, logits, labels)


def _check(where: str, loss: Callable[..., Tensor], logits: Tensor, labels: Tensor) -> None:
    kept, order = (logits.clone(), labels.clone()), torch.arange(len(labels)).flip(0)
    x = logits.clone().requires_grad_()
    for smoothing in (0.0, 0.1):
        value = loss(x, labels, label_smoothing=smoothing)
        if value.shape != () or value.dtype != logits.dtype or not bool(torch.isfinite(value)):
            tell.fail(where, "the loss must be one finite number in the dtype of the logits", value, "average it")
        again = loss(x[..., order, :], labels[order], label_smoothing=smoothing)
        if not torch.allclose(value, again, rtol=1e-12, atol=1e-12):
            got = float((again - value).detach())
            tell.fail(where, "the order of the batch must not matter", got, "average over samples")
        (slope,) = torch.autograd.grad(value, x)
        step = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype) * 1e-5
        above, below = (loss(logits + s, labels, label_smoothing=smoothing) for s in (step, -step))
        if not torch.allclose((slope * step).sum() * 2, above - below, rtol=1e-4, atol=1e-12):
            tell.fail(where, "the gradient must be that of the value", float((slope * step).sum() * 2), "mend backward")
    right = torch.nn.functional.one_hot(labels, _K).to(logits).expand_as(logits)
    if not loss(right, labels) < loss(1 - right, labels):
        tell.fail(where, "right logits must cost less than wrong ones", float(loss(right, labels)), "check the sign")
    if not (torch.equal(logits, kept[0]) and torch.equal(labels, kept[1])):
        tell.fail(where, "logits and labels must be left as they are", "changed ones", "write to copies")
