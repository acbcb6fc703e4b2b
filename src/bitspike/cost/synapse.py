"""Operations, bits and bytes of one synapse, from the formats on its two sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bitspike.cost.bits import levels, powers, sum_bits
from bitspike.cost.memory import Memory
from bitspike.cost.record import LayerCost
from bitspike.formats import SpikeFormat
from bitspike.functional import popcount
from bitspike.graph import Node
from bitspike.layers import Synapse


class Train(NamedTuple):
    """The spikes of a neuron: formats of its steps, and its rate."""

    formats: tuple[SpikeFormat, ...]
    rate: float


def synapse_row(
    node: Node,
    module: Synapse,
    x: Tensor,
    y: Tensor,
    spikes: Sequence[SpikeFormat] | None,
    scale: Tensor,
    real_bits: int,
    memory: Memory,
    train: Train | None = None,
) -> LayerCost:
    """The row of a synapse.

    Where it reads the sum or mean of a train in fewer passes, T, operations and bytes are those of the passes, while
    bits over time and the ACE metrics are those of the train, as the papers count.

    Args:
        node, module: the synapse. x: its input [T, B, I, ...]; y: its output.
        spikes: alphabet of the input at each step; None where it is real.
        scale: value of one level of the input, [] or per channel (not used where it is real).
        real_bits: bits of a real input. memory: hierarchy. train: what the input is the sum or mean of.
    """
    steps, samples = x.shape[:2]
    macs, weights = module.macs(tuple(y.shape)), module.quantizer.format
    row = LayerCost(node.name, "synapse", module.role, steps, real_bits, weights.bits, macs=macs, path=node.path)
    row.inputs, row.outputs = x.numel() // (steps * samples), y.numel() // (steps * samples)
    row.weight_adds, row.weight_shifts = weights.adds, weights.shifts
    fired = (x != 0).flatten(1).sum(1).tolist()
    row.rate = sum(fired) / x.numel()
    each = samples * row.inputs
    if spikes is None:
        row.step_bits = (real_bits,) * steps
        _operate(row, SpikeFormat(real=True), sum(fired) / each, 0.0)
    else:
        row.step_bits, row.sum_bits, row.spiking = tuple(f.bits for f in spikes), sum_bits(spikes), True
        row.input_bits = max(row.step_bits)
        ones = 0.0
        over_time = None if any(f.real for f in spikes) else levels(x, scale, spikes[0].slope)
        for t, record in enumerate(spikes):
            bits = 0.0 if over_time is None else _set_bits(over_time[t], record)
            ones += bits
            if over_time is None or record.slope == 1:
                _operate(row, record, fired[t] / each, bits / each)
            else:
                _operate_sloped(row, record, over_time[t], each)
        row.set_bits = ones / x.numel()
    row.payload_bits = sum(f * b for f, b in zip(fired, row.step_bits, strict=True)) / samples
    biases = module.bias.numel() if module.bias is not None else 0
    row.fixed_adds = y.numel() / samples if biases else 0.0
    row.adds += row.fixed_adds
    row.weights = module.weight.numel()
    row.parameters = row.weights + biases
    scales = {"none": 0, "layer": 1, "output": module.weight.shape[0], "input": module.weight.shape[1]}
    factors = 0 if weights.real else scales[weights.scale]
    row.size_bits = row.weights * weights.bits + 32 * (biases + factors)
    row.weight_bytes = memory.passes(steps) * row.size_bits / 8
    row.spike_bytes = row.inputs * row.time_bits / 8
    if train is not None:
        row.spiking = True
        row.train_steps, row.spike_rate = len(train.formats), train.rate
        row.step_bits, row.sum_bits = tuple(f.bits for f in train.formats), sum_bits(train.formats)
    return row


def _operate(row: LayerCost, record: SpikeFormat, events: float, ones: float) -> None:
    """Add the operations of ``events`` non-zero and ``ones`` set bits per input position.

    A weight that is a power of two shifts whatever comes in, once; other weights shift once a set bit of a spike.
    """
    if record.adds or row.weight_adds:
        row.adds += row.macs * events
    elif row.weight_shifts:
        row.shift_adds += row.macs * events
    elif not record.real:
        row.shift_adds += row.macs * ones
    else:
        row.multiplications += row.macs * events


def _operate_sloped(row: LayerCost, record: SpikeFormat, k: Tensor, each: int) -> None:
    """The same for two amplitudes: positive levels as usual, negative ones as what their slope makes of them.

    A slope that is a power of two shifts, so those shift and add once a set bit; any other multiplies once an event.
    Weights that are powers of two shift whatever comes in, once an event.
    """
    one = record.sloped(1.0)
    for part, up in ((k.clamp(min=0), True), (k.clamp(max=0), False)):
        events, ones = float((part != 0).sum()) / each, _set_bits(part, record) / each
        if up or row.weight_adds:
            _operate(row, one, events, ones)
        elif row.weight_shifts:
            row.shift_adds += row.macs * events
        elif powers(torch.tensor(record.slope, dtype=torch.float64)):
            row.shift_adds += row.macs * ones
        else:
            row.multiplications += row.macs * events


def _set_bits(k: Tensor, record: SpikeFormat) -> float:
    """Set bits of all levels k [B, C, ...] of one step."""
    return float(popcount(k, max(-record.low, record.high).bit_length()).sum(dtype=torch.float64))
