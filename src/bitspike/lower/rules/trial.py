"""Trying a neuron out: whether its step is that of the row `fire`, and what a level carries away."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bitspike.lower.wire import Refused
from bitspike.neurons import Neuron

_STEPS, _NUMBERS = 5, 257


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
def check_row(module: Neuron, count: int, charge: float) -> None:
    """Raise `Refused` unless a neuron sends what the row sends, in float64 on currents up to a few thresholds.

    Args:
        count: greatest level; 0 where it differs by step, or spikes are real: those are not tried out.
        charge: what a level takes in a soft reset.
    """
    if not count:
        return
    stairs, channels = module.stairs, max(module.channels(), 1)
    reach = stairs.first + stairs.spacing * min(count, 40)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(_STEPS, _NUMBERS, channels, generator=generator, dtype=torch.float64) * 2.4 - 1.0
    x *= reach * module.threshold_scale(x)
    got = module.emission.levels(module.run(x)[0]).round()
    wanted = _row(module, x, count, charge)
    differ = int((got != wanted).sum())
    if differ > 2:  # a membrane may lie within a rounding of its threshold
        name = type(module).__name__
        raise Refused(f"a step of {name} is not charge, fire and reset of a program: {differ} of {x.numel()} spikes")


def _row(module: Neuron, x: Tensor, count: int, charge: float) -> Tensor:
    stairs, membrane, scales = module.stairs, module.membrane, module.threshold_scale(x)
    v: Any = torch.full_like(x[0], membrane.initial)
    sent, sums = [], torch.zeros_like(x[0])
    for t, current in enumerate(x):
        scale = scales[min(t, len(scales) - 1)] if scales.dim() == x.dim() else scales
        u = v * float(membrane.decay()) + current
        floor = membrane.floor_like(u)
        u = u if floor is None else torch.maximum(u, torch.as_tensor(floor, dtype=u.dtype))
        n = (u.abs() if stairs.signed else u) / scale
        k = (torch.floor((n - stairs.first) / stairs.spacing) + 1).clamp(0, count)
        k = torch.where((u < 0) & stairs.signed, -k, k)
        if module.cancels_only:
            k = torch.maximum(k, -sums)
            sums = sums + k
        v = u - charge * scale * k if membrane.reset_kind == "soft" else torch.where(k != 0, 0.0, u)
        sent.append(k)
    return torch.stack(sent)
