"""Affine maps, gains, norms and activations: most of them wait for the next rescale."""

from __future__ import annotations

import numpy as np

from bitspike.graph import Node
from bitspike.layers import Affine, BatchNorm, ClipFloor, Gain
from bitspike.lower.lowering import Lowering
from bitspike.lower.wire import Array, Refused, Wire


def affine(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """``scale·x + shift``, also of a batch norm in evaluation mode."""
    module = node.module
    if isinstance(module, BatchNorm):
        if module.training:
            raise Refused("it is a batch norm in training mode; fold the network")
        scale, shift = module.affine()
    else:
        assert isinstance(module, Affine)
        scale, shift = module.scale, module.shift
    x, of = low.channels(wires[0], 0)
    return x.times(*(_taken(number.detach().double().cpu().numpy(), of) for number in (scale, shift)))


def _taken(numbers: Array, of: Array | None) -> Array:
    """Numbers a channel of the network as those of a wire's channels."""
    taken: Array = numbers if of is None or not numbers.ndim or numbers.shape[-1] == 1 else numbers[..., of]
    return taken


def gain(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """``factor·x``; the factor may change from step to step."""
    module = node.module
    assert isinstance(module, Gain)
    factor = module.factor.detach().double().cpu().numpy()
    if factor.ndim == 1 and factor.size == 1:
        factor = factor[0]
    if not factor.ndim or factor.shape[-1] == 1:
        return wires[0].times(factor)
    axis = -1 if module.channel_dim == -1 else 0
    x, of = low.channels(wires[0], axis)
    return x.times(_taken(over_features(factor, low.shape(x)[axis], module.channel_dim), of))


def over_features(factor: Array, features: int, channel_dim: int | None) -> Array:
    """Factors [..., C] of so many features: flattened channels, or flattened tokens where channels are last."""
    if factor.shape[-1] in (1, features):
        return factor
    times = features // factor.shape[-1]
    return np.tile(factor, times) if channel_dim == -1 else np.repeat(factor, times, -1)


def relu(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """``max(x, 0)`` of a current; the clamp below 0 is the function itself."""
    (x,) = wires
    value = low.value(x)
    if value.low >= 0 and not x.shift.any() and (x.factor >= 0).all():
        return x
    source = low.source(node)
    return low.settle(x, low.fraction_bits(x, source), f"{node.name}.relu", low=0)


def clip_floor(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """Levels 0 .. L of λ/L each: first a current, so that the shift is not rounded to levels, then the levels."""
    module = node.module
    assert isinstance(module, ClipFloor)
    step = float(module.ceiling().detach().double()) / module.levels
    x = low.current(wires[0], low.source(node), f"{node.name}.current")
    return low.settle(x, 0, f"{node.name}.levels", unit=step, low=0, high=module.levels)


def same(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """Nothing: identity, dropout, the read-out of every step."""
    return wires[0]
