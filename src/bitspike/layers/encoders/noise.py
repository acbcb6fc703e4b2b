"""Random numbers that are a function of a seed, a step and a place: any batch gives a sample the same ones."""

from __future__ import annotations

import torch
from torch import Tensor

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
