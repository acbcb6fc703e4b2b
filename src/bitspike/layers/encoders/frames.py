"""Samples that have a time axis of their own."""

from __future__ import annotations

from torch import Tensor

from bitspike.checks import integer
from bitspike.layers.encoders.base import ENCODERS, Encoder


@ENCODERS.register("frames")
class Frames(Encoder):
    """No coding: step t sees frame t of a sample [T, ...] (event frames, spectra, any sequence).

    Args:
        T: time steps, >= 1; a sample must have as many frames. ragged: it may have fewer.

    >>> import torch; x = torch.arange(6.0).reshape(1, 3, 2)  # one sample of three frames
    >>> Frames(3)(x)[:, 0].tolist()
    [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    """

    sequences = True

    def __init__(self, T: int, ragged: bool = False) -> None:
        super().__init__()
        self.T = integer("Frames", "T", T, 1, 10_000)
        self.ragged: bool = ragged

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, ...] → [T, B, ...]; channels-last frames stay in that order of memory."""
        self._check(x)
        frames = x.transpose(0, 1)
        ordered = frames.dim() == 5 and frames.movedim(2, -1).is_contiguous()
        return frames if ordered else frames.contiguous()

    def extra_repr(self) -> str:
        return f"T={self.T}, ragged={self.ragged}"
