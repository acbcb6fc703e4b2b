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
from bitspike.graph.meeting import meeting
from bitspike.layers import PairProduct

Formats = tuple[SpikeFormat, ...]


def product_row(
    node: Node, module: PairProduct, inputs: Sequence[Tensor], spikes: Sequence[Spikes | None]
) -> LayerCost:
    """Pairs of two non-zero values, step by step: an addition where one of both is binary or ternary; of other
    integers a shift-addition per set bit of the one with fewer in all; else a multiplication. Channels with other
    alphabets are counted apart. A signal that is multiplied with itself is read once.

    Args:
        inputs: a and b [T, B, C, ...]. spikes: what they carry; None where they are real.
    """
    steps, samples = inputs[0].shape[:2]
    row = LayerCost(node.name, "product", "product", steps, path=node.path)
    ones = [torch.ones_like(x[:1, :1], dtype=torch.float64) for x in inputs]
    row.macs = int(module(*ones).sum())
    row.outputs = module(*ones).numel()
    trains = [_trains(one, steps) for one in spikes]
    known = [one if one is not None and one.whole else None for one in spikes]
    met = meeting([None if one is None else one.channels for one in known])
    assert met is not None, "factors fit"
    pairs, index = met
    events = 0.0
    for k, (p, q) in enumerate(pairs):
        own = None if index is None else (index == k).nonzero().flatten()
        chosen = [_picked(x, own) for x in inputs]
        digits = [_digits(x, one, own, train[part])
                  for x, one, train, part in zip(chosen, known, trains, (p, q), strict=True)]  # fmt: skip
        events += _operate(row, module, chosen, (trains[0][p], trains[1][q]), digits) / samples
    row.rate = events / (steps * row.macs)
    sizes = [x.numel() // (steps * samples) for x in inputs][: len(node.inputs)]
    row.inputs = sum(sizes)
    bits = [[tuple(record.bits for record in formats) for formats in train] for train in trains]
    row.step_bits = tuple(max(part[t] for part in bits[0]) for t in range(steps))
    row.input_bits, row.weight_bits = max(row.step_bits), max(max(part) for part in bits[1])
    row.sum_bits = max(sum_bits(formats) for formats in trains[0])
    row.spiking = None not in known
    counts = [[size] if one is None else one.counts(size) for size, one in zip(sizes, known, strict=False)]
    row.spike_bytes = sum(n * sum(part) for count, of in zip(counts, bits, strict=False)
                          for n, part in zip(count, of, strict=True)) / 8  # fmt: skip
    return row


def _operate(
    row: LayerCost,
    module: PairProduct,
    inputs: Sequence[Tensor],
    alphabets: tuple[Formats, Formats],
    digits: Sequence[Tensor | None],
) -> float:
    """Add the operations of inputs with one alphabet each; returns the pairs of all samples."""
    samples = inputs[0].shape[1]
    fired = [(x != 0).double() for x in inputs]
    events = module(*fired).flatten(1).sum(1)
    for t, (a, b) in enumerate(zip(*alphabets, strict=True)):
        if a.adds or b.adds:
            row.adds += float(events[t]) / samples
        elif digits[0] is None or digits[1] is None or a.slope != 1 or b.slope != 1:
            row.multiplications += float(events[t]) / samples
        else:
            by = (module(digits[0][t:][:1], fired[1][t:][:1]), module(fired[0][t:][:1], digits[1][t:][:1]))
            row.shift_adds += min(float(found.sum()) for found in by) / samples
    return float(events.sum())


def _trains(spikes: Spikes | None, steps: int) -> list[Formats]:
    """Alphabets at every step, of every part; real where there are none."""
    if spikes is None or not spikes.whole:
        return [(SpikeFormat(real=True),) * steps]
    return [formats_over_time(formats or (), steps) for _, formats in spikes.parts]


def _picked(x: Tensor, own: Tensor | None) -> Tensor:
    """Some channels of x; all of one that is repeated."""
    return x if own is None or x.shape[2] == 1 else x.index_select(2, own.to(x.device))


def _digits(x: Tensor, spikes: Spikes | None, own: Tensor | None, formats: Formats) -> Tensor | None:
    """Set bits of every level; None where values are no levels."""
    if spikes is None or any(record.real for record in formats):
        return None
    scale = spikes.scale
    scale = scale[..., own] if own is not None and scale.dim() and scale.shape[-1] > 1 else scale
    k = levels(x, scale, formats[0].slope)
    return popcount(k, max(max(-record.low, record.high) for record in formats).bit_length()).double()
