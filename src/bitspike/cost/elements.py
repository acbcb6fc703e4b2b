"""Operations of what has no synapse: affine maps, norms, gains, amplitudes, neurons, residual sums, pools."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bitspike.cost.bits import levels, powers, scaled_values, sum_bits
from bitspike.cost.memory import Memory
from bitspike.cost.record import LayerCost
from bitspike.formats import SpikeFormat, formats_over_time
from bitspike.functional import popcount
from bitspike.graph import Node
from bitspike.layers import (
    Affine,
    AvgPool2d,
    BatchNorm,
    Gain,
    GlobalAvgPool,
    MaxPool2d,
    MeanReadout,
    Restimulate,
    Squeeze,
    SumPool2d,
    TallyMaxPool2d,
    TallyPool,
    Windows,
)
from bitspike.neurons import ExtraCost, Neuron

_ONE = torch.ones(1, 1, 1, dtype=torch.bool)
TALLIES = (TallyMaxPool2d, TallyPool)
POOLS = (AvgPool2d, GlobalAvgPool, MaxPool2d, MeanReadout, SumPool2d, *TALLIES)


def scaling_row(
    node: Node, module: Affine | BatchNorm | Gain, x: Tensor, y: Tensor, spiking: bool, memory: Memory
) -> LayerCost:
    """An affine map or norm: a multiplication and an addition per value, or a shift-addition where the scale is a power
    of two, or an addition where it is ±1. A gain: a multiplication or shift per non-zero value."""
    samples, steps = y.shape[1], y.shape[0]
    per_sample = y.numel() / samples
    kind = "affine" if isinstance(module, Affine) else "gain" if isinstance(module, Gain) else "norm"
    row = LayerCost(node.name, kind, kind, steps, rate=float((x != 0).double().mean()), path=node.path)
    row.inputs = row.outputs = y.numel() // (steps * samples)
    if isinstance(module, Gain):
        row.multiplications, row.shifts = scaled_values(module.factor, x != 0, module.channel_dim)
    elif isinstance(module, Affine):
        row.multiplications, row.shift_adds = scaled_values(module.scale, torch.ones_like(y, dtype=torch.bool))
        row.adds = row.fixed_adds = per_sample - row.shift_adds
    else:
        row.multiplications = row.adds = row.fixed_adds = per_sample
    numbers = {"affine": 2, "norm": 4, "gain": 1}[kind]
    size = module.factor.numel() if isinstance(module, Gain) else y.shape[2]
    row.parameters = size * (2 if kind == "norm" else numbers)
    row.size_bits = 32 * size * numbers
    row.weight_bytes = memory.passes(steps) * row.size_bits / 8
    row.spiking = isinstance(module, Gain) and spiking
    return row


def attention_row(node: Node, module: Restimulate, x: Tensor, memory: Memory) -> LayerCost:
    """Channel attention: per attention C means over space (and time), k·C for the convolution; then one multiplication
    for every value and step, silent ones too. Zero padding counts as data; σ is not counted here."""
    steps, samples, channels = x.shape[:3]
    values = x.numel() // (steps * samples)
    row = LayerCost(node.name, "attention", "attention", steps, path=node.path)
    row.rate = float((x != 0).double().mean())
    row.inputs = row.outputs = values
    attentions = channels * (steps if module.over == "step" else 1)
    window = (steps if module.over == "whole" else 1) * values // channels
    scaling, row.shifts = (attentions * part for part in scaled_values(torch.tensor(1 / window).double(), _ONE))
    row.multiplications = scaling + attentions * module.kernel + steps * values
    row.adds = row.fixed_adds = float(attentions * (window - 1 + module.kernel - 1))
    row.parameters = module.kernel
    row.size_bits = 32 * module.kernel
    row.weight_bytes = memory.passes(steps) * row.size_bits / 8
    return row


def amplitude_row(node: Node, module: Neuron, s: Tensor, formats: tuple[SpikeFormat, ...], memory: Memory) -> LayerCost:
    """An unfolded amplitude: one multiplication per spike, or a shift where it is a power of two."""
    bits = tuple(f.bits for f in formats)
    row = LayerCost(node.name, "amplitude", "amplitude", s.shape[0], max(bits), path=node.path, spiking=True)
    row.step_bits, row.sum_bits = bits, sum_bits(formats)
    row.rate = float((s != 0).double().mean())
    row.inputs = row.outputs = s.numel() // (s.shape[0] * s.shape[1])
    scale = module.emission.scale()
    row.multiplications, row.shifts = scaled_values(scale, s != 0, module.emission.channel_dim)
    row.parameters = scale.numel() if module.emission.raw_amplitude is not None else 0
    row.size_bits = 32 * row.parameters
    row.weight_bytes = memory.passes(s.shape[0]) * row.size_bits / 8
    return row


def neuron_row(node: Node, module: Neuron, s: Tensor, formats: tuple[SpikeFormat, ...], memory: Memory) -> LayerCost:
    """T updates a neuron: comparisons at every step; leak, charge, floor and reset between steps, T − 1 times.

    The membrane is 0 before the first step and dropped after the last, so T = 1 takes comparisons only.
    """
    steps, samples = s.shape[:2]
    neurons = s.numel() // (steps * samples)
    row = LayerCost(node.name, "neuron", "neuron", steps, weight_bits=0, path=node.path, spiking=True)
    row.inputs = row.outputs = neurons
    row.step_bits, row.sum_bits = tuple(f.bits for f in formats), sum_bits(formats)
    row.input_bits, row.rate = max(row.step_bits), float((s != 0).double().mean())
    if not any(f.real for f in formats):
        emission = module.emission
        k = levels(s, emission.scale(), module.format.slope, emission.channel_dim)
        row.set_bits = float(popcount(k, 16).double().mean())
    row.updates = steps * neurons
    row.comparisons = float(neurons * sum(1 if f.real else f.bits for f in formats))
    row.spike_bytes = neurons * row.time_bits / 8
    decay = module.membrane.decay()
    leak = torch.as_tensor(decay, dtype=torch.float64).detach()
    carried = (steps - 1) * neurons
    if not leak.any():  # a neuron that forgets all keeps nothing
        return row
    once = torch.ones(1, 1, max(leak.numel(), 1), dtype=torch.bool)
    row.side_multiplications, row.shifts = (carried * part / leak.numel() for part in scaled_values(leak, once, 1))
    extra = module.extra_cost() or ExtraCost()
    row.fixed_adds = float(carried * (1 + extra.adds))
    row.side_multiplications += float(carried * extra.multiplications)
    row.comparisons += float(carried * extra.comparisons)
    row.side_adds = row.fixed_adds
    if module.membrane.floor is not None:
        row.comparisons += float(carried)
    if module.membrane.reset_kind == "soft":
        row.side_adds += float((s[:-1] != 0).sum()) / samples
    row.membrane_bytes = memory.membrane_bytes(neurons * (1 + extra.states), steps)
    return row


def states_of(module: Neuron, x: Tensor) -> int | None:
    """Numbers that a neuron keeps from step to step, for currents x [T, B, ...]; None where it keeps more than a
    membrane and does not say what that costs."""
    extra = module.extra_cost()
    if extra is not None:
        return 1 + extra.states
    state = module.initial_state(x[0])
    return 1 if isinstance(state, Tensor) or len(state) == 1 else None


def sum_row(node: Node, formats: list[tuple[SpikeFormat, ...] | None], y: Tensor, timed: bool) -> LayerCost:
    """A residual sum: one addition per value and operand but the first; the one with the fewest bits is read.

    Args:
        node: the addition. formats: alphabets of its operands, None where real.
        y: its value, [T, B, ...] if ``timed``, else [B, ...].
    """
    steps, samples = (y.shape[0], y.shape[1]) if timed else (1, y.shape[0])
    row = LayerCost(node.name, "add", "add", steps, weight_bits=0)
    row.inputs = row.outputs = y.numel() // (steps * samples)
    row.side_adds = row.fixed_adds = max(len(formats) - 1, 1) * y.numel() / samples
    real = (SpikeFormat(real=True),) * steps
    trains = [real if f is None else formats_over_time(f, steps) for f in formats]
    read = min(trains, key=lambda train: sum(record.bits for record in train))
    if len(trains) > 1:  # x + x reads nothing again
        row.step_bits, row.sum_bits = tuple(record.bits for record in read), sum_bits(read)
        row.spiking = read is not real
    row.input_bits = max(row.step_bits, default=0)
    row.spike_bytes = row.inputs * row.time_bits / 8
    return row


def pool_row(node: Node, module: nn.Module, x: Tensor, y: Tensor) -> LayerCost:
    """Average pools and the mean read-out add and scale once; sum pools add; max pools compare.

    Max pools of sums over time also add every spike to its sum, and subtract what they sent before, both from the
    second step on.
    """
    samples = x.shape[1]
    values = y.numel() / samples if not isinstance(module, MeanReadout) else x.numel() / (samples * x.shape[0])
    if isinstance(module, (AvgPool2d, MaxPool2d, SumPool2d, TallyMaxPool2d)):
        window = module.kernel**2
    elif isinstance(module, TallyPool):
        window = _window(module, x, y)
    else:
        window = x.shape[0] if isinstance(module, MeanReadout) else x.shape[3] * x.shape[4]
    kind = "readout" if isinstance(module, MeanReadout) else "pool"
    row = LayerCost(node.name, kind, kind, x.shape[0], weight_bits=0, path=node.path)
    row.inputs = x.numel() // (samples * x.shape[0])
    row.outputs = int(values) if isinstance(module, MeanReadout) else int(values) // x.shape[0]
    row.rate = float((x != 0).double().mean())
    if isinstance(module, (MaxPool2d, *TALLIES)):
        row.comparisons = (window - 1) * values
        if isinstance(module, TALLIES):
            row.fixed_adds = values * (x.shape[0] - 1) / x.shape[0]
            row.side_adds = row.fixed_adds + float((x[1:] != 0).sum()) / samples
        return row
    row.side_adds = row.fixed_adds = (window - 1) * values
    if isinstance(module, SumPool2d) or (isinstance(module, GlobalAvgPool) and module.divisor):
        return row
    if isinstance(module, AvgPool2d) and (module.ceil or module.divisor):
        _cut_windows(row, module, x)
        return row
    scale = torch.tensor(1 / window, dtype=torch.float64)
    row.side_multiplications, row.shifts = (values * part for part in scaled_values(scale, _ONE))
    return row


def averages_row(node: Node, held: Tensor, divisors: Tensor, x: Tensor, y: Tensor) -> LayerCost:
    """An average pool of torch's: additions of what its windows hold, and their division, in every channel and step."""
    samples, steps = x.shape[1], x.shape[0]
    row = LayerCost(node.name, "pool", "pool", steps, weight_bits=0, path=node.path)
    row.inputs, row.outputs = x.numel() // (samples * steps), y.numel() // (samples * steps)
    row.rate = float((x != 0).double().mean())
    each, factors = float(steps * x.shape[2]), 1 / divisors.double()
    row.side_adds = row.fixed_adds = each * float((held - 1).sum())
    row.side_multiplications = each * float((~powers(factors)).sum())
    row.shifts = each * float((powers(factors) & (factors != 1)).sum())
    return row


