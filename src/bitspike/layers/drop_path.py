"""Stochastic depth: a residual branch that some samples do without in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from bitspike.checks import bad_value, number, time_first
from bitspike.layers.base import TimeLayer
from bitspike.sealed import amend


class DropPath(TimeLayer):
    """Stochastic depth: in training, some samples pass without the branch.

    ``y = x·m / (1 − rate)`` in training, m = 0 with probability ``rate`` for each sample, else 1; ``y = x`` else.

    A sample keeps or loses all of its T steps. In training multiplied spikes are no integers; in evaluation, and so in
    whatever is folded, counted or compiled, nothing happens.

    Source: Huang et al., "Deep Networks with Stochastic Depth" (ECCV 2016, arXiv 1603.09382). Differs: survivors are
    scaled up in training, where they scale down in evaluation.

    Args:
        rate: [0, 1), set by `set_rate`.

    >>> x = torch.ones(2, 8, 3)
    >>> _ = torch.manual_seed(0)
    >>> sorted(set(DropPath(0.5)(x).flatten().tolist())), DropPath(0.5).eval()(x).equal(x)
    ([0.0, 2.0], True)
    """

    scaling = "linear"
    keeps_format = True
    remedies: ClassVar[Mapping[str, str]] = {"rate": "call set_rate"}

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate: float = check_rate("DropPath", rate)

    def set_rate(self, rate: float) -> None:
        """Drop with another probability from now on."""
        amend(self, rate=check_rate("DropPath", rate))

    def forward(self, x: Tensor) -> Tensor:
        """x [T, B, ...] → the same shape; draws B numbers from torch's generator of its device."""
        time_first("DropPath", x)
        if not self.training or not self.rate:
            return x
        kept = torch.rand(1, x.shape[1], *[1] * (x.dim() - 2), device=x.device) >= self.rate
        return x * (kept.to(x.dtype) / (1 - self.rate))

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def check_rate(where: str, rate: float, name: str = "rate") -> float:
    """The rate; raises `ValueError` unless it lies in [0, 1)."""
    number(where, name, rate)
    if not 0 <= rate < 1:
        raise bad_value(where, f"{name} must lie in [0, 1)", rate, "0.1 to 0.2 are usual, 0 for none")
    return rate
