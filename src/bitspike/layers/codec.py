"""Encoders (sample → sequence) and read-outs (sequence → logits)."""

from __future__ import annotations

import torch
from torch import Tensor

from bitspike.checks import bad_value, floating, in_range, integer, time_first
from bitspike.formats import SpikeFormat
from bitspike.functional import round_half
from bitspike.layers.base import TimeLayer, in_full

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(x: Tensor, by: int) -> Tensor:
    return (x >> by) & ((1 << (64 - by)) - 1)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64 finaliser on int64 tensors (wrapping)."""
    x = (x + _GOLDEN) ^ _shift(x + _GOLDEN, 30)
    x = x * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    return x ^ _shift(x, 31)


def content_seeds(x: Tensor, seed: int) -> Tensor:
    """One int64 seed per sample from its own values: the same sample gets the same noise in any batch.

    Args:
        x: [B, ...] floating. seed: base seed.
    """
    bits = x.detach().float().contiguous().view(torch.int32).to(torch.int64).flatten(1)
    place = _mix(torch.arange(bits.shape[1], device=x.device))
    return _mix(_mix(bits ^ place).sum(1) + seed)


def uniform_noise(seeds: Tensor, steps: int, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [0, 1), float32 [steps, B, *shape], a pure function of (seed, step, position)."""
    size = 1
    for side in shape:
        size *= side
    counter = torch.arange(steps * size, device=seeds.device).reshape(steps, 1, size)
    drawn = _mix(_mix(counter) + seeds.reshape(1, -1, 1))
    return (_shift(drawn, 40).float() / 2.0**24).reshape(steps, len(seeds), *shape)


class Encoder(TimeLayer):
    """Sample [B, ...] → sequence [T, B, ...]; streams are fed with what it would emit.

    Attributes:
        T: time steps.
        format: alphabet of what it emits; None where it emits real values.
    """

    T: int
    format: SpikeFormat | None = None

    def _check(self, x: Tensor) -> None:
        floating(type(self).__name__, x)
        if x.dim() < 2:
            raise bad_value(type(self).__name__, "the input must be [B, ...]", list(x.shape), "add a batch axis")


class Repeat(Encoder):
    """Direct coding: every step sees the sample itself (a view; nothing is copied).

    Source: Ternary Spike's code.

    Args:
        T: time steps, >= 1.

    >>> Repeat(3)(torch.zeros(2, 1, 4, 4)).shape
    torch.Size([3, 2, 1, 4, 4])
    """

    def __init__(self, T: int) -> None:
        super().__init__()
        self.T = integer("Repeat", "T", T, 1, 10_000)

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] → [T, B, ...]."""
        self._check(x)
        return x.unsqueeze(0).expand(self.T, *[-1] * x.dim())

    def extra_repr(self) -> str:
        return f"T={self.T}"


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


class MeanReadout(TimeLayer):
    """Logits averaged over time, [T, B, K] → [B, K]; in a stream the mean of all steps so far.

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
        """Mean over axis 0, summed step by step so that a stream gives the same bits."""
        time_first("MeanReadout", x, 3)
        return self.stream_step(x, None)[0]

    def stream_step(self, x: Tensor, state: tuple[Tensor, int] | None) -> tuple[Tensor, tuple[Tensor, int]]:
        """Running mean; the state is (sum [B, K], in float32 where x has half precision, steps)."""
        total, steps = (torch.zeros_like(in_full(x[0])), 0) if state is None else state
        if self.keep is not None:
            return self._kept(self.keep, x, total, steps)
        for logits in x.unbind(0):
            total = total + logits
        steps += x.shape[0]
        return (total / steps).to(x.dtype), (total, steps)

    @staticmethod
    def _kept(keep: Tensor, x: Tensor, total: Tensor, steps: int) -> tuple[Tensor, tuple[Tensor, int]]:
        weights = keep.to(total.dtype)
        for logits in x.unbind(0):
            total = total + logits * weights[min(steps, len(keep) - 1)]
            steps += 1
        later = max(steps - len(keep), 0) * weights[-1]
        return (total / (weights[:steps].sum() + later).clamp_min(1)).to(x.dtype), (total, steps)


class StepReadout(TimeLayer):
    """Logits of every step, [T, B, K] unchanged, for losses per step (TET)."""

    scaling = "linear"

    def forward(self, x: Tensor) -> Tensor:
        """The input."""
        time_first("StepReadout", x, 3)
        return x
