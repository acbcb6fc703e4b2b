"""Operations, bits and bytes of one synapse, from the formats on its two sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bitspike.cost.bits import levels, powers, sum_bits
from bitspike.cost.memory import Memory
from bitspike.cost.record import LayerCost
from bitspike.formats import SpikeFormat, formats_over_time
from bitspike.functional import popcount
from bitspike.graph import Node, Spikes
from bitspike.layers import Synapse


class Train(NamedTuple):
    """The spikes behind an input, over their own steps: formats of every part, and values if they are other ones."""

    formats: list[tuple[SpikeFormat, ...]]
    values: Tensor | None


def synapse_row(
    node: Node,
    module: Synapse,
    x: Tensor,
    y: Tensor,
    spikes: Spikes | None,
    real_bits: int,
    memory: Memory,
    train: Train | None = None,
    role: str | None = None,
) -> LayerCost:
    """The row of a synapse.

    Where it reads the sum or mean of a train in fewer passes, T, operations and bytes are those of the passes, while
    bits over time and the ACE metrics are those of the train, as the papers count.

    Args:
        node, module: the synapse. x: its input [T, B, I, ...]; y: its output.
        spikes: what the input carries; None where it is real.
        real_bits: bits of a real input. memory: hierarchy. train: the spikes that the input is made of.
        role: in place of the module's.
    """
    steps, samples = x.shape[:2]
    macs, weights = module.macs(tuple(y.shape)), module.quantizer.format
    row = LayerCost(
        node.name, "synapse", role or module.role, steps, real_bits, weights.bits, macs=macs, path=node.path
    )
    row.inputs, row.outputs = x.numel() // (steps * samples), y.numel() // (steps * samples)
    row.weight_adds, row.weight_shifts = weights.adds, weights.shifts
    fired = (x != 0).flatten(1).sum(1).tolist()
    row.rate = sum(fired) / x.numel()
    if spikes is None or not spikes.whole:
        row.step_bits = (real_bits,) * steps
        _operate(row, SpikeFormat(real=True), sum(fired) / (samples * row.inputs), 0.0)
        row.payload_bits = sum(f * b for f, b in zip(fired, row.step_bits, strict=True)) / samples
    else:
        row.spiking = True
        formats = [formats_over_time(given or (), steps) for _, given in spikes.parts]
        ones = sum(_operate_part(row, x, spikes, part, given) for part, given in enumerate(formats))
        row.set_bits = ones / x.numel()
        _widths(row, spikes, formats)
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
    if train is not None and spikes is not None:
        row.spiking, width = True, row.input_bits
        _widths(row, spikes, train.formats)
        row.input_bits = width  # of what is read
        length = max(len(formats) for formats in train.formats)
        row.train_steps, row.spike_rate = (length, None) if length != steps else (0, None)
        if row.train_steps and train.values is not None:
            row.spike_rate = float((train.values != 0).double().mean())
    if row.parts and spikes is not None and spikes.channels is not None:
        values = x if train is None or train.values is None else train.values
        row.part_rates = tuple(
            float((values[: len(bits), :, spikes.channels == part] != 0).double().mean())
            for part, (_, bits) in enumerate(row.parts)
        )
    return row


def _widths(row: LayerCost, spikes: Spikes, formats: list[tuple[SpikeFormat, ...]]) -> None:
    """Bits at every step, from the formats of every part."""
    row.sum_bits = max(sum_bits(given) for given in formats)
    bits = [tuple(record.bits for record in given) for given in formats]
    put_widths(row, list(zip(spikes.counts(row.inputs), bits, strict=True)))


def put_widths(row: LayerCost, parts: Sequence[tuple[int, tuple[int, ...]]]) -> None:
    """Set the bits of an input at every step, from (inputs, bits) of its parts."""
    longest = max(len(bits) for _, bits in parts)
    row.step_bits = tuple(max(bits[t] for _, bits in parts if t < len(bits)) for t in range(longest))
    row.input_bits = max(row.step_bits)
    row.parts = tuple(parts) if len({bits for _, bits in parts}) > 1 else ()


def _operate_part(row: LayerCost, x: Tensor, spikes: Spikes, part: int, formats: tuple[SpikeFormat, ...]) -> float:
    """Add the operations of the channels of one part; returns their set bits."""
    each, scale = x.shape[1] * row.inputs, spikes.scale
    if spikes.channels is not None:
        own = (spikes.channels == part).nonzero().flatten()
        x = x.index_select(2, own.to(x.device))
        scale = scale[..., own] if scale.dim() and scale.shape[-1] > 1 else scale
    fired, ones = (x != 0).flatten(1).sum(1).tolist(), 0.0
    over_time = None if any(f.real for f in formats) else levels(x, scale, formats[0].slope)
    for t, record in enumerate(formats):
        bits = 0.0 if over_time is None else _set_bits(over_time[t], record)
        ones += bits
        if over_time is None or record.slope == 1:
            _operate(row, record, fired[t] / each, bits / each)
        else:
            _operate_sloped(row, record, over_time[t], each)
        row.payload_bits += fired[t] * record.bits / x.shape[1]
    return ones


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
