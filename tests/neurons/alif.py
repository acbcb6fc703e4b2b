"""A neuron of the tests: a binary LIF whose threshold rises with every spike and falls back (ALIF)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from bitspike.formats import SpikeFormat
from bitspike.functional import Stairs, fire
from bitspike.neurons import Emission, ExtraCost, Membrane, Neuron
from bitspike.neurons.assembly import assemble, fire_at


class ALIFState(NamedTuple):
    """``v``: membrane after the last reset; ``a``: how far the threshold is raised."""

    v: Tensor
    a: Tensor


class ALIF(Neuron):
    """``θ = threshold·(1 + rise·a)``; ``s = [u >= θ]``; ``v = u − θ·s`` (soft) or 0; ``a ← fall·a + s``."""

    def __init__(
        self,
        rise: float = 0.75,
        fall: float = 0.5,
        threshold: float = 1.0,
        decay: float = 0.5,
        reset: str = "soft",
        detach_reset: bool = False,
        surrogate: str = "rectangle",
        train_amplitude: str = "none",
    ) -> None:
        super().__init__()
        self.rise, self.fall = rise, fall
        membrane = Membrane(decay, False, reset, detach_reset)
        sharing = assemble(self, threshold, surrogate, membrane, Emission(1.0, train_amplitude))
        fire_at(self, Stairs(threshold, threshold), SpikeFormat(amplitude=sharing))

    def initial_state(self, x: Tensor) -> ALIFState:
        return ALIFState(torch.zeros_like(x), torch.zeros_like(x))

    def threshold_scale_at(self, state: Any) -> Tensor | float:
        return 1 + self.rise * state.a

    def step(self, x: Tensor, state: ALIFState) -> tuple[Tensor, ALIFState]:
        u = self.membrane.charge(state.v, x)
        scale = 1 + self.rise * state.a
        k = fire(u / scale, self.stairs, self.surrogate)
        v = self.membrane.reset(u, k, self.threshold * scale, False, False)  # type: ignore[arg-type]
        return self.emission(k), ALIFState(v, self.fall * state.a + k)

    def extra_cost(self) -> ExtraCost:
        return ExtraCost(states=1, adds=2, multiplications=2)
