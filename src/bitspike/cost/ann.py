"""The quantized ANN beside a spiking network, and the same network at another density of spikes."""

from __future__ import annotations

from dataclasses import replace

from bitspike.checks import at_least, integer
from bitspike.cost.place import place
from bitspike.cost.record import Cost, LayerCost

_DROPPED = ("gain", "amplitude", "squeeze", "windows", "readout")


def quantized_ann(counted: Cost, activation_bits: int | None = None) -> Cost:
    """The same layers and weights with dense activations instead of spikes, at one step, counted by the same rules.

    An activation takes the place of the T spikes it replaces; unless ``activation_bits`` says otherwise it has as many
    bits as their sum needs (⌈log2(T + 1)⌉ for binary spikes, see `bitspike.cost.bits.sum_bits`). No zero is skipped. A
    synapse multiplies, except where weights are ±1 or ternary or activations have 1 bit: it adds; and where weights are
    0 or ± powers of two: it shifts and adds. Layers with a real input stay as they are, at one step. Affine maps and
    norms stay, gains, amplitudes, sums and means over time go.
    An activation of A bits takes A comparisons, as a spike of A bits does, and keeps no membrane.

    Source: bits of the activations: arXiv 2409.08290, abstract; the rest: ours.

    Args:
        counted: the spiking network. activation_bits: of every activation in place of spikes, 1 to 32.

    >>> row = LayerCost("a", "synapse", "hidden", 4, 1, 8, 0.5, macs=100, adds=200.0, spiking=True, sum_bits=3)
    >>> ann = quantized_ann(Cost(1, [row])).layers[0]
    >>> ann.T, ann.input_bits, ann.adds, ann.multiplications, ann.s_ace
    (1, 3, 0.0, 100.0, 2400)
    """
    if activation_bits is not None:
        integer("quantized_ann", "activation_bits", activation_bits, 1, 32)
    result = replace(counted, uncounted=list(counted.uncounted))
    result.layers = [_layer(row, activation_bits) for row in counted.layers if row.kind not in _DROPPED]
    result.elements = [_element(row, activation_bits) for row in counted.elements if row.kind not in _DROPPED]
    place(result)
    return result


def _one_step(row: LayerCost) -> LayerCost:
    """A row without spikes at one step instead of T."""
    steps = max(row.T, 1)
    keys = ("adds", "shift_adds", "shifts", "multiplications", "divisions", "side_adds")
    others = ("side_multiplications", "comparisons", "fixed_adds", "payload_bits", "spike_bytes")
    shares = {key: getattr(row, key) / steps for key in (*keys, *others)}
    return replace(
        row,
        T=1,
        train_steps=0,
        spike_rate=None,
        step_bits=row.step_bits[:1],
        parts=(),
        part_rates=(),
        weight_bytes=row.size_bits / 8,
        **shares,
    )


def _layer(row: LayerCost, activation_bits: int | None) -> LayerCost:
    if not row.spiking:
        return _one_step(row)
    bits = activation_bits or row.sum_bits
    adds = row.weight_adds or bits == 1
    shifts = row.weight_shifts and not adds
    fixed = row.fixed_adds / row.T
    result = _one_step(row)
    result.input_bits, result.step_bits, result.sum_bits = bits, (bits,), bits
    result.rate, result.set_bits, result.fixed_adds = 1.0, 0.0, fixed
    result.adds = fixed + (row.macs if adds else 0.0)
    result.shift_adds = float(row.macs) if shifts else 0.0
    result.multiplications = 0.0 if adds or shifts else float(row.macs)
    result.payload_bits, result.spike_bytes = float(row.inputs * bits), row.inputs * bits / 8
    return result


def _element(row: LayerCost, activation_bits: int | None) -> LayerCost:
    if not row.spiking:
        return _one_step(row)
    bits = activation_bits or row.sum_bits
    row = replace(_one_step(row), input_bits=bits, step_bits=(bits,), sum_bits=bits, spike_bytes=row.inputs * bits / 8)
    if row.kind != "neuron":
        return row
    row.updates, row.comparisons, row.rate, row.set_bits = row.inputs, float(row.inputs * bits), 1.0, 0.0
    row.side_adds = row.side_multiplications = row.shifts = row.fixed_adds = row.membrane_bytes = 0.0
    return row


def at_density(counted: Cost, factor: float) -> Cost:
    """The network if every neuron fired ``factor`` times as often, with the same set bits per spike.

    What scales: operations of synapses, gains and amplitudes behind spikes, and soft resets. What stays: biases, real
    inputs (pooled spikes too), leaks, comparisons and all bytes, which are dense. A rate above 1 is arithmetic only.

    Args:
        counted: from `cost`. factor: >= 0.
    """
    at_least("at_density", "factor", factor, 0.0)
    result = replace(counted, uncounted=list(counted.uncounted))
    result.layers = [_scaled(row, factor) for row in counted.layers]
    result.elements = [_scaled(row, factor) if row.kind == "neuron" else replace(row) for row in counted.elements]
    return result


def _scaled(row: LayerCost, factor: float) -> LayerCost:
    if not row.spiking:
        return replace(row)
    seen, worked = ("rate", "set_bits", "payload_bits"), ("shift_adds", "multiplications", "shifts")
    keys = seen if row.kind == "neuron" else seen + worked
    scaled = {key: factor * getattr(row, key) for key in keys}
    moving = "side_adds" if row.kind == "neuron" else "adds"
    scaled["part_rates"] = tuple(factor * rate for rate in row.part_rates)  # type: ignore[assignment]
    scaled["spike_rate"] = None if row.spike_rate is None else factor * row.spike_rate
    scaled[moving] = row.fixed_adds + factor * (getattr(row, moving) - row.fixed_adds)
    return replace(row, **scaled)
