"""Neurons: every one whose step is the row `fire`, which is tried out before it is believed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from bitspike.formats import formats_over_time
from bitspike.graph import Node
from bitspike.layers import Potential, Recurrent
from bitspike.lower.fixed_point import bits_above, decay_of
from bitspike.lower.lowering import FRACTION, Lowering
from bitspike.lower.places import layout
from bitspike.lower.report import LayerReport
from bitspike.lower.rules.recurrent import fed_back
from bitspike.lower.rules.trial import charge_of, check_row, decay_per_step
from bitspike.lower.wire import Array, Refused, Wire, simple, wire
from bitspike.neurons import Neuron
from bitspike.neurons.emission import Emission
from bitspike.neurons.membrane import Membrane
from bitspike.runtime.arithmetic import round_half

_LEAST = 12
"""Fraction bits of a membrane at least, unless calibration shows that fewer must do."""
_SLOPE_BITS = 12


def neuron(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """Membranes count in units of the neuron's own step, a power of two; that of a channel is paid by its rescale."""
    given = node.module
    assert isinstance(given, Neuron)
    whole = copy.deepcopy(given).double().cpu().eval()
    module = whole.neuron if isinstance(whole, Recurrent) else whole
    _check_parts(module)
    x, of = _arranged(low, node, module, low.straightened(node.inputs[0]) if module is not whole else wires[0])
    value = low.value(x)
    scale = thresholds(module, value.steps, low.shape(x), of)
    if module.format.real:
        if module is not whole:
            raise Refused("what a real spike is worth is found out behind it, and these come back; take MultiBit")
        return _real(low, node, module, x, scale)
    stairs, membrane = module.stairs, module.membrane
    counts = [f.high for f in formats_over_time(getattr(module, "formats", module.format), value.steps)]
    counts = counts[:1] if len(set(counts)) == 1 else counts
    charge = charge_of(module) if membrane.reset_kind == "soft" else 0.0
    check_row(module, counts, charge, _width(module, low.shape(x)))
    attributes: dict[str, Any] = {"count": counts, "signed": stairs.signed, "reset": membrane.reset_kind}
    errors: list[float] = []
    worth, spikes = _slope(module, attributes, errors), ""
    if isinstance(whole, Recurrent):
        x, spikes = fed_back(low, node, whole, x, attributes, worth)
    step = stairs.spacing if max(counts) > 1 else stairs.first
    unit = simple(scale.max(0) if scale.ndim == 2 else scale) * step
    bits = fraction_bits(low, node, x, unit, module)
    one = 2.0**bits
    moving = np.asarray(scale * step / unit) if scale.ndim == 2 else np.ones(())
    constants = {"first": _whole(moving * (stairs.first / step) * one, errors, up=True)}
    if max(counts) > 1:
        constants["spacing"] = _whole(moving * (stairs.spacing / step) * one, errors)
    if membrane.reset_kind == "soft":
        constants["charge"] = _whole(moving * (charge / step) * one, errors)
    _starts(membrane, unit, one, constants, errors, of)
    decay, lost = decay_of(decay_per_step(membrane))
    attributes |= {"decay": decay, "cancel": bool(module.cancels_only)}
    settled = low.settle(x, bits, f"{node.name}.current", unit=unit)
    made = _fire(low, node, settled, attributes, constants, spikes)
    _report(low, node, module.format.bits, bits, unit, max([lost, *errors]), reach(low, x, unit, module), at=x.at)
    return wire(made, worth, at=x.at)


def _fire(
    low: Lowering, node: Node, x: Wire, attributes: dict[str, Any], constants: dict[str, Array], spikes: str = ""
) -> str:
    shown = any(isinstance(low.graph[name].module, Potential) for name in node.consumers)
    outputs: tuple[str, ...] = (spikes,) if spikes else ()
    if shown:
        outputs = (spikes or low.free(f"{node.name}.spikes"), f"{node.name}.membrane")
    made = low.add("fire", node.name, [x], attributes, outputs, **constants)
    low.membranes[node.name] = wire(f"{node.name}.membrane" if shown else "", x.factor, at=x.at)
    return made


