"""Batch normalisation over [T, B, C, ...]: joint over time, per step, or threshold-dependent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, in_range, integer, one_of, positive, time_first
from bitspike.functional import held, once, still
from bitspike.functional.norm import batch_norm, batch_norm_of_copies
from bitspike.layers.base import TimeLayer
from bitspike.layers.padding import like, step_mask, valid_lengths
from bitspike.layers.sync import sync_batch_norm, synced
from bitspike.ops import NormParts


class BatchNorm(TimeLayer):
    """Batch norm with one mean and variance per channel.

    - "joint": statistics over time, batch and space (Ternary Spike's blocks);
    - "per_step": each step normalised by its own statistics, running ones shared (its stem);
    - "threshold": joint, and the normalised value is multiplied by ``alpha·threshold`` (tdBN, arXiv 2011.05280).

    Where several processes train together (`torch.distributed`), the statistics are those of all their batches.
    In evaluation all three are the affine map `affine` returns.

    Args:
        channels: C. mode: as above. threshold, alpha: of tdBN. eps: as in torch. momentum: as in torch, a number in
            [0, 1]; cumulative averages (torch's None) are refused.

    Raises:
        ValueError, TypeError: options out of range, here or where eps and momentum are set later.

    >>> BatchNorm(3)(torch.randn(2, 4, 3, 5, 5)).shape
    torch.Size([2, 4, 3, 5, 5])
    """

    scaling = "none"
    sealed: ClassVar[tuple[str, ...]] = ("height", "affine", "track_running_stats", "num_features")
    settable: ClassVar[tuple[str, ...]] = ("eps", "momentum")
    remedies: ClassVar[Mapping[str, str]] = {  # torch's names, which would be ignored here
        "affine": "freeze weight and bias instead (requires_grad_(False))",
        "track_running_stats": "call train() for statistics of the batch, eval() for the running ones",
    }

    def __init__(
        self,
        channels: int,
        mode: str = "joint",
        threshold: float = 1.0,
        alpha: float = 1.0,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        integer("BatchNorm", "channels", channels, 1, 2**20)
        self.mode: str = one_of("BatchNorm", "mode", mode, ("joint", "per_step", "threshold"))
        positive("BatchNorm", "threshold", threshold)
        positive("BatchNorm", "alpha", alpha)
        positive("BatchNorm", "eps", eps)
        self.eps: float = eps
        self.momentum: Any = self.admit("momentum", momentum)
        self.height: float = alpha * threshold if mode == "threshold" else 1.0
        self.weight: nn.Parameter = nn.Parameter(torch.ones(channels))
        self.bias: nn.Parameter = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.running_mean: Tensor
        self.running_var: Tensor

    def admit(self, name: str, value: Any) -> Any:
        """eps must not be negative (0 is for exact arithmetic), momentum is a share."""
        if name == "eps":
            in_range("BatchNorm", name, value, 0, 3.4e38)
        elif name == "momentum" and value is None:
            must = "momentum must be a number in [0, 1], as cumulative averages are not kept"
            raise bad_value("BatchNorm", must, None, "pass e.g. 0.1, torch's default")
        elif name == "momentum":
            in_range("BatchNorm", name, value, 0, 1)
        return value

    def forward(self, x: Tensor) -> Tensor:
        """x [T, B, C, ...] → the same shape; a still image is normalised once for all steps (see `once`)."""
        time_first("BatchNorm", x, 3)
        if x.shape[2] != self.weight.numel():
            must = f"the input must be [T, B, {self.weight.numel()}, ...]"
            raise bad_value("BatchNorm", must, list(x.shape), "check the layer before")
        if not self.training:
            return once(self._joint, x)
        lengths = valid_lengths()
        if lengths is not None:
            return self._valid(x, lengths)
        if still(x) and self._copies_suffice(x):
            return held(self._normalise_copies(x[0], len(x)).unsqueeze(0), len(x))
        if self.mode == "per_step":
            return torch.stack([self._normalise(step) for step in x.unbind(0)])
        return self._joint(x)

    def parts(self) -> NormParts:
        """What the operation "norm_scan" has to know of joint statistics."""
        weight = self.weight if self.height == 1.0 else self.weight * self.height
        return NormParts(weight, self.bias, self.running_mean, self.running_var, self.momentum, self.eps)

    def _valid(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Statistics of the steps that are; what only fills the batch up becomes 0."""
        if self.mode == "per_step" or synced():
            got = "norm 'per_step'" if self.mode == "per_step" else "several processes"
            must = "sequences of different lengths need joint statistics in one process"
            raise bad_value(
                "BatchNorm", must, got, "set model.norm=joint" if self.mode == "per_step" else "train in one"
            )
        rows, kept = x.flatten(0, 1), step_mask(lengths, len(x)).flatten()
        like(step_mask(lengths, len(x)), x)
        numbers = kept.nonzero().squeeze(1)
        normalised = self._normalise(rows.index_select(0, numbers))
        return normalised.new_zeros(rows.shape).index_copy(0, numbers, normalised).unflatten(0, x.shape[:2])

    def _joint(self, x: Tensor) -> Tensor:
        return self._normalise(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def _copies_suffice(self, x: Tensor) -> bool:
        """Whether one of T equal steps has all statistics: a variance, and other processes reduce alike."""
        return x[0].numel() > x.shape[2] and not (synced() and (self.mode == "per_step" or x.device.type == "cuda"))

    def _normalise_copies(self, x: Tensor, steps: int) -> Tensor:
        weight = self.weight if self.height == 1.0 else self.weight * self.height
        parts = self.running_mean, self.running_var, weight, self.bias, self.momentum, self.eps
        if synced():
            return sync_batch_norm(x, *parts, steps)
        each = (1, steps) if self.mode == "per_step" else (steps, 1)
        return batch_norm_of_copies(x, *parts, *each)

    def _normalise(self, x: Tensor) -> Tensor:
        weight = self.weight if self.height == 1.0 else self.weight * self.height
        if self.training and synced():
            return sync_batch_norm(x, self.running_mean, self.running_var, weight, self.bias, self.momentum, self.eps)
        return batch_norm(
            x, self.running_mean, self.running_var, weight, self.bias, self.training, self.momentum, self.eps
        )

    def affine(self) -> tuple[Tensor, Tensor]:
        """(scale [C], shift [C]) in float64 of the evaluation-mode map ``scale·x + shift``; detached."""
        deviation = (self.running_var.double() + self.eps).sqrt()
        scale = self.weight.detach().double() * self.height / deviation
        return scale, self.bias.detach().double() - scale * self.running_mean.double()

    def extra_repr(self) -> str:
        return f"{self.weight.numel()}, mode={self.mode}"
