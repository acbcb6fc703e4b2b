"""Binary weights ±1 with a trainable factor."""

from __future__ import annotations

from torch import Tensor

from bitspike.checks import floating, positive
from bitspike.formats import WeightFormat
from bitspike.functional import signs, unhidden
from bitspike.quantizers.base import QUANTIZERS, Factor, Quantizer


@QUANTIZERS.register("sign")
class Sign(Quantizer):
    """Weights of one bit, ±α; α may be trained.

    ``w̃ = α·sign(w)``, sign(0) = +1; ``dL/dw = α·dL/dw̃·[|w| <= clip]``; ``dL/dα = Σ dL/dw̃·sign(w)``.

    Source: ReverB-SNN (ICML 2025); the gradient is the usual straight-through form, the paper's is not confirmed [?].

    Args:
        factor: sharing of α: "none" (1), "layer", "output" or "input" channel; α starts at the mean |w| it covers.
        clip: latent magnitude beyond which the gradient stops, > 0, default 1.

    A prototype: `replicate` makes the copy for a weight [O, I, ...]; called with that weight it returns the quantized.

    Raises:
        ValueError: a number out of its range, or an unknown name. TypeError: an argument of another kind.

    >>> import torch; Sign("none").replicate(torch.zeros(1, 2))(torch.tensor([[0.0, -0.2]])).tolist()
    [[1.0, -1.0]]
    """

    def __init__(self, factor: str = "layer", clip: float = 1.0) -> None:
        super().__init__()
        positive("Sign", "clip", clip)
        self.clip = clip
        self.factor: Factor = Factor(factor)
        self.format: WeightFormat = WeightFormat(-1, 1, stride=2, scale=factor)

    def initialise(self, w: Tensor) -> None:
        """α = mean |w| over the weights that share it."""
        self.factor.initialise(w, w.abs())

    def ratio(self, w: Tensor, scale: Tensor) -> Tensor:
        """w itself up to ±clip: the slope of a level is that of the latent weight, whatever the factor."""
        return w.clamp(-self.clip, self.clip)

    def to_int(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """±1 and α."""
        floating("Sign", w)
        return unhidden(signs(w), w), self.factor.value(w).detach()

    def forward(self, w: Tensor) -> Tensor:
        """±α with straight-through gradient."""
        floating("Sign", w)
        inside = (w.detach().abs() <= self.clip).to(w.dtype)
        through = (w - w.detach()) * inside
        return (signs(w) + through) * self.factor.value(w)
