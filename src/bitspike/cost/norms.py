"""Operations of norms that measure what they get, and of norms of torch that amount to constants."""

from __future__ import annotations

import torch
from torch import Tensor

from bitspike.cost.bits import scaled_values
from bitspike.cost.memory import Memory
from bitspike.cost.record import LayerCost
from bitspike.graph import Node
from bitspike.upgrade.norms import Measured

_ONE = torch.ones(1, 1, 1, dtype=torch.bool)


def measured_row(node: Node, found: Measured, x: Tensor, memory: Memory) -> LayerCost:
    """Of n real values in g groups of m, at every step: m − 1 additions and a scaling a group for its mean, n
    subtractions of it, n squares, m − 1 additions, a scaling, the addition of eps, a root and a division a group for
    its deviation, n multiplications by that, and n more each for factors, n additions for shifts.

    The values are written and read once more, in 32 bits, since they are needed again behind the statistics.
    """
    steps, samples = x.shape[:2]
    values = x.numel() // (steps * samples)
    groups, passes = found.groups, 1 + found.centred
    row = LayerCost(node.name, "norm", "norm", steps, path=node.path)
    row.inputs = row.outputs = values
    row.rate = float((x != 0).double().mean())
    scaling, shifts = scaled_values(torch.tensor(groups / values, dtype=torch.float64), _ONE)
    sums = passes * (values - groups) + groups
    row.adds = row.fixed_adds = float(steps * (sums + values * (found.centred + found.shifted)))
    row.multiplications = steps * (passes * groups * scaling + values * (2 + found.weighted))
    row.shifts = steps * passes * groups * shifts
    row.divisions = float(steps * groups)
    row.step_bits = (32,) * steps
    row.spike_bytes = 2.0 * steps * values * 32 / 8
    _hold(row, found.numbers, memory)
    return row


def constant_row(node: Node, numbers: int, x: Tensor, memory: Memory) -> LayerCost:
    """A multiplication and an addition per value and step, as of an unfolded batch norm."""
    steps, samples = x.shape[:2]
    row = LayerCost(node.name, "norm", "norm", steps, path=node.path)
    row.inputs = row.outputs = x.numel() // (steps * samples)
    row.rate = float((x != 0).double().mean())
    row.multiplications = row.adds = row.fixed_adds = float(steps * row.inputs)
    _hold(row, numbers, memory)
    return row


def _hold(row: LayerCost, numbers: int, memory: Memory) -> None:
    row.parameters = numbers
    row.size_bits = 32 * numbers
    row.weight_bytes = memory.passes(row.T) * row.size_bits / 8
