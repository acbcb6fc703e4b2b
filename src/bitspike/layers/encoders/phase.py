"""Coding by the binary digits of a value, one a step."""

from __future__ import annotations

import torch
from torch import Tensor

from bitspike.checks import integer
from bitspike.formats import SpikeFormat
from bitspike.layers.base import in_full
from bitspike.layers.encoders.base import ENCODERS, Encoder


@ENCODERS.register("phase")
class Phase(Encoder):
    """Weighted spikes: step t sends binary digit t mod K of x ∈ [0, 1], the greatest first, times its worth.

        s_t = 2^−(1+p)·⌊v/2^(K−1−p)⌋ mod 2,  p = t mod K,  v = min(⌊x·2^K⌋, 2^K − 1)

    The sum over K steps is v/2^K, which a neuron without leak keeps whole. With T below K only the greatest digits are
    sent; a T that is no multiple of K ends within a period. K = 8 sends the bits of a byte p/255 as they are (in
    float32; half precision may err by one).

    Source: Kim et al., "Deep neural networks with weighted spikes", Neurocomputing 311, 2018. Differs: the weights
    are part of what is sent, so any neuron may follow; there the thresholds of all layers have the same phase.

    Args:
        T: time steps, >= 1. bits: K, digits in a period, 1 to 8.

    Raises:
        ValueError: values outside [0, 1], where the input is on the CPU and the code is not compiled.

    >>> Phase(4, bits=3)(torch.tensor([[0.625, 1.0, 0.0]]))[:, 0].T.tolist()
    [[0.5, 0.0, 0.125, 0.5], [0.5, 0.25, 0.125, 0.5], [0.0, 0.0, 0.0, 0.0]]
    """

    intensities = True

    def __init__(self, T: int, bits: int = 8) -> None:
        super().__init__()
        self.T = integer("Phase", "T", T, 1, 10_000)
        self.bits: int = integer("Phase", "bits", bits, 1, 8)
        self.format: SpikeFormat = SpikeFormat(0, 2 ** (bits - 1), fraction_bits=bits)

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] → [T, B, ...], at step t 0 or 2^−(1 + t mod K)."""
        self._check(x)
        value = (in_full(x) * 2**self.bits).floor().clamp(0, 2**self.bits - 1)
        worths = [2.0 ** -(1 + step % self.bits) for step in range(self.T)]
        worth = torch.tensor(worths, dtype=value.dtype, device=x.device).reshape(-1, *[1] * x.dim())
        digit = (value * 2.0**-self.bits / worth).floor() % 2
        return (digit * worth).to(x.dtype)

    def extra_repr(self) -> str:
        return f"T={self.T}, bits={self.bits}"
