"""Weights that are 0 or ± a power of two, with a trained scale: a synapse shifts instead of multiplying."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from bitspike.checks import bad_value, floating, integer, one_of
from bitspike.formats import WeightFormat
from bitspike.functional import lsq_gain, scale_gradient, signs, unhidden
from bitspike.quantizers.base import QUANTIZERS, Quantizer

_LEAST_TOP = 1e-5


@QUANTIZERS.register("power_of_two")
class PowerOfTwo(Quantizer):
    """Weights that are 0 or ± a power of two, so that every product is a shift.

    ``w̃ = α·2^−n·k``, k the level of {0, ±1, ±2, ±4, ..., ±2^n} next to u = w/(α·2^−n), ties away from zero.

    n = 2^(bits−1) − 2, so that 2·n + 3 = 2^bits − 1 levels have ``bits`` bits; α is the greatest weight. In closed form
    ``|k| = [|u| >= ½] + Σ_{e=1..n} 2^(e−1)·[|u| >= 1.5·2^(e−1)]``, k = sign(u)·|k|.
    Gradients (in = [|w| <= α], out = 1 − in): ``dL/dw = g·in``; ``dL/dα = G·Σ g·(in·(k·2^−n − w/α) + out·sign w)``,
    G = 1/√N, N the number of weights that share α. α >= 1e-5.

    Source: the nearest power of two, ties up, and α's start: incremental network quantization (arXiv 1702.03044), as
    recalled [?]; a trained clipping limit over such levels, with that gradient: additive powers of two (arXiv
    1909.13144), as recalled [?]. Ours: G (LSQ's for Q = 1), and one exponent per pair of codes that is left.
    Differs: all weights at once, α trained (INQ fixes it to a power of two); one term a level, no weight normalisation.

    Args:
        bits: 3 to 5, default 4. Two bits are {-1, 0, 1}: `TernaryWeight`, whose start leaves fewer weights at 0.
        scale: sharing of α: "layer" or "output" channel.
        scale_gradient: apply G; False leaves the plain gradient (for tests).

    A prototype: `replicate` makes the copy for a weight [O, I, ...]; called with that weight it returns the quantized.

    Raises:
        ValueError: a number out of its range, or an unknown name. TypeError: an argument of another kind.

    >>> import torch; q = PowerOfTwo(3).replicate(torch.ones(1, 4))
    >>> q.to_int(torch.tensor([[0.125, 0.3, -0.75, -9.0]]))[0].tolist()
    [[1.0, 1.0, -4.0, -4.0]]
    """

    settable: ClassVar[tuple[str, ...]] = ("scale_gradient",)

    def __init__(self, bits: int = 4, scale: str = "layer", scale_gradient: bool = True) -> None:
        super().__init__()
        integer("PowerOfTwo", "bits", bits, 3, 5)
        one_of("PowerOfTwo", "scale", scale, ("layer", "output"))
        high = 2 ** (2 ** (bits - 1) - 2)
        self.format: WeightFormat = WeightFormat(-high, high, scale=scale, spacing="power")
        self.scale_gradient = scale_gradient
        self.top: nn.Parameter | None = None

    def initialise(self, w: Tensor) -> None:
        """α = 2^⌊log2(4/3·max|w|)⌋, the power of two next to the greatest |w| of those that share it."""
        axes = list(range(w.dim())) if self.format.scale == "layer" else list(range(1, w.dim()))
        start = (w.abs().amax(axes, keepdim=True) * (4 / 3)).clamp(min=_LEAST_TOP)
        self.top = nn.Parameter(start.double().log2().floor().exp2().clamp(min=_LEAST_TOP).to(w.dtype))

    def _top(self) -> Tensor:
        if self.top is None:
            raise bad_value("PowerOfTwo", "α must be initialised", "none yet", "call replicate(weight) first")
        return self.top.clamp(min=_LEAST_TOP)

    def _levels(self, w: Tensor, scale: Tensor) -> Tensor:
        size = (w / scale).detach().abs()
        k = (size >= 0.5).to(w.dtype)
        for e in range(1, self.format.high.bit_length()):
            k = k + 2.0 ** (e - 1) * (size >= 1.5 * 2.0 ** (e - 1)).to(w.dtype)
        return unhidden(signs(w) * k, w)

    def to_int(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Integers 0, ±1, ±2, ±4 .. ±2^n and α·2^−n."""
        floating("PowerOfTwo", w)
        scale = self._top().detach() / self.format.high
        return self._levels(w.detach(), scale), scale

    def forward(self, w: Tensor) -> Tensor:
        """Quantized weight, straight through up to α."""
        floating("PowerOfTwo", w)
        top = self._top()
        if self.scale_gradient:
            top = scale_gradient(top, lsq_gain(w.numel(), top.numel(), w.new_ones(())))
        scale = top / self.format.high
        ratio = self.ratio(w, scale)
        return (self._levels(w, scale) + (ratio - ratio.detach())) * scale