def _arranged(low: Lowering, node: Node, module: Neuron, x: Wire) -> tuple[Wire, Array | None]:
    """The current, lying where an order of axes or none says where, and which channel each of its own is.

    What the report says of the order is what `compare` reads.
    """
    if x.at is not None and layout(x.at) is None:
        x = low.straightened(node.inputs[0])
    shape, floor = low.shape(x), module.membrane.floor_factor
    sizes = _scale(module, 1, shape).shape[-len(shape) :]
    axis = next((k for k, size in enumerate(sizes) if size > 1), 0)
    own = len(sizes) == len(shape) and max(sizes) > 1
    return low.channels(x, axis) if own or floor is not None else (x, None)


def _check_parts(module: Neuron) -> None:
    if type(module.membrane) is not Membrane or type(module.emission) is not Emission:
        raise Refused(f"{type(module).__name__} has a membrane or emission of its own")
    if type(module).threshold_scale_at is not Neuron.threshold_scale_at:
        raise Refused("its threshold moves with what it sent, which no operation of a program does")
    if type(module).holds_back is not False or module.holds_back:
        raise Refused("it may hold levels back, which no operation of a program does")
    if not bool((module.emission.scale() == 1).all()):
        raise Refused("its spikes have an amplitude; fold the network")


def _scale(module: Neuron, steps: int, shape: tuple[int, ...]) -> torch.Tensor:
    """What thresholds are multiplied with, to broadcast over [steps, 1, *shape]."""
    return module.threshold_scale(torch.zeros(steps, 1, *shape, dtype=torch.float64)).detach()


def _width(module: Neuron, shape: tuple[int, ...]) -> int:
    """Channels of the numbers that a neuron is tried out on."""
    sizes = _scale(module, 1, shape).shape[-len(shape) :]
    return max(sizes, default=1) if max(sizes, default=1) > 1 else shape[0]


def thresholds(module: Neuron, steps: int, shape: tuple[int, ...], of: Array | None = None) -> Array:
    """What thresholds are multiplied with: [], [C], or [steps, C or 1] where they change with time.

    Args:
        shape: of a sample in the network. of: which of its channels those of the value are; None: the same.
    """
    scale = _scale(module, steps, shape)
    if not scale.dim():
        return simple(scale.numpy())
    full = scale.reshape(len(scale) if scale.dim() == len(shape) + 2 else 1, -1).expand(steps, -1).numpy()
    return simple(full if of is None or full.shape[-1] == 1 else full[:, of])


def fraction_bits(low: Lowering, node: Node, x: Wire, unit: Any, module: Neuron, most: float = 0.0) -> int:
    """Fraction bits of a membrane: no clamp in a window, whatever comes, or, where that would leave less than 12, room
    for four times the greatest membrane of the calibration data, and current where a floor hides it."""
    far = reach(low, x, unit, module)
    proved = bits_above(far)
    seen = low.measured.membranes.get(node.name, 0.0)
    if module.membrane.floor is not None:
        seen = max(seen, low.measured.most.get(low.source(node), 0.0))
    seen /= float(np.min(unit))
    wanted = bits_above(max(seen, 1.0, most) * 4)
    return max(0, min(FRACTION, low.bits_of_shift(x, unit), proved if proved >= _LEAST else wanted))


def reach(low: Lowering, x: Wire, unit: Any, module: Neuron) -> float:
    """The greatest |u| in a window, in units of a step: what leaks in and is left, and one charge too many."""
    most = float((low.bounds(x) / np.asarray(unit)).max())
    decay, steps = decay_per_step(module.membrane), low.value(x).steps
    sums = float(steps) if decay == 1 else (1 - decay**steps) / (1 - decay)
    start = abs(module.membrane.initial) + abs(module.membrane.floor or 0.0)
    return most * sums + start / float(np.min(unit)) + 4


