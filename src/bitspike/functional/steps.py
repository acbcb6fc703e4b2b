"""Step sizes kept where they can learn: bounds that follow the weights, with gradients that lead back inside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LEAST_STEP = 1e-5
"""Least step size of spikes, and of weights that are all 0."""

_CLIP = 0.25  # of the mean |w|: the least clip range, in which a sixth of normal weights lies
_FAR = 16.0  # times the greatest |w|: the greatest step of ±α, whose levels are never 0


class _Bounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, step: Tensor, low: Tensor, high: Tensor) -> Tensor:
        ctx.save_for_backward(step, low, high)
        return torch.minimum(torch.maximum(step, low), high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        step, low, high = ctx.saved_tensors
        outward = ((step <= low) & (grads[0] > 0)) | ((step >= high) & (grads[0] < 0))
        return grads[0].masked_fill(outward, 0.0), None, None


def bounded(step: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """``min(max(step, low), high)``; at or beyond a bound a gradient passes if descent along it leads back inside.

    A clamp has no gradient beyond its bounds, so what has once left them never returns.

    Source: ours; within the bounds the identity, value and gradient.

    Args:
        step: any shape. low, high: without gradient, broadcast to it.

    >>> step = torch.tensor([-1.0, -1.0, 2.0, 9.0], requires_grad=True)
    >>> y = bounded(step, torch.tensor(1.0), torch.tensor(5.0)); y.backward(torch.tensor([3.0, -3.0, 3.0, 3.0]))
    >>> y.tolist(), step.grad.tolist()
    ([1.0, 1.0, 2.0, 5.0], [0.0, -3.0, 3.0, 3.0])
    """
    return _Bounded.apply(step, low, high)  # type: ignore[no-any-return,no-untyped-call]


def weight_bounds(w: Tensor, step: Tensor, top: Tensor | int, binary: Tensor | bool) -> tuple[Tensor, Tensor]:
    """Least and greatest step size that leaves weights something to learn, no gradient.

    Low: ``max(¼·mean|w|, min|w|)/Q``, so that at least one weight lies within the clip range and has a gradient.
    High: ``2·max|w|``, at which the greatest weight still rounds to 1; for ±α, never 0, ``16·max|w|``. Weights that are
    all 0 have the bounds 1e-5 and inf.

    Source: ours; LSQ (arXiv 1902.08153) has no bounds, the adaptive release (arXiv 2506.23717) clamps at 1e-5.

    Args:
        w: weights [O, I, ...]. step: shape of the result, 1 along axes that share it. top: Q. binary: whether ±α.

    >>> low, high = weight_bounds(torch.tensor([[1.0, -3.0]]), torch.ones(1, 1), 2, False); low.item(), high.item()
    (0.5, 6.0)
    """
    magnitude = w.detach().abs()
    axes = [axis for axis in range(w.dim()) if step.shape[axis] == 1]
    most = magnitude.amax(axes, keepdim=True)
    low = torch.maximum(magnitude.mean(axes, keepdim=True) * _CLIP, magnitude.amin(axes, keepdim=True)) / top
    high = most * (torch.where(binary, _FAR, 2.0) if isinstance(binary, Tensor) else _FAR if binary else 2.0)
    nothing = most == 0
    return low.masked_fill(nothing, LEAST_STEP).to(w.dtype), high.masked_fill(nothing, float("inf")).to(w.dtype)
