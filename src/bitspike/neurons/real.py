"""ReverB neuron: silent below threshold, else it emits its real membrane value."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from bitspike.checks import bad_value, one_of
from bitspike.formats import SpikeFormat
from bitspike.functional import Stairs, Surrogate, fire
from bitspike.neurons.assembly import assemble, fire_at
from bitspike.neurons.base import NEURONS, Neuron, fresh
from bitspike.neurons.emission import Emission, over_time, per_channel
from bitspike.neurons.membrane import Membrane
from bitspike.ops import MembraneState, ScanSpec, spec_of


@NEURONS.register("real")
class Real(Neuron):
    """A neuron that is silent below its threshold and sends its whole membrane above it: the spike of ReverB.

    Real-valued spikes: ``m = [u >= threshold]``; ``s = m·u``; ``v = u − s``.

    The hard reset to 0 *is* the soft reset by the emitted value (s + v = u), so there is no reset option.

    Source: ReverB-SNN (ICML 2025). Reset and gradients A and B are derived, the paper's are not confirmed [?]; the
    constants are those of the authors' other papers (threshold 0.5, decay 0.25) [?].

    Args:
        threshold: u that fires (>=), > 0; default 0.5.
        decay: factor per step in [0, 1], default 0.25. learn_decay: learn it, True (one per layer) or "channel".
        gradient: "mask" (option A: the gate is a constant mask) or "surrogate" (option B: ``ds/du = m + u·h``).
        surrogate: h of option B: object, name or "name:parameter"; default a rectangle of width 1.
        amplitude, train_amplitude, raw_amplitude: factor on the emitted value, see `Emission`; default 1, fixed.
        floor: least membrane, <= 0; default none.

    Called with currents [T, B, ...], it returns spikes of that shape; `run` takes and returns the state as well.

    Raises:
        ValueError: a number out of its range, or an unknown name. TypeError: an argument of another kind.

    >>> import torch; Real()(torch.tensor([[[0.4, 0.5, 1.2]]])).flatten().tolist()
    [0.0, 0.5, 1.2000000476837158]
    """

    def __init__(
        self,
        threshold: float = 0.5,
        decay: float = 0.25,
        learn_decay: bool | str = False,
        gradient: str = "mask",
        surrogate: str | Surrogate = "rectangle:1.0",
        amplitude: float = 1.0,
        train_amplitude: str = "none",
        raw_amplitude: bool = False,
        floor: float | None = None,
    ) -> None:
        super().__init__()
        membrane = Membrane(decay, learn_decay, "hard", False, floor=floor)
        sharing = assemble(self, threshold, surrogate, membrane, Emission(amplitude, train_amplitude, raw_amplitude))
        fire_at(self, Stairs(threshold, threshold), SpikeFormat(amplitude=sharing, real=True))
        self.gradient: str = one_of("Real", "gradient", gradient, ("mask", "surrogate"))
        self.register_buffer("threshold_factor", None)
        self.threshold_factor: Tensor | None

    def threshold_scale(self, u: Tensor) -> Tensor:
        """The factors on the thresholds; 1 where there are none."""
        f = self.threshold_factor
        return torch.ones((), dtype=u.dtype, device=u.device) if f is None else over_time(f, u)

    def rescaled(self, factor: Tensor) -> Real:
        """A copy with threshold and floor times factor > 0 [C]: fed factor·x it emits factor·s at the same times.

        Channels are axis 1 of a step, as those of the synapses that it is folded with.
        """
        if self.emission.channel_dim == -1:
            must = "thresholds per channel take channels in front"
            raise bad_value("Real", must, "channel_dim -1", "scale the spikes instead")
        twin = copy.deepcopy(self)
        twin.membrane.rescaled(factor)
        twin.threshold_factor = factor if self.threshold_factor is None else self.threshold_factor * factor
        return twin

    def initial_state(self, x: Tensor) -> MembraneState:
        """A discharged membrane."""
        return fresh(x)

    def step(self, x: Tensor, state: MembraneState) -> tuple[Tensor, MembraneState]:
        """One step, x [B, ...]."""
        u = self.membrane.charge(state.v, x)
        f = self.threshold_factor
        compared = u if f is None else u / per_channel(f, u, 1)
        gate = self.gradient == "mask"
        mask = self.stairs.level(compared) if gate else fire(compared, self.stairs, self.surrogate)
        s = u * mask.to(u.dtype)
        return self.emission(s), MembraneState(u - s)

    def fused(self) -> ScanSpec | str:
        """For fused kernels; a folded neuron with thresholds per channel has none."""
        if self.threshold_factor is not None:
            return "Real has thresholds per channel"
        if type(self.membrane) is not Membrane or type(self.emission) is not Emission:
            return f"{type(self).__name__} has parts of its own"
        if self.membrane.floor is not None:
            return "a membrane floor has no kernel"
        decay, amplitude = self.membrane.decay(), self.emission.amplitude()
        return spec_of(self.stairs, self.surrogate, decay, False, False, 0.0, amplitude, real=self.gradient)
