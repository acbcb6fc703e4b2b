"""Rounding with a straight-through gradient, bit planes, and the unary expansion of integers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bitspike.checks import bad_value


def round_half(u: Tensor) -> Tensor:
    """Round to the nearest integer, halves away from zero.

    ``sign(u)·(f + [|u| − f >= ½])`` with ``f = ⌊|u|⌋``. `torch.round` rounds halves to even and ``floor(u + ½)``
    errs just below one half, so neither is used. Gradient: zero.

    Source: the library's one rounding rule (ties of the papers are not confirmed).

    >>> round_half(torch.tensor([0.5, 1.5, -0.5, 2.5, 0.49999997]))
    tensor([ 1.,  2., -1.,  3.,  0.])
    """
    magnitude = u.detach().abs()
    whole = magnitude.floor()
    return (whole + (magnitude - whole >= 0.5).to(u.dtype)) * u.detach().sign()


def round_ste(u: Tensor) -> Tensor:
    """`round_half` forward, identity backward (straight-through estimator).

    >>> u = torch.tensor([0.7], requires_grad=True)
    >>> y = round_ste(u); y.backward(); y.tolist(), u.grad.tolist()
    ([1.0], [1.0])
    """
    return round_half(u) + (u - u.detach())


def sign_pm1(w: Tensor) -> Tensor:
    """+1 where w >= 0, else -1; sign(0) = +1 (ReverB, ICML 2025); NaN stays NaN. Gradient: zero.

    >>> sign_pm1(torch.tensor([-2.0, 0.0, 3.0, math.nan]))
    tensor([-1.,  1.,  1., nan])
    """
    return signs(w).masked_fill(w.detach().isnan(), math.nan)


def signs(w: Tensor) -> Tensor:
    """`sign_pm1` in less time, for a caller that shows NaN by other means: here NaN is -1.

    >>> signs(torch.tensor([-2.0, 0.0, 3.0, math.nan]))
    tensor([-1.,  1.,  1., -1.])
    """
    return torch.where(w.detach() >= 0, 1.0, -1.0).to(w.dtype)


def unhidden(k: Tensor, w: Tensor) -> Tensor:
    """Levels k as they are, but NaN where the w that they stand for is NaN or inf: no comparison or clip hides it.

    ``k − (w − w)``; the bits of k do not change where w is finite. Gradient: zero.

    >>> unhidden(torch.tensor([1.0, -0.0, 3.0]), torch.tensor([math.nan, -0.2, math.inf]))
    tensor([nan, -0., nan])
    """
    given = w.detach()
    return k - (given - given)


def popcount(k: Tensor, bits: int) -> Tensor:
    """Number of set bits of |k|, where k holds integers (of any dtype) below 2^bits in magnitude.

    >>> popcount(torch.tensor([0.0, 1.0, 3.0, -1.0, 6.0]), 3)
    tensor([0., 1., 2., 1., 2.])
    """
    return bit_planes(k.detach().abs(), bits).sum(0)


def bit_planes(k: Tensor, bits: int) -> Tensor:
    """Binary digits of non-negative integers: ``k = Σ_i 2^i · planes[i]``.

    Source: bit planes of the multi-bit mechanism (arXiv 2407.05739; reconstruction [?]).

    Args:
        k: integers 0 .. 2^bits - 1 of any dtype and shape.
        bits: number of planes, 1 to 31.

    Returns:
        [bits, *k.shape], the dtype of k.

    >>> bit_planes(torch.tensor([5]), 3).tolist()
    [[1], [0], [1]]
    """
    if not 1 <= bits <= 31:
        raise bad_value("bit_planes", "bits must lie in [1, 31]", bits, "pass the bits of the format")
    code = k.detach().to(torch.int64)
    return torch.stack([((code >> i) & 1).to(k.dtype) for i in range(bits)])


def unary_expand(k: Tensor, steps: int) -> Tensor:
    """Integers as that many binary sub-steps: sub-step j spikes where ``k > j`` (first k slots).

    Source: I-LIF of SpikeYOLO (arXiv 2407.20708), inference form.

    Args:
        k: integers 0 .. steps, any shape.
        steps: D, number of sub-steps.

    Returns:
        [steps, *k.shape] of 0 and 1; its sum over axis 0 is k.

    >>> unary_expand(torch.tensor([0.0, 2.0]), 3).tolist()
    [[0.0, 1.0], [0.0, 1.0], [0.0, 0.0]]
    """
    return torch.stack([(k.detach() > j).to(k.dtype) for j in range(steps)])
