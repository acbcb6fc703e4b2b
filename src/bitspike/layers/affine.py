"""What folding leaves behind: a per-channel affine map and an explicit gain, both counted as multiplications."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from bitspike.checks import one_of, time_first
from bitspike.formats import SpikeFormat
from bitspike.functional import once
from bitspike.layers.base import TimeLayer
from bitspike.neurons.emission import over_time


def _per_channel(value: Tensor, x: Tensor) -> Tensor:
    """[] or [C] shaped to broadcast over x [T, B, C, ...]."""
    return value.reshape(-1, *[1] * (x.dim() - 3)) if value.dim() else value


class Affine(TimeLayer):
    """Scales and shifts every channel: what is left of a batch norm that folding could not remove.

    ``y = scale·x + shift`` per channel: a folded batch norm behind integer weights.

    Args:
        scale, shift: [C] (or [] for all channels).
    """

    tensors: ClassVar[tuple[str, ...]] = ("scale", "shift")

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.clone())
        self.register_buffer("shift", shift.clone())
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """x [T, B, C, ...] → the same shape."""
        time_first("Affine", x, 3)
        return once(self._map, x)

    def _map(self, x: Tensor) -> Tensor:
        return (x * _per_channel(self.scale, x) + _per_channel(self.shift, x)).to(x.dtype)


class Gain(TimeLayer):
    """Multiplies by a factor that folding could not move into weights.

    ``y = factor·x``: a factor that could not be folded into weights.

    A factor that changes with time has a state in streams: the steps so far.

    Args:
        factor: [] or [C]; [steps, 1] or [steps, C] where it changes with time (the last step's for all later ones).
        channel_dim: axis of the channels in one step: 1 of [B, C, ...], or -1 of [B, ..., C], tokens for example.

    >>> gain, x = Gain(torch.tensor([[1.0], [2.0], [4.0]])), torch.ones(2, 1, 1)
    >>> first, steps = gain.stream_step(x, None); second, steps = gain.stream_step(x, steps)
    >>> first.flatten().tolist(), second.flatten().tolist(), steps
    ([1.0, 2.0], [4.0, 4.0], 4)
    """

    scaling = "linear"
    tensors: ClassVar[tuple[str, ...]] = ("factor",)

    def __init__(self, factor: Tensor, channel_dim: int = 1) -> None:
        super().__init__()
        self.channel_dim: int = one_of("Gain", "channel_dim", channel_dim, (1, -1))
        self.register_buffer("factor", factor.clone())
        self.factor: Tensor

    @property
    def stateful(self) -> bool:  # type: ignore[override]
        """Whether the factor changes with time."""
        return self.factor.dim() == 2

    def forward(self, x: Tensor) -> Tensor:
        """x [T, B, C, ...] → the same shape."""
        return self.stream_step(x, None)[0]

    def stream_step(self, x: Tensor, state: int | None) -> tuple[Tensor, int]:
        """One chunk, and the steps so far."""
        time_first("Gain", x, 3)
        done = state or 0
        factor = self.factor[min(done, len(self.factor) - 1) :] if self.stateful else self.factor
        return (x * over_time(factor, x, self.channel_dim)).to(x.dtype), done + len(x)

    def format_of(self, spikes: SpikeFormat | None) -> SpikeFormat | None:
        """Alphabet of integer spikes that are shifted to the left; None for any other factor."""
        mantissa, _ = torch.frexp(self.factor)
        shifts = bool(((mantissa == 0.5) & (self.factor >= 1)).all())
        if spikes is None or spikes.real or not shifts:
            return None
        shifted = spikes.summed(int(self.factor.max()))
        return None if shifted is None else replace(shifted, unary=0)
