"""Coding by the time of one spike."""

from __future__ import annotations

import torch
from torch import Tensor

from bitspike.checks import in_range, integer
from bitspike.formats import SpikeFormat
from bitspike.functional import round_half
from bitspike.layers.base import in_full
from bitspike.layers.encoders.base import Encoder
from bitspike.layers.encoders.noise import content_seeds, uniform_noise


class Latency(Encoder):
    """Time-to-first-spike coding: one spike at step ``round_half((1 − x)·(T − 1))`` where x > 0, x in [0, 1].

    Args:
        T: time steps, >= 1. jitter: largest random delay or advance in steps, from the sample's seed; 0 for none.
        seed: base seed of the jitter.

    >>> Latency(3)(torch.tensor([[1.0, 0.5, 0.0]]))[:, 0].tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """

    def __init__(self, T: int, jitter: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        self.format = SpikeFormat()
        self.T = integer("Latency", "T", T, 1, 10_000)
        in_range("Latency", "jitter", jitter, 0, T)
        self.jitter, self.seed = jitter, integer("Latency", "seed", seed, 0, 2**62)

    def forward(self, x: Tensor, seeds: Tensor | None = None) -> Tensor:
        """[B, ...] → {0, 1} [T, B, ...]."""
        self._check(x)
        dtype, x = x.dtype, in_full(x)  # half precision cannot tell all steps apart
        time = (1 - x) * (self.T - 1)
        if self.jitter:
            own = content_seeds(x, self.seed) if seeds is None else seeds
            time = time + (2 * uniform_noise(own, 1, tuple(x.shape[1:]))[0] - 1) * self.jitter
        slot = round_half(time).clamp(0, self.T - 1)
        steps = torch.arange(self.T, device=x.device, dtype=x.dtype).reshape(-1, *[1] * x.dim())
        return ((steps == slot) & (x > 0)).to(dtype)
