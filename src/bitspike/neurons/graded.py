"""What the neurons with unsigned integer levels share: one step, and bits that are fixed or learned."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, integer, one_of
from bitspike.functional import asked, fire, greatest_level, rounded
from bitspike.neurons.base import Neuron, fresh, fused_levels
from bitspike.ops import MembraneState, ScanSpec


class Graded(Neuron):
    """Levels 0 .. Q, ``Q = 2^B − 1`` where bits are learned; a leaf says in `describe` what a width makes of it.

    ``B = round_half(clip(|raw_bits|, least_bits, bound))``. Learned is the range ("integer" bits, level worth fixed) or
    the resolution ("fraction" bits, range fixed); with P' the surrogate, u the membrane, Δ the worth of a level in it,
    over = [u above the middle of the top level], and the level k in units of one whole spike, s = Δ·k:

        integer:   dk/dB = over·ln2·2^B
        fraction:  ds/dB = ln2·(u·Δ·P'(u) − s) + over·ln2·Δ·2^B

    The second is LSQ's gradient of a step size Δ ∝ 2^−B whose range is kept: inside the range ln2·(u − s), what is lost
    by rounding. There is no step size to be renewed: thresholds stay in units of a whole spike.

    The width in use is the buffer ``width`` (None where bits are fixed); `refresh`, between optimiser steps, brings it
    and ``format`` up to date.

    Source: ours, after adaptive bit allocation (arXiv 2506.23717), whose spikes have a learned step size.
    """

    constants: tuple[str, ...] = ("width",)
    sealed: ClassVar[tuple[str, ...]] = ("bits", "grows", "least_bits", "sharing")
    channel_axis: int | None = None
    grows: str = "none"

    def learn(self, grows: str, bits: int, least: int, bound: int | None) -> None:
        """The last call of a constructor: let bits be learned, or not (``grows`` "none"), and describe the alphabet.

        Args:
            grows: "none", "integer" or "fraction". bits: B to start from. least: B at least.
            bound: B at most, up to 8; default bits + 2.
        """
        where = type(self).__name__
        self.grows = one_of(where, "learn_bits", grows, ("none", "integer", "fraction"))
        if grows != "none" and self.membrane.raw_threshold is not None:
            must = "thresholds are trained where bits are fixed, for both would set the worth of a level"
            raise bad_value(where, must, f"learn_bits={grows!r}", "leave one of them out")
        self.bits: int = bits
        self.least_bits: int = least
        self.register_buffer("width", None)
        self.width: Tensor | None
        self.bound: int = integer(where, "bound", min(bits + 2, 8) if bound is None else bound, bits, 8)
        self.raw_bits = None if grows == "none" else nn.Parameter(torch.tensor(float(bits)))
        if grows != "none":
            self.width = torch.tensor(bits)
        self.describe(bits)
        self.surrogate.check(where, self.stairs)

    @abstractmethod
    def describe(self, bits: int) -> None:
        """Set format, stairs and emission to those of a width."""

    def wanted_width(self) -> Tensor:
        """Bits that the parameter asks for, int64 []."""
        if self.raw_bits is not None:
            return rounded(self.raw_bits, self.least_bits, self.bound)
        return torch.tensor(self.bits) if self.width is None else self.width

    def refresh(self) -> None:
        """Put the wanted width to use. Call it between optimiser steps, never in a compiled graph."""
        if self.width is not None:
            self.width.copy_(asked(type(self).__name__, self.wanted_width()))
            self.describe(int(self.width))

    def levels(self, bits: int) -> tuple[int, int, int]:
        """Least and greatest level and their stride at a width."""
        return 0, 2**bits - 1, 1

    def step_parameter(self) -> None:
        """None: there is no learned step size."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """As torch's; then the format is that of the loaded width."""
        super()._load_from_state_dict(state_dict, prefix, *args)
        if self.width is not None:
            self.describe(int(self.width))

    def keep_thresholds(self) -> None:
        """The bits of a folded neuron are fixed, so a fused kernel may run it."""
        self.raw_bits = self.width = None

    def initial_state(self, x: Tensor) -> MembraneState:
        """The initial membrane."""
        return fresh(x, self.membrane.initial)

    def step(self, x: Tensor, state: MembraneState) -> tuple[Tensor, MembraneState]:
        """One step, x [B, ...]."""
        u = self.membrane.charge(state.v, x)
        if self.raw_bits is None:
            k = self.membrane.fire(u, self.stairs, self.surrogate)
            sent = k
        else:
            k, sent = self._fire_learned(u, self.raw_bits)
        soft = self.membrane.reset_kind == "soft"
        taken = sent if soft else k
        charge = self.membrane.scaled(self.stairs.spacing, u)
        v = self.membrane.reset(u, taken, charge, graded=self.stairs.count > 1, signed=False)
        return self.emission(sent), MembraneState(v)

    def _fire_learned(self, u: Tensor, raw: nn.Parameter) -> tuple[Tensor, Tensor]:
        """(levels, levels times the relative worth of one, which is 1 forward), with gradients to the bits."""
        stairs = self.stairs
        worth = torch.ones((), dtype=u.dtype, device=u.device)
        if self.grows == "fraction":
            bits = raw.abs().to(u.dtype)
            worth = torch.exp2(bits.detach() - bits)
        k = fire(u / worth, stairs, self.surrogate)
        over = (u.detach() > stairs.first + stairs.spacing * (stairs.count - 0.5)).to(u.dtype)
        top = greatest_level(torch.as_tensor(self.width), raw, False, u.dtype)
        k = k + over * (top - top.detach())
        return k, k * worth

    def fused(self) -> ScanSpec | str:
        """For fused kernels."""
        if self.raw_bits is not None:
            return f"{type(self).__name__} learns its bits"
        return fused_levels(self, self.stairs.spacing)
