"""Neuron with signed integer spikes: rounding both ways; negative ones have a value of their own or only cancel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from bitspike.checks import bad_value, integer
from bitspike.formats import SpikeFormat
from bitspike.functional import Stairs, Surrogate
from bitspike.neurons.assembly import assemble, fire_at
from bitspike.neurons.base import NEURONS, ExtraCost, Neuron, fresh, fused_levels
from bitspike.neurons.emission import Emission
from bitspike.neurons.membrane import Membrane
from bitspike.ops import MembraneState, ScanSpec
from bitspike.renamed import old_argument
from bitspike.sealed import amend


class TallyState(NamedTuple):
    """Membrane v and the sum of the levels sent so far, both shaped like one step."""

    v: Tensor
    sent: Tensor


@NEURONS.register("signed")
class Signed(Neuron):
    """A neuron that sends whole numbers of both signs, from −D to D.

    Signed integer neuron: ``k = round_half(clip(u/threshold, −D, D))``; ``v = u − threshold·k`` (soft).

    What it sends: ``s = a·k`` for k >= 0, ``s = a·slope·k`` below, so a negative spike may be worth less: integrate-
    and-fire with the slope of a LeakyReLU is that activation for currents that do not change sign. With
    ``cancels_only``, a negative spike only cancels what was sent: ``k >= −Σ k`` of the steps before, so the sum over
    time is never negative and a ReLU may correct what it sent too early. D = 1 is ternary.

    Source: negative spikes that are allowed while the sum of what was sent is positive: signed neuron with memory
    (Wang et al., IJCAI 2022), from memory of its abstract, not checked. Boundaries at half a threshold on both sides,
    graded levels and the slope are ours.

    Args:
        D: greatest |level|, 1 to 255; default 1.
        threshold: membrane value of one level, > 0, default 1; level ±1 fires at ±threshold/2.
        decay: factor per step in [0, 1], default 0.25. learn_decay: learn it, True (one per layer) or "channel".
        reset: "soft" or "hard". detach_reset: cut the gradient of the reset, default True.
        surrogate: object, name or "name:parameter"; default one window over [−D·threshold, D·threshold].
        amplitude, train_amplitude, raw_amplitude: see `Emission`; default 1, fixed.
        initial: membrane before the first step, default 0.
        slope: value of a negative level over that of a positive one, in (0, 1]; default 1.
        cancels_only: negative levels only down to a sum of 0; needs slope 1. takes_back: its old name.
        train_threshold: "none", "layer" or "channel": learn thresholds, see `Membrane`.

    Called with currents [T, B, ...], it returns spikes of that shape; `run` takes and returns the state as well.

    Raises:
        ValueError: a number out of its range, or an unknown name. TypeError: an argument of another kind.

    >>> Signed(2)(torch.tensor([[[0.4, 0.5, -1.5, -9.0]]])).flatten().tolist()
    [0.0, 1.0, -2.0, -2.0]
    >>> Signed(decay=1.0, cancels_only=True)(torch.tensor([[[-1.0]], [[2.0]], [[-1.0]]])).flatten().tolist()
    [0.0, 1.0, -1.0]
    >>> Signed(decay=1.0, slope=0.25)(torch.tensor([[[1.0, -1.0]]])).flatten().tolist()
    [1.0, -0.25]
    """

    settable: ClassVar[tuple[str, ...]] = ("cancels_only", "takes_back")
    remedies: ClassVar[Mapping[str, str]] = {"slope": "call rectify"}

    def __init__(
        self,
        D: int = 1,
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
        slope: float = 1.0,
        cancels_only: bool = False,
        takes_back: bool | None = None,
        train_threshold: str = "none",
    ) -> None:
        super().__init__()
        if takes_back is not None:
            old_argument("Signed", "takes_back", "cancels_only")
            cancels_only = takes_back
        membrane = Membrane(decay, learn_decay, reset, detach_reset, initial, train_threshold=train_threshold)
        sharing = assemble(self, threshold, surrogate, membrane, Emission(amplitude, train_amplitude, raw_amplitude))
        integer("Signed", "D", D, 1, 255)
        fire_at(self, Stairs(threshold / 2, threshold, D, signed=True), SpikeFormat(-D, D, amplitude=sharing))
        self.rectify(slope, cancels_only)

    def admit(self, name: str, value: Any) -> Any:
        """As the constructor: spikes that are taken back have one amplitude."""
        if name == "cancels_only":
            _check_rectified(self.emission.slope, value)
        return super().admit(name, value)

    def initial_state(self, x: Tensor) -> MembraneState | TallyState:
        """The initial membrane, and nothing sent."""
        start = fresh(x, self.membrane.initial)
        return TallyState(start.v, torch.zeros_like(x)) if self.cancels_only else start

    def step(self, x: Tensor, state: MembraneState | TallyState) -> tuple[Tensor, MembraneState | TallyState]:
        """One step, x [B, ...]."""
        u = self.membrane.charge(state.v, x)
        k = self.membrane.fire(u, self.stairs, self.surrogate)
        if isinstance(state, TallyState):
            k = torch.where(k.detach() < -state.sent.detach(), 0 - state.sent, k)
        taken = self.membrane.scaled(self.threshold, u)
        v = self.membrane.reset(u, k, taken, graded=self.stairs.count > 1, signed=True)
        after = TallyState(v, state.sent + k) if isinstance(state, TallyState) else MembraneState(v)
        return self.emission(k), after

    def extra_cost(self) -> ExtraCost:
        """With cancels_only the sum of what was sent: kept, added to, and compared with."""
        return ExtraCost(states=1, adds=1, comparisons=1) if self.cancels_only else ExtraCost()

    def rectify(self, slope: float, cancels_only: bool) -> None:
        """Set what negative levels are worth, and whether they only take back."""
        _check_rectified(slope, cancels_only)
        self.emission.set_slope(slope)
        amend(self, cancels_only=cancels_only, format=self.format.sloped(slope))

    def fused(self) -> ScanSpec | str:
        """For fused kernels: plain ternary spikes only."""
        if self.cancels_only:
            return "Signed with cancels_only keeps a second state"
        return fused_levels(self, self.threshold)


def _check_rectified(slope: float, cancels_only: bool) -> None:
    if cancels_only and slope != 1:
        raise bad_value("Signed", "the slope must be 1 where spikes are taken back", slope, "choose one of them")
