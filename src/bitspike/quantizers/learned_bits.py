"""Symmetric uniform weights whose bits and step size are learned: adaptive bit allocation."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, floating, integer, one_of
from bitspike.formats import WeightFormat
from bitspike.functional import (
    LEAST_STEP,
    asked,
    bounded,
    greatest_level,
    lsq_gain,
    round_half,
    rounded,
    scale_gradient,
    signs,
    unhidden,
    weight_bounds,
)
from bitspike.quantizers.base import QUANTIZERS, Quantizer
from bitspike.sealed import amend, rewritten


@QUANTIZERS.register("learned_bits")
class LearnedBits(Quantizer):
    """Weights whose number of bits and step size are learned by gradient.

    ``w̃ = α·k``, ``k = sign(u)·round_half(min(|u|, Q))``, u = w/α, Q = 2^(B−1) − 1 (one bit: ±α); both learned.

    ``B = round_half(clip(|raw_bits|, 1, bound))``. With g the gradient of w̃, in = [|u| <= Q] and out = 1 − in:
    ``dL/dw = g·in``; ``dL/dα = G·Σ g·(in·(k − u) + out·Q·sign u)``, G = 1/√(N·Q), N the number of weights that share α;
    ``dL/dB = Σ g·out·sign u·ln2·α·2^(B−1)``. α is kept within `weight_bounds`, and its gradient leads back inside.

    The width in use is the buffer ``width``; `refresh`, between optimiser steps, brings it and ``format`` up to date.

    Source: adaptive bit allocation (arXiv 2506.23717), eq. 9-11 and code.
    Differs: G is LSQ's for convolutions too; one-bit weights take +α at w = 0; the release clamps α at 1e-5.

    Args:
        bits: initial or fixed B, 1 to 8, default 4. learn_bits: learn it.
        bound: greatest B, up to 16; default bits + 2.
        scale: sharing of α: "layer" or "output" channel. B is one per layer.
        scale_gradient: apply G; False leaves the plain gradient (for tests).

    A prototype: `replicate` makes the copy for a weight [O, I, ...]; called with that weight it returns the quantized.

    Raises:
        ValueError: a number out of its range, or an unknown name. TypeError: an argument of another kind.

    >>> q = LearnedBits(2).replicate(torch.ones(1, 2)); _ = q.step.data.fill_(0.5)
    >>> q(torch.tensor([[0.25, -3.0]])).tolist()
    [[0.5, -0.5]]
    """

    constants: tuple[str, ...] = ("width",)
    least_bits = 1
    sealed: ClassVar[tuple[str, ...]] = ("channel_axis", "least_bits")
    settable: ClassVar[tuple[str, ...]] = ("scale_gradient",)

    def __init__(
        self,
        bits: int = 4,
        learn_bits: bool = True,
        bound: int | None = None,
        scale: str = "layer",
        scale_gradient: bool = True,
    ) -> None:
        super().__init__()
        integer("LearnedBits", "bits", bits, 1, 8)
        self.bound: int = integer("LearnedBits", "bound", bits + 2 if bound is None else bound, bits, 16)
        self.scale: str = one_of("LearnedBits", "scale", scale, ("layer", "output"))
        self.scale_gradient = scale_gradient
        self.channel_axis: int | None = 0 if scale == "output" else None
        self.raw_bits = nn.Parameter(torch.tensor(float(bits))) if learn_bits else None
        self.register_buffer("width", torch.tensor(bits))
        self.width: Tensor
        self.step: nn.Parameter | None = None
        self.format: WeightFormat = WeightFormat(scale=scale)
        self._describe()

    def initialise(self, w: Tensor) -> None:
        """α = 2·mean|w|/√Q over the weights that share it; the learned number takes the dtype of w."""
        axes = list(range(w.dim())) if self.scale == "layer" else list(range(1, w.dim()))
        start = 2 * w.abs().mean(axes, keepdim=True) / math.sqrt(self.format.high)
        self.step = nn.Parameter(start.clamp(min=LEAST_STEP).to(w.dtype))
        if self.raw_bits is not None:
            self.raw_bits = nn.Parameter(self.raw_bits.detach().clone().to(w))
        self.width = self.width.to(w.device)

    def wanted_width(self) -> Tensor:
        """Bits that the parameter asks for, int64 []."""
        return self.width if self.raw_bits is None else rounded(self.raw_bits, 1, self.bound)

    def refresh(self) -> None:
        """Put the wanted width to use. Call it between optimiser steps, never in a compiled graph."""
        self.width.copy_(asked("LearnedBits", self.wanted_width()))
        self._describe()

    def levels(self, bits: int) -> tuple[int, int, int]:
        """Least and greatest level and their stride at a width."""
        high = max(1, 2 ** (bits - 1) - 1)
        return -high, high, 2 if bits == 1 else 1

    def follow(self) -> None:
        """Take over a width that somebody has written into the buffer, such as an average of models."""
        if rewritten(self, self.width):
            self._describe()

    def _describe(self) -> None:
        low, high, stride = self.levels(int(self.width))
        amend(self, format=replace(self.format, low=low, high=high, stride=stride))

    def step_parameter(self) -> nn.Parameter:
        """The learned α."""
        if self.step is None:
            must = "the step size must be initialised"
            raise bad_value("LearnedBits", must, "none yet", "call replicate(weight) first")
        return self.step

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """As torch's; then the format is that of the loaded width."""
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._describe()

    def step_size(self, w: Tensor) -> Tensor:
        """α in use, differentiable, shaped to broadcast to the weight."""
        step = self.step_parameter()
        top = greatest_level(self.width, None, True, w.dtype)
        return bounded(step, *weight_bounds(w, step, top, self.width == 1))

    def ratio(self, w: Tensor, scale: Tensor) -> Tensor:
        """w/α clipped to ±Q; Q has the gradient of the bits."""
        top = greatest_level(self.width, self.raw_bits, True, w.dtype)
        return torch.clamp(w / scale, -top, top)

    def _levels(self, ratio: Tensor, top: Tensor) -> Tensor:
        """Hard levels of w/α; no gradient."""
        graded = round_half(torch.clamp(ratio.detach(), -top.detach(), top.detach()))
        return torch.where(self.width == 1, signs(ratio), graded)

    def to_int(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Integers −Q .. Q and α."""
        floating("LearnedBits", w)
        step = self.step_size(w).detach()
        return unhidden(self._levels(w.detach() / step, greatest_level(self.width, None, True, w.dtype)), w), step

    def forward(self, w: Tensor) -> Tensor:
        """Quantized weight; gradients to w, α and the bits."""
        floating("LearnedBits", w)
        top = greatest_level(self.width, self.raw_bits, True, w.dtype)
        step = self.step_size(w)
        if self.scale_gradient:
            step = scale_gradient(step, lsq_gain(w.numel(), step.numel(), top))
        ratio = w / step
        clipped = torch.clamp(ratio, -top, top)
        return (self._levels(ratio, top) + (clipped - clipped.detach())) * step
