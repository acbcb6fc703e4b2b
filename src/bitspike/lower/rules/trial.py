"""Trying a neuron out: whether its step is that of the row `fire`, and what a level carries away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bitspike.lower.wire import Refused
from bitspike.neurons import Neuron
from bitspike.neurons.membrane import Membrane

_STEPS, _NUMBERS = 5, 1024


def decay_per_step(membrane: Membrane) -> float:
    """The decay that all channels have.

    >>> from bitspike.neurons import LIF
    >>> decay_per_step(LIF(decay=0.5, learn_decay="channel").replicate(3).membrane)
    0.5
    """
    decay = membrane.decay()
    if not isinstance(decay, Tensor):
        return float(decay)
    values = decay.detach().double().flatten()
    if (values != values[0]).any():
        ends = f"{float(values.min()):.3g} to {float(values.max()):.3g}"
        raise Refused(f"its channels have decays of their own, {ends}, a program has one a layer")
    return float(values[0])


@torch.no_grad()
def charge_of(module: Neuron) -> float:
    """What one level takes from a membrane in a soft reset: ``u − v`` where u is the first threshold.

    >>> from bitspike.neurons import Integer, Ternary
    >>> charge_of(Integer(3, reset="soft").double()), charge_of(Ternary(reset="soft").double())
    (1.0, 0.5)
    """
    x = torch.zeros(1, 1, max(module.channels(), 1), dtype=torch.float64)
    scale = module.threshold_scale(x).expand_as(x)
    u = scale * module.stairs.first * (1 + 1e-12)
    state = module.initial_state(u[0])
    left = module.step(u[0] - module.membrane.charge(state.v, torch.zeros_like(u[0])), state)[1].v
    taken = float(((u[0] - left) / scale[0]).flatten()[0])
    known = (module.stairs.spacing, module.stairs.first)
    return next((charge for charge in known if abs(taken / charge - 1) < 1e-9), taken)


@torch.no_grad()
def check_row(module: Neuron, counts: Sequence[int], charge: float, channels: int) -> None:
    """Raise `Refused` unless a neuron sends what the row sends, in float64 on currents up to a few thresholds.

    Args:
        counts: greatest level, by step where it differs; none where spikes are real.
        charge: what a level takes in a soft reset. channels: of its currents.
    """
    stairs = module.stairs
    reach = stairs.first + stairs.spacing * min(max(counts, default=1), 40)
    generator = torch.Generator().manual_seed(0)
    x = (
        torch.rand(_STEPS, max(_NUMBERS // channels, 16), channels, generator=generator, dtype=torch.float64) * 2.4
        - 1.0
    )
    x *= reach * module.threshold_scale(x)
    sent = module.run(x)[0]
    if module.format.real:
        differ = int(((sent - _real(module, x)).abs() > 1e-9 * reach).sum())
    else:
        differ = int((module.emission.levels(sent).round() != _row(module, x, counts, charge)).sum())
    if differ > 2:  # a membrane may lie within a rounding of its threshold
        name = type(module).__name__
        raise Refused(f"a step of {name} is not charge, fire and reset of a program: {differ} of {x.numel()} spikes")


def _real(module: Neuron, x: Tensor) -> Tensor:
    """``u`` where it is at least the threshold, which then starts again at 0."""
    v, sent, scale = torch.zeros_like(x[0]), [], module.threshold_scale(x)
    decay = decay_per_step(module.membrane)
    for current in x:
        u = v * decay + current
        floor = module.membrane.floor_like(u)
        u = u if floor is None else torch.maximum(u, torch.as_tensor(floor, dtype=u.dtype))
        sent.append(torch.where(u / scale >= module.stairs.first, u, 0.0))
        v = u - sent[-1]
    return torch.stack(sent)


def _row(module: Neuron, x: Tensor, counts: Sequence[int], charge: float) -> Tensor:
    stairs, membrane, scales = module.stairs, module.membrane, module.threshold_scale(x)
    v: Any = torch.full_like(x[0], membrane.initial)
    sent, sums, decay = [], torch.zeros_like(x[0]), decay_per_step(membrane)
    for t, current in enumerate(x):
        scale = scales[min(t, len(scales) - 1)] if scales.dim() == x.dim() else scales
        u = v * decay + current
        floor = membrane.floor_like(u)
        u = u if floor is None else torch.maximum(u, torch.as_tensor(floor, dtype=u.dtype))
        n = (u.abs() if stairs.signed else u) / scale
        k = (torch.floor((n - stairs.first) / stairs.spacing) + 1).clamp(0, counts[min(t, len(counts) - 1)])
        k = torch.where((u < 0) & stairs.signed, -k, k)
        if module.cancels_only:
            k = torch.maximum(k, -sums)
            sums = sums + k
        v = u - charge * scale * k if membrane.reset_kind == "soft" else torch.where(k != 0, 0.0, u)
        sent.append(k)
    return torch.stack(sent)