def _cut_windows(row: LayerCost, module: AvgPool2d, x: Tensor) -> None:
    """The operations of an average pool whose windows may stick out: each adds, and divides by, what it holds. A folded
    one sums; what it holds less than a whole window counts as often as `AvgPool2d` says.

    Padding is held as if it were data, as everywhere; what lies beyond it is not.
    """
    height, width = x.shape[3:]
    sizes = module.sizes(height, width).double()
    images = x.shape[0] * x.shape[2]
    each = row.outputs / x.shape[2] / sizes.numel()  # one size stands for all windows where they are whole
    row.side_adds = row.fixed_adds = images * each * float((sizes - 1).sum())
    factors = module.divisor / sizes if module.divisor else 1 / sizes
    row.side_multiplications = images * each * float((~powers(factors)).sum())
    row.shifts = images * each * float((powers(factors) & (factors != 1)).sum())


def _window(module: TallyPool, x: Tensor, y: Tensor) -> int:
    """Values in the window of a max pool; of an adaptive one their mean number, at least 1."""
    kernel = getattr(module.pool, "kernel_size", None)
    if kernel is None:
        return max(x.numel() // y.numel(), 1)
    return int(math.prod(kernel)) if isinstance(kernel, tuple) else int(kernel) ** (x.dim() - 3)


def squeeze_row(node: Node, x: Tensor, y: Tensor) -> LayerCost:
    """The sum over time of x [T, B, ...]: T − 1 additions per value; where y is a mean, one scaling too. In a network
    folded for other steps, a train that passes is scaled instead."""
    steps, samples = x.shape[:2]
    values = x.numel() // (steps * samples)
    row = LayerCost(node.name, "squeeze", "squeeze", steps, weight_bits=0, path=node.path)
    row.inputs = row.outputs = values
    row.rate = float((x != 0).double().mean())
    module, scale, each = node.module, 1 / steps, 1
    row.side_adds = row.fixed_adds = float((steps - 1) * values)
    if isinstance(module, Squeeze):
        scale = 1 / float(module.divisor(steps))
        if not module.always and steps == module.T:
            row.side_adds, row.fixed_adds, scale, each = 0.0, 0.0, module.summed_steps, steps
    if scale != 1:  # a folded one leaves that to what is behind
        factor = torch.tensor(scale, dtype=torch.float64)
        row.side_multiplications, row.shifts = (each * values * part for part in scaled_values(factor, _ONE))
    return row


def windows_row(node: Node, module: Windows, x: Tensor) -> LayerCost:
    """Weighted sums of frames x [T₁, B, ...]: an addition for every frame of a window but its first; a multiplication
    (or shift) for every frame that counts by a weight but 1; where means go out, one scaling per value."""
    steps, samples = x.shape[:2]
    values = x.numel() // (steps * samples)
    pieces = module.pieces(steps)
    row = LayerCost(node.name, "windows", "windows", module.T, weight_bits=0, path=node.path)
    row.inputs = row.outputs = values
    row.rate = float((x != 0).double().mean())
    row.side_adds = row.fixed_adds = float((len(pieces) - module.T) * values)
    factors = [float(weight) for _, _, weight in pieces]
    factors += [module.factor(steps)] * module.T
    for factor in factors:
        scaling, shifts = scaled_values(torch.tensor(factor, dtype=torch.float64), _ONE)
        row.side_multiplications += values * scaling
        row.shifts += values * shifts
    return row


def rectifier_row(node: Node, y: Tensor, timed: bool) -> LayerCost:
    """A ReLU on [T, B, ...] if ``timed``, else on [B, ...]: one comparison per value."""
    steps, samples = (y.shape[0], y.shape[1]) if timed else (1, y.shape[0])
    row = LayerCost(node.name, "rectifier", "rectifier", steps, weight_bits=0, path=node.path)
    row.inputs = row.outputs = y.numel() // (steps * samples)
    row.comparisons = y.numel() / samples
    return row
