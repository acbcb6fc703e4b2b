"""Neuron trained with integer spikes, sent as binary sub-steps on event-driven hardware."""

from __future__ import annotations

from dataclasses import replace

from bitspike.checks import bad_value, integer, one_of
from bitspike.formats import SpikeFormat
from bitspike.functional import Stairs, Surrogate
from bitspike.neurons.assembly import assemble
from bitspike.neurons.base import NEURONS
from bitspike.neurons.emission import Emission
from bitspike.neurons.graded import Graded
from bitspike.neurons.membrane import Membrane
from bitspike.sealed import amend


@NEURONS.register("integer")
class Integer(Graded):
    """A neuron that sends whole numbers from 0 to D; a chip that knows only 0 and 1 runs it as D binary sub-steps.

    Integer LIF: ``s = round_half(clip(u/threshold, 0, D))``; ``v = u − threshold·s`` (soft).

    `bitspike.expand_unary` replaces every such spike by D binary sub-steps; the sums are equal.

    Source: I-LIF, SpikeYOLO (arXiv 2407.20708): straight-through inside [0, D], decay 0.25, detached soft reset.

    Args:
        D: greatest integer, 1 to 255.
        threshold: membrane value of one spike, > 0, default 1; level 1 fires at threshold/2 (rounding, halves up).
        decay: factor per step in [0, 1], default 0.25. learn_decay: learn it, True (one per layer) or "channel".
        reset: "soft" or "hard". detach_reset: cut the gradient of the reset, default True.
        surrogate: object, name or "name:parameter"; default one window over [0, D·threshold].
        amplitude, train_amplitude, raw_amplitude: see `Emission`; default 1, fixed.
        initial: membrane before the first step, default 0. floor: least membrane, <= 0; default none.
        learn_bits: "none", or "integer": learn B with D = 2^B − 1, see `Graded`; D must be of that form.
        bound: greatest B, up to 8; default two more than at first.
        train_threshold: "none", "layer" or "channel": learn thresholds, see `Membrane`; only with fixed bits.

    Called with currents [T, B, ...], it returns spikes of that shape; `run` takes and returns the state as well.

    Raises:
        ValueError: a number out of its range, or an unknown name. TypeError: an argument of another kind.

    >>> import torch; Integer(2)(torch.tensor([[[0.4, 0.5, 1.5, 9.0]]])).flatten().tolist()
    [0.0, 1.0, 2.0, 2.0]
    """

    def __init__(
        self,
        D: int = 4,
        threshold: float = 1.0,
        decay: float = 0.25,
        learn_decay: bool | str = False,
        reset: str = "soft",
        detach_reset: bool = True,
        surrogate: str | Surrogate = "rectangle",
        amplitude: float = 1.0,
        train_amplitude: str = "none",
        raw_amplitude: bool = False,
        initial: float = 0.0,
        floor: float | None = None,
        learn_bits: str = "none",
        bound: int | None = None,
        train_threshold: str = "none",
    ) -> None:
        super().__init__()
        membrane = Membrane(decay, learn_decay, reset, detach_reset, initial, floor, train_threshold)
        emission = Emission(amplitude, train_amplitude, raw_amplitude)
        self.sharing: str = assemble(self, threshold, surrogate, membrane, emission)
        self.format: SpikeFormat = SpikeFormat(amplitude=self.sharing)
        integer("Integer", "D", D, 1, 255)
        one_of("Integer", "learn_bits", learn_bits, ("none", "integer"))
        if learn_bits != "none" and D & (D + 1):
            raise bad_value("Integer", "D must be 2^B - 1 where bits are learned", D, "e.g. 3 or 7")
        self.D = D
        self.learn(learn_bits, D.bit_length(), 1, bound)

    def describe(self, bits: int) -> None:
        """Set format and stairs to those of so many bits; a fixed D need not be 2^bits − 1."""
        D = self.D if self.grows == "none" else 2**bits - 1
        stairs = Stairs(self.threshold / 2, self.threshold, D)
        amend(self, D=D, stairs=stairs, format=replace(self.format, high=D, unary=D))
