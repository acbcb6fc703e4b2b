"""k-bit symmetric uniform weights with a learned step size (LSQ)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, floating, integer, one_of
from bitspike.formats import WeightFormat
from bitspike.functional import LEAST_STEP, bounded, round_half, signs, unhidden, weight_bounds
from bitspike.quantizers.base import QUANTIZERS, Quantizer


class _LSQ(torch.autograd.Function):
    """Forward ``α·clip(round(w/α), −Q, Q)``; backward by LSQ with the step gradient times ``gain``."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, step: Tensor, levels: Tensor, q: int, gain: float) -> Tensor:
        ctx.save_for_backward(w, step, levels)
        ctx.q, ctx.gain = q, gain
        return levels * step

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        w, step, levels = ctx.saved_tensors
        ratio = w / step
        inside = (ratio.abs() <= ctx.q).to(w.dtype)
        per_weight = torch.where(inside > 0, levels - ratio, levels)
        grad_step = (grads[0] * per_weight).sum_to_size(step.shape) * ctx.gain
        return grads[0] * inside, grad_step, None, None, None


@QUANTIZERS.register("uniform")
class Uniform(Quantizer):
    """Weights of a given number of bits on an even grid, whose step size is trained.

    ``w̃ = α·sign(u)·round_half(min(|u|, Q))``, u = w/α, Q = 2^(bits−1) − 1 (1 bit: ±α).

    Gradients (in = [|u| <= Q]): ``dL/dw = g·in``; ``dL/dα = Σ g·(in·(w̄ − u) + out·Q·sign u)·G``, G = 1/√(N·Q), N the
    number of weights that share α. α is kept within `weight_bounds`, and its gradient leads back inside.

    Source: LSQ (arXiv 1902.08153); adaptive bit allocation (arXiv 2506.23717), as in its released code.
    Differs: one-bit weights take +α at w = 0; the release clamps α at 1e-5, where nothing has a gradient any more.

    Args:
        bits: 1 to 8, default 4.
        scale: sharing of α: "layer" or "output" channel.
        scale_gradient: apply LSQ's G; False leaves the plain gradient (for tests).

    A prototype: `replicate` makes the copy for a weight [O, I, ...]; called with that weight it returns the quantized.

    Raises:
        ValueError: a number out of its range, or an unknown name. TypeError: an argument of another kind.

    >>> q = Uniform(2).replicate(torch.ones(1, 2)); _ = q.step.data.fill_(0.5)
    >>> q(torch.tensor([[0.25, -3.0]])).tolist()
    [[0.5, -0.5]]
    """

    sealed: ClassVar[tuple[str, ...]] = ("q",)
    settable: ClassVar[tuple[str, ...]] = ("scale_gradient",)

    def __init__(self, bits: int = 4, scale: str = "layer", scale_gradient: bool = True) -> None:
        super().__init__()
        integer("Uniform", "bits", bits, 1, 8)
        one_of("Uniform", "scale", scale, ("layer", "output"))
        self.q: int = max(1, 2 ** (bits - 1) - 1)
        self.format: WeightFormat = WeightFormat(-self.q, self.q, stride=2 if bits == 1 else 1, scale=scale)
        self.scale_gradient = scale_gradient
        self.step: nn.Parameter | None = None

    def initialise(self, w: Tensor) -> None:
        """α = 2·mean|w|/√Q over the weights that share it (LSQ)."""
        axes = list(range(w.dim())) if self.format.scale == "layer" else list(range(1, w.dim()))
        start = 2 * w.abs().mean(axes, keepdim=True) / math.sqrt(self.q)
        self.step = nn.Parameter(start.clamp(min=LEAST_STEP).to(w.dtype))

    def step_parameter(self) -> nn.Parameter:
        """The learned α."""
        if self.step is None:
            raise bad_value("Uniform", "the step size must be initialised", "none yet", "call replicate(weight) first")
        return self.step

    def step_size(self, w: Tensor) -> Tensor:
        """α in use, differentiable, shaped to broadcast to the weight."""
        step = self.step_parameter()
        return bounded(step, *weight_bounds(w, step, self.q, self.format.stride == 2))

    def _levels(self, w: Tensor, step: Tensor) -> Tensor:
        ratio = (w / step).detach()
        if self.format.stride == 2:
            return signs(ratio)
        return round_half(ratio.clamp(-self.q, self.q))

    def to_int(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Integers −Q .. Q and α."""
        floating("Uniform", w)
        step = self.step_size(w).detach()
        return unhidden(self._levels(w, step), w), step

    def forward(self, w: Tensor) -> Tensor:
        """Quantized weight with LSQ gradients."""
        floating("Uniform", w)
        step = self.step_size(w)
        gain = math.sqrt(step.numel() / (w.numel() * self.q)) if self.scale_gradient else 1.0
        return _LSQ.apply(w, step, self._levels(w, step), self.q, gain)  # type: ignore[no-any-return,no-untyped-call]
