"""Bits of values over time, from formats that may differ from step to step, and what counts as a shift."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bitspike.checks import bad_value
from bitspike.formats import SpikeFormat


def formats_over_time(record: SpikeFormat | Sequence[SpikeFormat], steps: int) -> tuple[SpikeFormat, ...]:
    """One format per time step: the same at every step, or T records.

    Raises:
        ValueError: as many records as steps are wanted.

    >>> [f.bits for f in formats_over_time(SpikeFormat(0, 3), 3)]
    [2, 2, 2]
    """
    if isinstance(record, SpikeFormat):
        return (record,) * steps
    if len(record) != steps:
        raise bad_value("cost", f"a format per step takes {steps} records", len(record), "give one per time step")
    return tuple(record)


def sum_bits(formats: Sequence[SpikeFormat]) -> int:
    """Bits that hold the sum of one spike of each format: ``⌈log2(1 + Σ_t (levels_t − 1))⌉``; 32 where one is real.

    For T binary steps this is ⌈log2(T + 1)⌉. Source: the mapping of rate-coded networks to quantised ones in
    "Reconsidering the Energy Efficiency of Spiking Neural Networks Inference" (arXiv 2409.08290), abstract;
    graded spikes: ours.

    >>> sum_bits([SpikeFormat()] * 4), sum_bits([SpikeFormat(0, 3)]), sum_bits([SpikeFormat(-1, 1)] * 2)
    (3, 2, 3)
    """
    return 32 if any(f.real for f in formats) else sum(f.levels - 1 for f in formats).bit_length()


def levels(spikes: Tensor, scale: Tensor) -> Tensor:
    """Spikes [T, B, C, ...] → integer levels, given the value of one level, [] or [C]."""
    on = scale.to(spikes.device)
    return (spikes.double() / (on.reshape(-1, *[1] * (spikes.dim() - 3)) if on.dim() else on)).round()


def powers(factor: Tensor) -> Tensor:
    """Whether each factor is ± a power of two: a shift, not a multiplication; a boolean of the same shape.

    >>> powers(torch.tensor([0.5, -2.0, 1.0, 3.0, 0.0])).tolist()
    [True, True, True, False, False]
    """
    return torch.frexp(factor)[0].abs() == 0.5


def scaled_values(factor: Tensor, values: Tensor) -> tuple[float, float]:
    """(multiplications, shifts) per sample that scaling takes; a factor of ±1 takes neither.

    Args:
        factor: [] or [C]. values: [T, B, C, ...]; 1 for each value to scale, else 0.

    >>> scaled_values(torch.tensor([0.3, 0.5, 1.0]), torch.ones(2, 4, 3))
    (2.0, 2.0)
    """
    channels = values.sum([axis for axis in range(values.dim()) if axis != 2], dtype=torch.float64)
    per_channel = factor.to(values.device).reshape(-1).expand(len(channels))
    power, one = powers(per_channel), per_channel.abs() == 1
    samples = values.shape[1]
    return float(channels[~power].sum()) / samples, float(channels[power & ~one].sum()) / samples
