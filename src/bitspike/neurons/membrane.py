"""The membrane of a neuron: leak, floor and reset."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, in_range, number, one_of
from bitspike.functional import charge, reset_hard, reset_soft
from bitspike.neurons.emission import per_channel
from bitspike.sealed import Sealed


class Membrane(Sealed, nn.Module):
    """Leak and reset of a membrane; holds constants and at most one parameter, never a state.

    Args:
        decay: factor per step in [0, 1]; 1 is integrate-and-fire.
        learn_decay: learn one decay per layer, as ``sigmoid(raw_decay)`` in (0, 1) (PLIF form).
        reset: "hard" (to 0) or "soft" (subtract the emitted charge).
        detach_reset: cut the gradient of the reset through the spike.
        initial: membrane before the first step; half a level makes a floor round (conversion).
        floor: least membrane before firing, <= 0 and <= initial; None: there is none.

    Attributes:
        floor_factor: [C] on the floor of a folded neuron whose thresholds are scaled per channel, else None; channels
            are axis 1 of a step then.
    """

    sealed = ("fixed_decay", "reset_kind")

    def __init__(
        self,
        decay: float,
        learn_decay: bool,
        reset: str,
        detach_reset: bool,
        initial: float = 0.0,
        floor: float | None = None,
    ) -> None:
        super().__init__()
        number("Membrane", "initial", initial)
        if not math.isfinite(initial):
            raise bad_value("Membrane", "the initial membrane must be finite", initial, "start at 0")
        self.initial = float(initial)
        if floor is not None:
            number("Membrane", "floor", floor)
        if floor is not None and not -math.inf < floor <= min(0.0, initial):
            must = "the floor must be finite, <= 0 and <= the initial membrane"
            raise bad_value("Membrane", must, floor, "pass e.g. floor=-1.0, or None for no floor")
        self.floor = None if floor is None else float(floor)
        self.register_buffer("floor_factor", None)
        self.floor_factor: Tensor | None
        in_range("Membrane", "decay", decay, 0.0, 1.0)
        if learn_decay and not 0 < decay < 1:
            raise bad_value("Membrane", "a learnable decay must start inside (0, 1)", decay, "start at 0.25 or 0.5")
        self.reset_kind = one_of("Membrane", "reset", reset, ("hard", "soft"))
        self.detach_reset = detach_reset
        self.fixed_decay = float(decay)
        self.raw_decay = nn.Parameter(torch.tensor(math.log(decay / (1 - decay)))) if learn_decay else None

    def decay(self) -> Tensor | float:
        """Factor per step: a float, or a differentiable tensor [] where it is learned."""
        return self.fixed_decay if self.raw_decay is None else torch.sigmoid(self.raw_decay)

    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        """Membrane before firing, ``decay·v + x``, not below the floor."""
        return charge(v, x, self.decay(), self.floor_like(x))

    def floor_like(self, x: Tensor) -> Tensor | float | None:
        """The floor, to broadcast over currents of one step x [B, C, ...]; None where there is none."""
        if self.floor is None or self.floor_factor is None:
            return self.floor
        return per_channel(self.floor_factor.to(x.dtype) * self.floor, x, 1)

    def rescaled(self, factor: Tensor) -> None:
        """Multiply the floor by a factor > 0 [C], for a neuron whose thresholds and currents are."""
        if self.floor is not None:
            self.floor_factor = factor if self.floor_factor is None else self.floor_factor * factor

    def reset(self, u: Tensor, k: Tensor, level_charge: float, graded: bool, signed: bool) -> Tensor:
        """Membrane after firing.

        Args:
            u: membrane before firing. k: fired levels, the same shape.
            level_charge: membrane value that one level carries away in a soft reset.
            graded: whether |k| may exceed 1. signed: whether k may be negative.
        """
        if self.reset_kind == "soft":
            sent = k * level_charge
            return reset_soft(u, sent.detach() if self.detach_reset else sent)
        if self.detach_reset:
            return reset_hard(u, (k.detach() != 0).to(u.dtype))
        fired = k * k.detach().sign() if signed else k
        if graded:
            fired = torch.where(k.detach().abs() <= 1, fired, torch.ones_like(fired))
        return reset_hard(u, fired)

    def extra_repr(self) -> str:
        learned = ", learned" if self.raw_decay is not None else ""
        start = f", initial={self.initial:g}" if self.initial else ""
        start += "" if self.floor is None else f", floor={self.floor:g}"
        return f"decay={self.fixed_decay:g}{learned}, reset={self.reset_kind}, detach_reset={self.detach_reset}{start}"
