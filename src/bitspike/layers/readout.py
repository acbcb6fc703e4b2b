"""Read-outs: sequence of logits → what the network returns."""

from __future__ import annotations

import torch
from torch import Tensor

from bitspike.checks import integer, time_first
from bitspike.layers.base import TimeLayer, in_full
from bitspike.layers.padding import like, step_mask, valid_lengths


class MeanReadout(TimeLayer):
    """The usual end of a network: one answer from T steps.

    Logits averaged over time, [T, B, K] → [B, K]; in a stream the mean of all steps so far.

    Args:
        steps: 0: all steps count. Else the buffer ``keep`` [steps] of 0 and 1 says which do, its last value for later
            steps: a network whose spikes take a while to get through may leave out the first ones. The mean of none is
            0.

    >>> late = MeanReadout(3); late.keep[0] = 0
    >>> late(torch.tensor([9.0, 1.0, 2.0]).reshape(3, 1, 1)).item()
    1.5
    """

    scaling = "linear"
    stateful = True
    keep: Tensor | None

    def __init__(self, steps: int = 0) -> None:
        super().__init__()
        integer("MeanReadout", "steps", steps, 0, 10_000)
        self.register_buffer("keep", torch.ones(steps) if steps else None)

    def forward(self, x: Tensor) -> Tensor:
        """Mean over axis 0, summed step by step so that a stream gives the same bits; in `padded` of a sample's."""
        time_first("MeanReadout", x)
        lengths = valid_lengths()
        if lengths is not None:
            return self._mean_of(x, lengths)
        return self.stream_step(x, None)[0]

    def _mean_of(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The mean over the first ``lengths[b]`` steps of every sample, with the bits of that sample alone."""
        kept = like(step_mask(lengths, len(x)), x)
        total, count = torch.zeros_like(in_full(x[0])), torch.zeros_like(in_full(x[0][..., :1]))
        for step, (logits, own) in enumerate(zip(x.unbind(0), kept.unbind(0), strict=True)):
            weight = 1.0 if self.keep is None else self.keep[min(step, len(self.keep) - 1)].to(total.dtype)
            total = torch.where(own, total + logits * weight, total)
            count = torch.where(own, count + weight, count)
        return (total / count.clamp_min(1)).to(x.dtype)

    def stream_step(self, x: Tensor, state: tuple[Tensor, int] | None) -> tuple[Tensor, tuple[Tensor, int]]:
        """Running mean; the state is (sum [B, K], in float32 where x has half precision, steps)."""
        total, steps = (torch.zeros_like(in_full(x[0])), 0) if state is None else state
        for logits in x.unbind(0):
            weight = None if self.keep is None else self.keep[min(steps, len(self.keep) - 1)].to(total.dtype)
            total = total + (logits if weight is None else logits * weight)
            steps += 1
        return self.mean(total, steps).to(x.dtype), (total, steps)

    def mean(self, total: Tensor, steps: int) -> Tensor:
        """The sum of so many steps, divided by those that count; the mean of none is 0."""
        if self.keep is None:
            return total / max(steps, 1)
        weights = self.keep.to(total.dtype)
        later = max(steps - len(weights), 0) * weights[-1]
        return total / (weights[:steps].sum() + later).clamp_min(1)


class StepReadout(TimeLayer):
    """The end of a network that answers at every step.

    Logits of every step, [T, B, K] unchanged, for losses per step (TET).
    """

    scaling = "linear"

    def forward(self, x: Tensor) -> Tensor:
        """The input."""
        time_first("StepReadout", x)
        return x
