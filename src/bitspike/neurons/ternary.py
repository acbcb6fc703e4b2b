"""Neuron with ternary spikes and an optional trainable amplitude."""

from __future__ import annotations

from torch import Tensor

from bitspike.checks import bad_value
from bitspike.formats import SpikeFormat
from bitspike.functional import Stairs, Surrogate
from bitspike.neurons.assembly import assemble, fire_at
from bitspike.neurons.base import NEURONS, Neuron, fresh, fused_levels
from bitspike.neurons.emission import Emission
from bitspike.neurons.membrane import Membrane
from bitspike.ops import MembraneState, ScanSpec


@NEURONS.register("ternary")
class Ternary(Neuron):
    """A neuron that sends −1, 0 or 1, times an amplitude that may be trained per layer or channel.

    Ternary LIF: ``u = decay·v + x``; ``b = [u >= threshold] − [u <= −threshold]``; ``v = u·(1 − |b|)``; ``s = a·b``.

    The reset follows the normalised spike b, never a·b. A per-layer amplitude all of whose consumers are
    linear → batch norm is inert (no effect forward or backward); builders warn.

    Source: Ternary Spike (AAAI 2024), eq. 7-8 and 13-14. Constants from its code: threshold 0.5, decay 0.25, hard
    reset not detached, window |u| <= 1. The soft reset (``v = u − threshold·b``) is ours.
    Differs: the amplitude is ``exp(raw_amplitude)`` by default; the release trains it raw.

    Args:
        threshold: |u| that fires (>=), > 0; default 0.5.
        decay: factor per step in [0, 1], default 0.25. learn_decay: learn it, True (one per layer) or "channel".
        reset: "hard" or "soft". detach_reset: cut the gradient of the reset.
        surrogate: object, name or "name:parameter"; default a rectangle of width 2·threshold, i.e. |u| <= 2·threshold.
        amplitude: initial or fixed a, default 1.
        train_amplitude: "none", "layer" or "channel". raw_amplitude: train a itself, which may then turn negative.
        initial: membrane before the first step, default 0.
        floor: least membrane, <= -threshold (negative spikes must fire); default none.
        train_threshold: "none", "layer" or "channel": learn thresholds, see `Membrane`.

    Called with currents [T, B, ...], it returns spikes of that shape; `run` takes and returns the state as well.

    Raises:
        ValueError: a number out of its range, or an unknown name. TypeError: an argument of another kind.

    >>> import torch; Ternary()(torch.tensor([[[0.5, -0.5, 0.4]]])).flatten().tolist()
    [1.0, -1.0, 0.0]
    """

    def __init__(
        self,
        threshold: float = 0.5,
        decay: float = 0.25,
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
        fire_at(self, Stairs(threshold, 2 * threshold, signed=True), SpikeFormat(-1, 1, amplitude=sharing))
        if floor is not None and floor > -threshold:
            raise bad_value("Ternary", f"the floor must be <= -threshold, {-threshold:g} here", floor, "lower it")

    def initial_state(self, x: Tensor) -> MembraneState:
        """The initial membrane."""
        return fresh(x, self.membrane.initial)

    def step(self, x: Tensor, state: MembraneState) -> tuple[Tensor, MembraneState]:
        """One step, x [B, ...]."""
        u = self.membrane.charge(state.v, x)
        k = self.membrane.fire(u, self.stairs, self.surrogate)
        v = self.membrane.reset(u, k, self.membrane.scaled(self.stairs.first, u), graded=False, signed=True)
        return self.emission(k), MembraneState(v)

    def fused(self) -> ScanSpec | str:
        """For fused kernels."""
        return fused_levels(self, self.stairs.first)
