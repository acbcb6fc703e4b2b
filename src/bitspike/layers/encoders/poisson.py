"""Rate coding by random spikes."""

from __future__ import annotations

from torch import Tensor

from bitspike.checks import integer
from bitspike.formats import SpikeFormat
from bitspike.layers.encoders.base import ENCODERS, Encoder
from bitspike.layers.encoders.noise import Noise, uniform_noise


@ENCODERS.register("poisson")
class Poisson(Encoder):
    """Rate coding: a spike with probability x at every step, x in [0, 1].

    In training every call draws anew (see `set_noise` for draws that repeat); in evaluation mode the noise of a sample
    depends on ``seed`` and the sample alone. In both, results do not depend on the batch.

    Args:
        T: time steps, >= 1. seed: base seed. noise: "fresh" as above, or "fixed": in training as in evaluation, so
            that a network sees one frozen pattern a sample.

    Raises:
        ValueError: values outside [0, 1], where the input is on the CPU and the code is not compiled.

    >>> import torch; x = torch.full((2, 8), 0.5); e = Poisson(4).eval()
    >>> torch.equal(e(x)[:, :1], e(x[:1])), torch.equal(e.train()(x), e(x))
    (True, False)
    """

    intensities = True

    def __init__(self, T: int, seed: int = 0, noise: str = "fresh") -> None:
        super().__init__()
        self.format: SpikeFormat = SpikeFormat()
        self.T = integer("Poisson", "T", T, 1, 10_000)
        self.noise: Noise = Noise("Poisson", seed, noise)

    def forward(self, x: Tensor, seeds: Tensor | None = None) -> Tensor:
        """[B, ...] → {0, 1} [T, B, ...]; ``seeds`` int64 [B] replaces the seeds taken from the content."""
        self._check(x)
        return (uniform_noise(self.noise(x, seeds), self.T, tuple(x.shape[1:])) < x).to(x.dtype)

    def extra_repr(self) -> str:
        return f"T={self.T}"
