"""Ternary weights {-1, 0, 1} with a trainable factor."""

from __future__ import annotations

from torch import Tensor

from bitspike.checks import floating, in_range, positive
from bitspike.formats import WeightFormat
from bitspike.functional import signs, unhidden
from bitspike.quantizers.base import QUANTIZERS, Factor, Quantizer


@QUANTIZERS.register("ternary")
class TernaryWeight(Quantizer):
    """Weights that are −α, 0 or α, so that every product is an addition.

    ``w̃ = α·t``, ``t = sign(w)·[|w| > share·mean|w|]``; straight-through gradient inside |w| <= clip.

    Source: Ternary Weight Networks (arXiv 1605.04711): share 0.7, α the mean of the kept |w|.
    Differs: α is trained after that start.

    Args:
        factor: sharing of α: "none" (1), "layer", "output" or "input" channel.
        share: threshold as a share of the layer's mean |w|, in [0, 1), default 0.7.
        clip: latent magnitude beyond which the gradient stops, > 0, default 1.

    A prototype: `replicate` makes the copy for a weight [O, I, ...]; called with that weight it returns the quantized.

    Raises:
        ValueError: a number out of its range, or an unknown name. TypeError: an argument of another kind.

    >>> import torch; TernaryWeight("none")(torch.tensor([[1.0, -0.1, -2.0]])).tolist()
    [[1.0, 0.0, -1.0]]
    """

    def __init__(self, factor: str = "layer", share: float = 0.7, clip: float = 1.0) -> None:
        super().__init__()
        in_range("TernaryWeight", "share", share, 0.0, 0.99)
        positive("TernaryWeight", "clip", clip)
        self.share = share
        self.clip = clip
        self.factor: Factor = Factor(factor)
        self.format: WeightFormat = WeightFormat(-1, 1, scale=factor)

    def _levels(self, w: Tensor) -> Tensor:
        magnitude = w.detach().abs()
        return signs(w) * (magnitude > self.share * magnitude.mean()).to(w.dtype)

    def initialise(self, w: Tensor) -> None:
        """α = mean |w| of the weights that are kept, per sharing group."""
        kept = self._levels(w).abs()
        self.factor.initialise(w, w.abs() * kept)
        if self.factor.raw_factor is not None:
            axes = [a for a in range(w.dim()) if self.factor.raw_factor.shape[a] == 1]
            self.factor.raw_factor.data -= kept.mean(axes, keepdim=True).clamp(min=1.0 / w.numel()).log()

    def ratio(self, w: Tensor, scale: Tensor) -> Tensor:
        """w itself up to ±clip: the slope of a level is that of the latent weight, whatever the factor."""
        return w.clamp(-self.clip, self.clip)

    def to_int(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """{-1, 0, 1} and α."""
        floating("TernaryWeight", w)
        return unhidden(self._levels(w), w), self.factor.value(w).detach()

    def forward(self, w: Tensor) -> Tensor:
        """{-α, 0, α} with straight-through gradient."""
        floating("TernaryWeight", w)
        inside = (w.detach().abs() <= self.clip).to(w.dtype)
        through = (w - w.detach()) * inside
        return (self._levels(w) + through) * self.factor.value(w)
