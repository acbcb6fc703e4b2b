"""Neuron trained with integer spikes, sent as binary sub-steps on event-driven hardware."""

from __future__ import annotations

from torch import Tensor

from bitspike.checks import integer
from bitspike.formats import SpikeFormat
from bitspike.functional import Stairs, Surrogate, fire
from bitspike.neurons.base import NEURONS, Neuron, amplitude_sharing, as_surrogate, fresh, fused_levels
from bitspike.neurons.parts import Emission, Membrane
from bitspike.ops import MembraneState, ScanSpec


@NEURONS.register("integer")
class Integer(Neuron):
    """Integer LIF: ``s = round_half(clip(u/threshold, 0, D))``; ``v = u − threshold·s`` (soft).

    `bitspike.convert.expand_unary` replaces every such spike by D binary sub-steps; the sums are equal.

    Source: I-LIF, SpikeYOLO (arXiv 2407.20708): straight-through inside [0, D], decay 0.25, detached soft reset.

    Args:
        D: greatest integer, 1 to 255.
        threshold: membrane value of one spike, > 0, default 1; level 1 fires at threshold/2 (rounding, halves up).
        decay: factor per step in [0, 1], default 0.25. learn_decay: learn it (one per layer).
        reset: "soft" or "hard". detach_reset: cut the gradient of the reset, default True.
        surrogate: object, name or "name:parameter"; default one window over [0, D·threshold].
        amplitude, train_amplitude, raw_amplitude: see `Emission`; default 1, fixed.
        initial: membrane before the first step, default 0. floor: least membrane, <= 0; default none.

    >>> import torch; Integer(2)(torch.tensor([[[0.4, 0.5, 1.5, 9.0]]])).flatten().tolist()
    [0.0, 1.0, 2.0, 2.0]
    """

    def __init__(
        self,
        D: int = 4,
        threshold: float = 1.0,
        decay: float = 0.25,
        learn_decay: bool = False,
        reset: str = "soft",
        detach_reset: bool = True,
        surrogate: str | Surrogate = "rectangle",
        amplitude: float = 1.0,
        train_amplitude: str = "none",
        raw_amplitude: bool = False,
        initial: float = 0.0,
        floor: float | None = None,
    ) -> None:
        super().__init__()
        self.threshold = threshold
        integer("Integer", "D", D, 1, 255)
        self.stairs = Stairs(threshold / 2, threshold, D)
        self.format = SpikeFormat(0, D, amplitude=amplitude_sharing(amplitude, train_amplitude), unary=D)
        self.surrogate = as_surrogate(surrogate)
        self.surrogate.check("Integer", self.stairs)
        self.membrane = Membrane(decay, learn_decay, reset, detach_reset, initial, floor)
        self.emission = Emission(amplitude, train_amplitude, raw_amplitude)

    def initial_state(self, x: Tensor) -> MembraneState:
        """The initial membrane."""
        return fresh(x, self.membrane.initial)

    def step(self, x: Tensor, state: MembraneState) -> tuple[Tensor, MembraneState]:
        """One step, x [B, ...]."""
        u = self.membrane.charge(state.v, x)
        k = fire(u, self.stairs, self.surrogate)
        v = self.membrane.reset(u, k, self.stairs.spacing, graded=self.stairs.count > 1, signed=False)
        return self.emission(k), MembraneState(v)

    def fused(self) -> ScanSpec | str:
        """For fused kernels."""
        return fused_levels(self, self.stairs.spacing)