def _whole(real: Any, errors: list[float], up: bool = False) -> Array:
    """Integers at least 1 for constants; a threshold between two is the one above, as membranes are integers."""
    real = np.atleast_1d(np.asarray(real, np.float64))
    whole = np.maximum(np.ceil(real) if up else round_half(real), 1)
    errors.append(float(np.abs(whole / real - 1).max()))
    return whole.astype(np.int64)


def _starts(
    membrane: Membrane, unit: Any, one: float, constants: dict[str, Array], errors: list[float], of: Array | None = None
) -> None:
    """Initial membrane and floor."""
    if membrane.initial:
        constants["initial"] = _near(membrane.initial / unit * one, errors)
    if membrane.floor is not None:
        factor = membrane.floor_factor
        factors = np.ones(()) if factor is None else factor.detach().double().numpy()
        floor = membrane.floor * (factors if of is None or not factors.ndim else factors[of])
        constants["floor"] = _near(floor / unit * one, errors)


def _near(real: Any, errors: list[float]) -> Array:
    real = np.atleast_1d(np.asarray(real, np.float64))
    whole = round_half(real)
    errors.append(float((np.abs(whole - real) / np.maximum(np.abs(real), 1)).max()))
    return whole.astype(np.int64)


def _slope(module: Neuron, attributes: dict[str, Any], errors: list[float]) -> float:
    """Sets what positive and negative levels count; returns what one of these counts is worth."""
    slope = module.emission.slope
    if slope == 1:
        return 1.0
    bits = next((b for b in range(_SLOPE_BITS) if (slope * 2**b).is_integer()), _SLOPE_BITS)
    down = max(round(slope * 2**bits), 1)
    attributes |= {"up": 2**bits, "down": down, "exponent": bits}
    errors.append(abs(down / 2**bits / slope - 1))
    return 2.0**-bits


def _real(low: Lowering, node: Node, module: Neuron, x: Wire, scale: Array) -> Wire:
    """Real spikes, as ``spike_bits`` levels of one step a layer."""
    check_row(module, (), 0.0, _width(module, low.shape(x)))
    bits, top = low.options.spike_bits, 2**low.options.spike_bits - 1
    first = float(module.stairs.first)
    most = max(low.measured.most.get(node.name, 0.0), first)
    # Membranes count in levels, so that a level is a power of two: no machine divides.
    unit = np.asarray(first * 2.0 ** np.ceil(np.log2(most / first / top)) if bits > 8 else most / top)
    fraction = fraction_bits(low, node, x, unit, module, most / float(unit))
    one = 2.0**fraction
    spacing = 2**fraction
    errors: list[float] = []
    constants = {
        "gate": _whole(scale * first / unit * one, errors, up=True),
        "first": np.array([(spacing + 1) // 2]),
        "spacing": np.array([spacing]),
    }
    _starts(module.membrane, unit, one, constants, errors)
    decay, lost = decay_of(decay_per_step(module.membrane))
    settled = low.settle(x, fraction, f"{node.name}.current", unit=unit)
    made = _fire(low, node, settled, {"count": [top], "reset": "hard", "decay": decay}, constants)
    worth = float(unit)
    _report(low, node, bits, fraction, unit, max([lost, *errors]), reach(low, x, unit, module), worth, x.at)
    low.report.notes.append(f"real spikes of {node.name} are levels 0..{top} of {worth:.4g} each, larger ones {top}")
    return wire(made, worth, at=x.at)


def _report(
    low: Lowering,
    node: Node,
    spike_bits: int,
    bits: int,
    unit: Any,
    rounding: float,
    far: float,
    level: float = 1.0,
    at: Array | None = None,
) -> None:
    found = None if at is None else layout(at)
    axes, order = ([], []) if found is None else (list(found.axes), list(found.order))
    low.report.layers.append(
        LayerReport(
            node.name,
            "neuron",
            spike_bits=spike_bits,
            fraction_bits=bits,
            unit=float(np.max(unit)),
            safe=bits_above(far) >= bits,
            level=level,
            rounding=rounding,
            axes=axes,
            order=order,
        )
    )
