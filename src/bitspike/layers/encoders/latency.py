"""Coding by the time of one spike."""

from __future__ import annotations

import torch
from torch import Tensor

from bitspike.checks import in_range, integer, one_of
from bitspike.formats import SpikeFormat
from bitspike.functional import round_half
from bitspike.layers.base import in_full
from bitspike.layers.encoders.base import ENCODERS, Encoder
from bitspike.layers.encoders.noise import KINDS, Noise, uniform_noise


@ENCODERS.register("latency")
class Latency(Encoder):
    """Time-to-first-spike coding: one spike at step ``round_half((1 − x)·(T − 1))`` where x > 0 and x ≥ threshold.

    Args:
        T: time steps, >= 1. jitter: largest random delay or advance in steps, 0 to T; 0 for none.
        seed: base seed of the jitter. threshold: inputs below it never spike, 0 to 1.
        noise: of the jitter, "fresh" or "fixed", as in `Poisson`.

    Raises:
        ValueError: values outside [0, 1], where the input is on the CPU and the code is not compiled.

    >>> Latency(3)(torch.tensor([[1.0, 0.5, 0.0]]))[:, 0].tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    >>> Latency(3, threshold=0.5)(torch.tensor([[0.5, 0.49]])).sum(0).tolist()
    [[1.0, 0.0]]
    """

    intensities = True

    def __init__(
        self, T: int, jitter: float = 0.0, seed: int = 0, threshold: float = 0.0, noise: str = "fresh"
    ) -> None:
        super().__init__()
        self.format: SpikeFormat = SpikeFormat()
        self.T = integer("Latency", "T", T, 1, 10_000)
        in_range("Latency", "jitter", jitter, 0, T)
        in_range("Latency", "threshold", threshold, 0, 1)
        self.jitter: float = jitter
        self.threshold: float = threshold
        kind = one_of("Latency", "noise", noise, KINDS)
        self.noise: Noise = Noise("Latency", seed, kind if jitter else "fixed")

    def forward(self, x: Tensor, seeds: Tensor | None = None) -> Tensor:
        """[B, ...] → {0, 1} [T, B, ...]; ``seeds`` int64 [B] replaces the seeds taken from the content."""
        self._check(x)
        dtype, x = x.dtype, in_full(x)  # half precision cannot tell all steps apart
        time = (1 - x) * (self.T - 1)
        if self.jitter:
            own = self.noise(x, seeds)
            time = time + (2 * uniform_noise(own, 1, tuple(x.shape[1:]))[0] - 1) * self.jitter
        slot = round_half(time).clamp(0, self.T - 1)
        steps = torch.arange(self.T, device=x.device, dtype=x.dtype).reshape(-1, *[1] * x.dim())
        return ((steps == slot) & (x > 0) & (x >= self.threshold)).to(dtype)

    def extra_repr(self) -> str:
        return f"T={self.T}, jitter={self.jitter}, threshold={self.threshold}"
