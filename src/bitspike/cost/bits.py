"""Bits of values over time, from formats that may differ from step to step, and what counts as a shift."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bitspike.formats import SpikeFormat


def sum_bits(formats: Sequence[SpikeFormat]) -> int:
    """Bits that hold the sum of one spike of each format: ``⌈log2(1 + Σ_t (levels_t − 1))⌉``; 32 where one is real.

    For T binary steps this is ⌈log2(T + 1)⌉. Source: the mapping of rate-coded networks to quantized ones in
    "Reconsidering the Energy Efficiency of Spiking Neural Networks Inference" (arXiv 2409.08290), abstract;
    graded spikes: ours.

    >>> sum_bits([SpikeFormat()] * 4), sum_bits([SpikeFormat(0, 3)]), sum_bits([SpikeFormat(-1, 1)] * 2)
    (3, 2, 3)
    """
    return 32 if any(f.real for f in formats) else sum(f.levels - 1 for f in formats).bit_length()


def over(factor: Tensor, values: Tensor, channel_dim: int | None = None) -> Tensor:
    """A factor [], [C] or [steps, C] (the last step for all later ones), to broadcast over values [T, B, C, ...].

    With ``channel_dim`` -1 over values [T, B, ..., C].
    """
    on = factor.detach().to(values.device)
    inner = [1] * (values.dim() - 3)
    around = [*inner, -1] if channel_dim == -1 else [-1, *inner]
    if on.dim() == 2:
        later = max(len(values) - len(on), 0)
        return torch.cat([on[: len(values)], on[-1:].expand(later, -1)]).reshape(len(values), 1, *around)
    return on.reshape(around) if on.dim() else on


def levels(spikes: Tensor, scale: Tensor, slope: float = 1.0, channel_dim: int | None = None) -> Tensor:
    """Spikes [T, B, C, ...] → integer levels, given the value of one level, as in `over`, and that of negative ones.

    >>> levels(torch.tensor([[[1.5, -0.25]]]), torch.tensor(0.5), 0.25).tolist()
    [[[3.0, -2.0]]]
    """
    k = spikes.double() / over(scale, spikes, channel_dim)
    return (k if slope == 1 else torch.where(k < 0, k / slope, k)).round()


def powers(factor: Tensor) -> Tensor:
    """Whether each factor is ± a power of two: a shift, not a multiplication; a boolean of the same shape.

    >>> powers(torch.tensor([0.5, -2.0, 1.0, 3.0, 0.0])).tolist()
    [True, True, True, False, False]
    """
    return torch.frexp(factor)[0].abs() == 0.5


def scaled_values(factor: Tensor, values: Tensor, channel_dim: int | None = None) -> tuple[float, float]:
    """(multiplications, shifts) per sample that scaling takes; a factor of ±1 takes neither.

    Args:
        factor, channel_dim: as in `over`. values: boolean [T, B, C, ...]: what is scaled.

    >>> scaled_values(torch.tensor([0.3, 0.5, 1.0]), torch.ones(2, 4, 3, dtype=torch.bool))
    (2.0, 2.0)
    """
    shaped = over(factor, values, channel_dim)
    power, one = powers(shaped), shaped.abs() == 1
    samples = values.shape[1]
    return float((values & ~power).sum()) / samples, float((values & power & ~one).sum()) / samples
