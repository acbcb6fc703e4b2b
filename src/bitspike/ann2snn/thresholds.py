"""The range that a neuron's levels cover, from activations seen in calibration."""

from __future__ import annotations

import torch
from torch import Tensor

from bitspike.checks import bad_value, in_range

ROWS = 2**15
_CANDIDATES = 96
_LEAST = 2.0**-8


def quantized(x: Tensor, step: Tensor, levels: int, T: int, initial: float, slope: float = 0.0) -> Tensor:
    """Mean output over T steps of an integrate-and-fire neuron with constant current x [N, C].

    ``step/T·clip(⌊T·x/step + initial⌋, 0, T·levels)``: T steps of `levels` levels are one step of T·levels levels. With
    a slope the clip is on both sides and negative results are multiplied by it; halves below 0 are then off by one
    level, as the neuron rounds them away from 0.

    Source: LM-HT (NeurIPS 2024), lemma 4.1 and theorem 4.2 (soft reset, constant input).

    >>> quantized(torch.tensor([[0.3], [0.9]]), torch.tensor([0.5]), 3, 2, 0.5).flatten().tolist()
    [0.25, 1.0]
    """
    fine = step / T
    if slope:
        y = torch.floor(x / fine + initial).clamp(-T * levels, T * levels) * fine
        return torch.where(y < 0, y * slope, y)
    return torch.floor(x / fine + initial).clamp(0, T * levels) * fine


def rows_of(x: Tensor) -> Tensor:
    """[T, B, C, ...] → [N, C], one row a sample, step and place."""
    return x.movedim(2, -1).reshape(-1, x.shape[2]) if x.dim() > 2 else x.reshape(-1, 1)


def thinned(x: Tensor, count: int = ROWS) -> Tensor:
    """At most ``count`` rows, one drawn from each of as many runs of equal length, the same ones at every call.

    Every n-th row will not do: where n divides the width of an image, all of them lie in a few of its columns.
    """
    if len(x) <= count:
        return x
    runs = torch.arange(count + 1) * len(x) // count
    share = torch.rand(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x[(runs[:-1] + (share * runs.diff()).long()).to(x.device)]


def ranges(
    method: str,
    wanted: Tensor,
    got: Tensor,
    levels: int,
    T: int,
    initial: float,
    percentile: float,
    slope: float = 0.0,
) -> Tensor:
    """The value of the highest level, per column.

    - "max": the greatest activation;
    - "percentile": that percentile of the activations above 0;
    - "mse": of 96 shares of the greatest activation, the one with the least ``Σ (quantized(got) − wanted)²``.

    Args:
        method: as above. wanted: activations of the ANN [N, C], >= 0, or of a LeakyReLU, whose negative ones are then
            taken as large as their inputs. got: mean currents of the SNN [N, C].
        levels, T, initial, slope: of the neuron, see `quantized`. percentile: in (0, 100].

    Returns:
        [C], > 0: columns that are never active get the greatest range of all (1 if all are silent).

    Raises:
        ValueError: an unknown method, or a percentile out of range.
    """
    sizes = torch.where(wanted < 0, wanted / -slope, wanted) if slope else wanted
    top = sizes.amax(0)
    if method == "max":
        found = top
    elif method == "percentile":
        in_range("ann2snn", "percentile", percentile, 0, 100)
        found = torch.stack([_percentile(column, percentile) for column in thinned(sizes).unbind(1)])
    elif method == "mse":
        found = _least_error(thinned(wanted), thinned(got), top, levels, T, initial, slope)
    else:
        raise bad_value("ann2snn", "the threshold must be 'max', 'percentile' or 'mse'", repr(method), "choose one")
    greatest = float(found.max())
    if greatest <= 0:
        return torch.ones_like(found)
    return torch.where(top > 0, found.clamp_min(greatest * _LEAST), torch.full_like(found, greatest))


def _percentile(column: Tensor, percentile: float) -> Tensor:
    active = column[column > 0]
    return torch.quantile(active, percentile / 100) if len(active) else column.new_zeros(())


def _least_error(wanted: Tensor, got: Tensor, top: Tensor, levels: int, T: int, initial: float, slope: float) -> Tensor:
    best, chosen = torch.full_like(top, torch.inf), top
    for share in range(4, _CANDIDATES + 4):
        candidate = top * (share / (_CANDIDATES + 3))
        step = candidate.clamp_min(torch.finfo(top.dtype).tiny) / levels
        error = (quantized(got, step, levels, T, initial, slope) - wanted).square().mean(0)
        better = error < best
        best, chosen = torch.where(better, error, best), torch.where(better, candidate, chosen)
    return chosen
