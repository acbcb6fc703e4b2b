"""Multi-bit neuron whose bits and step size are learned: adaptive bit allocation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, in_range, integer, one_of, positive
from bitspike.formats import SpikeFormat
from bitspike.functional import (
    LEAST_STEP,
    Rectangle,
    Stairs,
    asked,
    greatest_level,
    lsq_gain,
    processes,
    round_half,
    rounded,
    scale_gradient,
)
from bitspike.neurons.base import NEURONS, ExtraCost, Neuron, fresh
from bitspike.neurons.emission import Emission, over_time, per_channel
from bitspike.neurons.membrane import Membrane
from bitspike.ops import AdaptiveSpec, MembraneState, TimedState
from bitspike.sealed import amend, rewritten


@NEURONS.register("adaptive")
class Adaptive(Neuron):
    """A neuron whose number of spike bits and step size are learned by gradient.

    ``k = round_half(clip(u/γ, 0, Q))``, ``Q = 2^B − 1``, ``s = γ·k``, ``v = sg(u − s)``; B and γ are learned.

    The step γ is threshold and amplitude in one; ``B = round_half(clip(|raw_bits|, 1, bound))``. With g the gradient of
    s, in = [0 <= u/γ <= Q] and over = [u/γ > Q]: ``dL/du = g·in``; ``dL/dγ = G·Σ g·(in·(k − u/γ) + over·Q)`` with G =
    1/√(N·Q); ``dL/dB = Σ g·over·ln2·γ·(Q + 1)``. Signed: levels −Q .. Q with ``Q = 2^(B−1) − 1``, B >= 2.
    No gradient passes from one time step to the next but that of a learned decay.

    The width in use is the buffer ``width``; `refresh`, between optimiser steps, brings it and ``format`` up to date.

    Source: adaptive bit allocation (arXiv 2506.23717), eq. 9-14, charge and reset from its code.
    Differs: fires at >= γ/2 with one bit too (the release: >); its signed one-bit form does not exist here (it would
    fire at every step); steps are shared over time by default.

    Args:
        bits: initial or fixed B, 1 to 8, default 4. learn_bits: learn it.
        bound: greatest B, up to 16; default bits + 2.
        threshold: initial γ, > 0, default 1; training starts it from the first batch.
        sharing: who shares γ: "layer" (default) or "channel".
        steps: time steps with B and γ of their own, the last ones for all later steps; default 1, shared over time.
        decay: factor per step in [0, 1], default 1 (no leak). learn_decay: learn it, True (one per layer) or "channel".
        signed: whether levels may be negative.
        bit_gradient: "true", or "release", which halves dL/dB at one bit.
        scale_gradient: apply G; False leaves the plain gradient (for tests).

    Called with currents [T, B, ...], it returns spikes of that shape; `run` takes and returns the state as well.

    Raises:
        ValueError: a number out of its range, or an unknown name. TypeError: an argument of another kind.

    >>> Adaptive(2)(torch.tensor([[[0.4, 0.5, 1.5, 9.0, -3.0]]])).flatten().tolist()
    [0.0, 1.0, 2.0, 3.0, 0.0]
    """

    constants: tuple[str, ...] = ("width", "fixed_step")
    sealed: ClassVar[tuple[str, ...]] = ("formats", "channel_axis", "least_bits", "halve", "surrogate")
    remedies: ClassVar[Mapping[str, str]] = {"surrogate": "leave it, the gradient is straight-through and reads none"}
    settable: ClassVar[tuple[str, ...]] = ("scale_gradient",)
    formats: tuple[SpikeFormat, ...]
    detach_state = True

    def __init__(
        self,
        bits: int = 4,
        learn_bits: bool = True,
        bound: int | None = None,
        threshold: float = 1.0,
        sharing: str = "layer",
        steps: int = 1,
        decay: float = 1.0,
        learn_decay: bool | str = False,
        signed: bool = False,
        bit_gradient: str = "true",
        scale_gradient: bool = True,
    ) -> None:
        super().__init__()
        self.least_bits = 2 if signed else 1
        integer("Adaptive", "bits", bits, self.least_bits, 8)
        self.bound: int = integer("Adaptive", "bound", bits + 2 if bound is None else bound, bits, 16)
        integer("Adaptive", "steps", steps, 1, 1000)
        one_of("Adaptive", "sharing", sharing, ("layer", "channel"))
        self.halve: bool = one_of("Adaptive", "bit_gradient", bit_gradient, ("true", "release")) == "release"
        self.signed: bool = signed
        self.scale_gradient: bool = scale_gradient
        positive("Adaptive", "threshold", threshold)
        in_range("Adaptive", "threshold", threshold, 0, 3.4e38)
        self.threshold: float = threshold
        self.sharing: str = sharing
        self.steps: int = steps
        self.stairs: Stairs = Stairs(threshold / 2, threshold, 1, signed)
        self.surrogate: Rectangle = Rectangle()
        self.membrane: Membrane = Membrane(decay, learn_decay, "soft", True)
        self.emission: Emission = Emission(threshold, sharing, True, least=LEAST_STEP, steps=steps)
        shape = () if steps == 1 else (steps,)
        self.raw_bits: nn.Parameter | None = nn.Parameter(torch.full(shape, float(bits))) if learn_bits else None
        self.register_buffer("width", torch.full(shape, bits))
        self.register_buffer("fixed_step", None)
        self.width: Tensor
        self.fixed_step: Tensor | None
        self.format: SpikeFormat = SpikeFormat(amplitude=sharing)
        self._describe()

    @property
    def channel_axis(self) -> int | None:
        """Axis of currents [T, B, ...] with a step size per entry."""
        last = self.emission.channel_dim == -1
        return None if self.sharing == "layer" else -1 if last else 2

    def channels(self) -> int:
        """Step sizes per channel, those of a folded neuron too."""
        size = self.step_size()
        own = size.shape[-1] if self.sharing == "channel" and size.dim() else 0
        return max(own, self.membrane.channels())

    def wanted_width(self) -> Tensor:
        """Bits that the parameters ask for, int64 [] or [steps]."""
        return self.width if self.raw_bits is None else rounded(self.raw_bits, self.least_bits, self.bound)

    def refresh(self) -> None:
        """Put the wanted width to use. Call it between optimiser steps, never in a compiled graph."""
        self.width.copy_(asked("Adaptive", self.wanted_width()))
        self._describe()

    def follow(self) -> None:
        """Take over widths that somebody has written into the buffer, such as an average of models."""
        if rewritten(self, self.width):
            self._describe()

    def _describe(self) -> None:
        """Format (of the widest step) and staircase, from the width."""
        ends = [self.levels(int(bits)) for bits in self.width.flatten().tolist()]
        formats = tuple(replace(self.format, low=low, high=high) for low, high, _ in ends)
        widest = max(formats, key=lambda record: record.high)
        stairs = Stairs(self.threshold / 2, self.threshold, widest.high, self.signed)
        amend(self, formats=formats, format=widest, stairs=stairs)

    def levels(self, bits: int) -> tuple[int, int, int]:
        """Least and greatest level and their stride at a width."""
        high = 2 ** (bits - 1 if self.signed else bits) - 1
        return -high if self.signed else 0, high, 1

    def step_parameter(self) -> nn.Parameter:
        """The learned γ: [], [C], [steps, 1] or [steps, C]."""
        if self.emission.raw_amplitude is None:
            raise bad_value("Adaptive", "a step size can be set while it is learned", "a folded neuron", "train first")
        return self.emission.raw_amplitude

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """As torch's; then the format is that of the loaded width."""
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._describe()

    def step_size(self) -> Tensor:
        """γ, differentiable: [] or [C]; [steps, 1] or [steps, C] if not shared over time."""
        return torch.as_tensor(self.emission.amplitude()) if self.fixed_step is None else self.fixed_step

    def keep_thresholds(self) -> None:
        """γ stays the threshold when the amplitude has gone."""
        self.fixed_step = self.step_size().detach().clone()
        amend(self, formats=tuple(record.unit() for record in self.formats))

    def threshold_scale(self, u: Tensor) -> Tensor:
        """γ over the initial one, which `stairs` is made for."""
        return (over_time(self.step_size().detach(), u, self.emission.channel_dim) / self.threshold).to(u.dtype)

    def initial_state(self, x: Tensor) -> MembraneState | TimedState:
        """A discharged membrane at step 0."""
        start = fresh(x)
        return start if self.steps == 1 else TimedState(start.v, torch.zeros_like(x))

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One step, x [B, ...]."""
        u = self.membrane.charge(state.v, x)
        size, width = self.step_size(), self.width
        raw: Tensor | None = self.raw_bits
        if self.steps > 1:
            time = torch.cat([state.time.flatten()[:1], state.time.new_zeros(1)])[:1]  # an empty batch is at step 0
            now = time.to(torch.int64)
            size, width = size.index_select(0, now)[0], width.index_select(0, now)
            size = size if self.sharing == "channel" else size.reshape(())
            raw = None if raw is None else raw.index_select(0, now)
        top = greatest_level(width, raw, self.signed, u.dtype, self.halve)
        if self.scale_gradient and self.fixed_step is None:
            size = scale_gradient(size, lsq_gain(u.numel() * processes(), size.numel(), top).to(size.dtype))
        size = per_channel(size.to(u.dtype), u, self.emission.channel_dim)
        ratio = u / size
        clipped = torch.clamp(ratio, -top if self.signed else torch.zeros_like(top), top)
        k = round_half(clipped) + (clipped - clipped.detach())
        s = k * size
        v = u.detach() - s.detach()
        sent = s if self.fixed_step is None else k
        if self.steps == 1:
            return sent, MembraneState(v)
        return sent, TimedState(v, (state.time + 1).clamp(max=self.steps - 1))

    def extra_cost(self) -> ExtraCost:
        """Nothing: the step that a layer is at is one number."""
        return ExtraCost()

    def fused(self) -> AdaptiveSpec | str:
        """The record for fused kernels."""
        if type(self.membrane) is not Membrane or type(self.emission) is not Emission:
            return f"{type(self).__name__} has parts of its own"
        if self.membrane.channels():
            return "decays per channel have no kernel"
        size, levels = self.step_size(), self.fixed_step is not None
        return AdaptiveSpec(
            size.reshape(self.steps, -1),
            greatest_level(self.width, self.raw_bits, self.signed, size.dtype, self.halve).reshape(-1),
            self.membrane.decay(),
            self.signed,
            levels,
            self.scale_gradient and not levels,
            self.sharing == "channel",
        )
