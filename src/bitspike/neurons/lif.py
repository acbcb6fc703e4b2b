"""Leaky integrate-and-fire neuron with binary spikes."""

from __future__ import annotations

from torch import Tensor

from bitspike.formats import SpikeFormat
from bitspike.functional import Stairs, Surrogate
from bitspike.neurons.assembly import assemble, fire_at
from bitspike.neurons.base import NEURONS, Neuron, fresh, fused_levels
from bitspike.neurons.emission import Emission
from bitspike.neurons.membrane import Membrane
from bitspike.ops import MembraneState, ScanSpec


@NEURONS.register("lif")
class LIF(Neuron):
    """Binary LIF: ``u = decay·v + x``; ``s = [u >= threshold]``; ``v = u·(1 − s)`` or ``u − threshold·s``.

    Source: Ternary Spike (AAAI 2024), binary baseline (its code: threshold 0.5, decay 0.25, hard, not detached).

    Args:
        threshold: membrane value that fires (>=), > 0; default 1.
        decay: factor per step in [0, 1], default 0.5; 1 is an integrate-and-fire neuron.
        learn_decay: learn the decay, True (one per layer) or "channel" (one a channel).
        reset: "hard" or "soft". detach_reset: cut the gradient of the reset.
        surrogate: object, name or "name:parameter"; default a rectangle as wide as the threshold, centred on it.
        amplitude, train_amplitude, raw_amplitude: value of a spike (Real Spike), see `Emission`; default 1, fixed.
        initial: membrane before the first step, default 0. floor: least membrane, <= 0; default none.
        train_threshold: "none", "layer" or "channel": learn thresholds, see `Membrane`.

    Called with currents [T, B, ...], it returns spikes of that shape; `run` takes and returns the state as well.

    Raises:
        ValueError: a number out of its range, or an unknown name. TypeError: an argument of another kind.

    >>> import torch; LIF()(torch.tensor([[[0.6]], [[0.7]], [[1.0]]])).flatten().tolist()
    [0.0, 1.0, 1.0]
    """

    def __init__(
        self,
        threshold: float = 1.0,
        decay: float = 0.5,
        learn_decay: bool | str = False,
        reset: str = "hard",
        detach_reset: bool = False,
        surrogate: str | Surrogate = "rectangle",
        amplitude: float = 1.0,
        train_amplitude: str = "none",
        raw_amplitude: bool = False,
        initial: float = 0.0,
        floor: float | None = None,
        train_threshold: str = "none",
    ) -> None:
        super().__init__()
        membrane = Membrane(decay, learn_decay, reset, detach_reset, initial, floor, train_threshold)
        sharing = assemble(self, threshold, surrogate, membrane, Emission(amplitude, train_amplitude, raw_amplitude))
        fire_at(self, Stairs(threshold, threshold), SpikeFormat(amplitude=sharing))

    def initial_state(self, x: Tensor) -> MembraneState:
        """The initial membrane."""
        return fresh(x, self.membrane.initial)

    def step(self, x: Tensor, state: MembraneState) -> tuple[Tensor, MembraneState]:
        """One step, x [B, ...]."""
        u = self.membrane.charge(state.v, x)
        k = self.membrane.fire(u, self.stairs, self.surrogate)
        v = self.membrane.reset(u, k, self.membrane.scaled(self.stairs.spacing, u), graded=False, signed=False)
        return self.emission(k), MembraneState(v)

    def fused(self) -> ScanSpec | str:
        """For fused kernels."""
        return fused_levels(self, self.stairs.spacing)
