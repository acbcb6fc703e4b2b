"""Rate coding by random spikes."""

from __future__ import annotations

from torch import Tensor

from bitspike.checks import integer
from bitspike.formats import SpikeFormat
from bitspike.layers.encoders.base import Encoder
from bitspike.layers.encoders.noise import content_seeds, uniform_noise


class Poisson(Encoder):
    """Rate coding: a spike with probability x at every step (x in [0, 1]; outside, never or always).

    The noise of a sample depends on ``seed`` and the sample alone, so results do not depend on the batch.

    Args:
        T: time steps, >= 1. seed: base seed.

    >>> x = torch.full((2, 8), 0.5); e = Poisson(4)
    >>> torch.equal(e(x)[:, :1], e(x[:1]))
    True
    """

    def __init__(self, T: int, seed: int = 0) -> None:
        super().__init__()
        self.format = SpikeFormat()
        self.T = integer("Poisson", "T", T, 1, 10_000)
        self.seed = integer("Poisson", "seed", seed, 0, 2**62)

    def forward(self, x: Tensor, seeds: Tensor | None = None) -> Tensor:
        """[B, ...] → {0, 1} [T, B, ...]; ``seeds`` int64 [B] replaces the seeds taken from the content."""
        self._check(x)
        own = content_seeds(x, self.seed) if seeds is None else seeds
        return (uniform_noise(own, self.T, tuple(x.shape[1:])) < x).to(x.dtype)
