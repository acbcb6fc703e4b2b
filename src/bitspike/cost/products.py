"""Operations of a product of two signals: pairs of which neither is silent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bitspike.cost.bits import levels, sum_bits
from bitspike.cost.record import LayerCost
from bitspike.formats import SpikeFormat, formats_over_time
from bitspike.functional import popcount
from bitspike.graph import Node, Spikes
from bitspike.layers import PairProduct

_REAL = SpikeFormat(real=True)


def product_row(
    node: Node, module: PairProduct, inputs: Sequence[Tensor], spikes: Sequence[Spikes | None]
) -> LayerCost:
    """Pairs of two non-zero values, step by step: an addition where one of both is binary or ternary; of other
    integers a shift-addition per set bit of the one with fewer in all; else a multiplication.

    Args:
        inputs: a and b [T, B, C, ...]. spikes: what they carry; None where they are real.
    """
    steps, samples = inputs[0].shape[:2]
    row = LayerCost(node.name, "product", "product", steps, path=node.path)
    fired = [(x != 0).double() for x in inputs]
    ones = [torch.ones_like(x[:1, :1], dtype=torch.float64) for x in inputs]
    row.macs = int(module(*ones).sum())
    values = module(*ones).numel()
    alphabets = [_alphabets(one, steps) for one in spikes]
    events = module(*fired).flatten(1).sum(1) / samples
    digits = [_digits(x, one) for x, one in zip(inputs, spikes, strict=True)]
    for t in range(steps):
        a, b = (formats[t] for formats in alphabets)
        if a.adds or b.adds:
            row.adds += float(events[t])
        elif digits[0] is None or digits[1] is None or a.slope != 1 or b.slope != 1:
            row.multiplications += float(events[t])
        else:
            by = (module(digits[0][t:][:1], fired[1][t:][:1]), module(fired[0][t:][:1], digits[1][t:][:1]))
            row.shift_adds += min(float(found.sum()) for found in by) / samples
    row.rate = float(events.sum()) / (steps * row.macs)
    sizes = [x.numel() // (steps * samples) for x in inputs]
    row.inputs, row.outputs = sum(sizes), values
    bits = [tuple(record.bits for record in formats) for formats in alphabets]
    row.step_bits, row.weight_bits = bits[0], max(bits[1])
    row.input_bits, row.sum_bits = max(bits[0]), sum_bits(alphabets[0])
    row.spiking = all(one is not None and one.whole for one in spikes)
    row.spike_bytes = sum(size * sum(given) for size, given in zip(sizes, bits, strict=True)) / 8
    return row


def _alphabets(spikes: Spikes | None, steps: int) -> tuple[SpikeFormat, ...]:
    """Of one kind of spikes at every step; real where there is none, or where channels have several."""
    if spikes is None or not spikes.whole or len(spikes.parts) > 1:
        return (_REAL,) * steps
    return formats_over_time(spikes.parts[0][1] or (), steps)


def _digits(x: Tensor, spikes: Spikes | None) -> Tensor | None:
    """Set bits of every level; None where values are no levels."""
    formats = _alphabets(spikes, len(x))
    if spikes is None or any(record.real for record in formats):
        return None
    k = levels(x, spikes.scale, formats[0].slope)
    return popcount(k, max(max(-record.low, record.high) for record in formats).bit_length()).double()
