"""Spikes where a sequence has moved: send-on-delta."""

from __future__ import annotations

import torch
from torch import Tensor

from bitspike.checks import integer, one_of, positive, single
from bitspike.formats import SpikeFormat
from bitspike.layers.base import in_full
from bitspike.layers.encoders.base import ENCODERS, Encoder

FOLLOWS = ("input", "step")


@ENCODERS.register("delta")
class Delta(Encoder):
    """Threshold crossing: +1 where a sample [T, ...] has risen by the threshold since the last spike, −1 where it fell.

        s_t = sign(d_t)·[|d_t| ≥ threshold],  d_t = x_t − r_t;  r_{t+1} = x_t ("input") or r_t + threshold·s_t ("step")
        where s_t ≠ 0, else r_t;  r_0 = 0

    Both polarities stand in one number. There is at most one spike a step and place: what moves by many thresholds in a
    step sends one spike; with "step" it sends on, and ``threshold·Σ s`` follows the sample, with "input" the size of a
    move is lost. r begins at 0, so a sample that begins elsewhere sends at once; one that rests sends nothing more,
    which is why still samples are not encoded.

    Source: M. Miskowicz, "Send-on-delta concept: an event-based data reporting strategy", Sensors 6(1), 2006 ("input").
    N. Kasabov et al., "Evolving spatio-temporal data machines based on the NeuCube neuromorphic framework", Neural
    Networks 78, 2016 ("step": step-forward encoding, from memory [?]). Differs: r begins at 0, not at the first value.

    Args:
        T: time steps, >= 1; a sample must have as many. threshold: > 0, in units of the sample. follow: "input" or
            "step", what r becomes. ragged: samples may have fewer steps.

    What is NaN or infinite sends NaN.

    >>> x = torch.tensor([0.2, 1.1, 1.4, -2.0, -2.1]).reshape(1, 5, 1)
    >>> Delta(5)(x).flatten().tolist(), Delta(5, follow="step")(x).flatten().tolist()
    ([0.0, 1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0, -1.0])
    """

    sequences = True

    def __init__(self, T: int, threshold: float = 1.0, follow: str = "input", ragged: bool = False) -> None:
        super().__init__()
        self.format: SpikeFormat = SpikeFormat(-1, 1)
        self.T = integer("Delta", "T", T, 1, 10_000)
        self.ragged: bool = ragged
        positive("Delta", "threshold", threshold)
        self.threshold: float = threshold
        self.follow: str = one_of("Delta", "follow", follow, FOLLOWS)
        single("Delta", self)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, ...] → {-1, 0, 1} [T, B, ...]."""
        self._check(x)
        dtype, frames = x.dtype, in_full(x).transpose(0, 1)
        sent, last = [], torch.zeros_like(frames[0])
        for frame in frames.unbind(0):
            moved = frame - last
            spike = torch.where(moved.abs() >= self.threshold, moved.sign(), 0.0)
            last = torch.where(spike != 0, frame, last) if self.follow == "input" else last + self.threshold * spike
            sent.append(spike.masked_fill(~frame.isfinite(), float("nan")))
        return torch.stack(sent).to(dtype)

    def extra_repr(self) -> str:
        return f"T={self.T}, threshold={self.threshold}, follow={self.follow!r}, ragged={self.ragged}"
