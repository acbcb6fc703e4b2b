"""The contract of a neuron. State is passed in and returned, never kept."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bitspike.checks import bad_type, bad_value, time_first
from bitspike.formats import SpikeFormat
from bitspike.functional import SURROGATES, Stairs, Surrogate
from bitspike.neurons.parts import Emission, Membrane
from bitspike.ops import choose
from bitspike.registry import Registry

NEURONS: Registry[type[Neuron]] = Registry("neuron")


class MembraneState(NamedTuple):
    """State of a neuron with one membrane: ``v`` after the last reset, shaped like the input of one step."""

    v: Tensor


class Neuron(nn.Module, ABC):
    """Charge, fire, reset, emit. A leaf class is one file and sets the parts named here.

    Attributes:
        format: alphabet of what it emits.
        threshold: membrane value of one whole spike, as the user gave it (tdBN reads it).
        stairs: level function of the membrane.
        surrogate: derivative used in training.
        membrane: decay and reset.
        emission: value of one level on the wire.

    ``forward`` maps currents [T, B, ...] to spikes [T, B, ...] from a fresh state and drops the final one: there is
    nothing to reset between batches.
    """

    format: SpikeFormat
    threshold: float
    stairs: Stairs
    surrogate: Surrogate
    membrane: Membrane
    emission: Emission

    @abstractmethod
    def initial_state(self, x: Tensor) -> Any:
        """The state before the first step, for an input of one step x [B, ...]."""

    @abstractmethod
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One time step: current x [B, ...] and state → spikes [B, ...] and state. Pure."""

    def run(self, x_seq: Tensor, state: Any | None = None) -> tuple[Tensor, Any]:
        """All steps of x_seq [T, B, ...], from ``state`` or afresh → (spikes [T, B, ...], final state).

        Under autocast membranes and spikes are float32, whatever the linear layers run in.
        """
        time_first(type(self).__name__, x_seq)
        if x_seq.dtype in (torch.bfloat16, torch.float16) and torch.is_autocast_enabled(x_seq.device.type):
            x_seq = x_seq.float()
        if state is None:
            state = self.initial_state(x_seq[0])
        elif state[0].shape != x_seq.shape[1:]:
            must = f"the state must be shaped like one step {list(x_seq.shape[1:])}"
            raise bad_value(type(self).__name__, must, list(state[0].shape), "start a new stream for a new batch")
        return choose("scan", x_seq.device.type, self).function(self.step, x_seq, state)  # type: ignore[no-any-return]

    def forward(self, x_seq: Tensor) -> Tensor:
        """Currents [T, B, ...] → spikes [T, B, ...], fresh state in, final state dropped."""
        return self.run(x_seq)[0]

    def replicate(self, channels: int) -> Neuron:
        """A copy with its own parameters, per-channel ones sized for [B, channels, ...]."""
        twin = copy.deepcopy(self)
        twin.emission.resize(channels)
        return twin

    def normalised(self) -> Neuron:
        """A copy that emits plain integer levels; what it leaves out is ``emission.scale()``.

        Thresholds, decay and reset are untouched: they are driven by the levels (Ternary Spike, section on
        re-parameterisation).
        """
        twin = copy.deepcopy(self)
        twin.emission = Emission()
        twin.format = self.format.unit()
        return twin

    def extra_repr(self) -> str:
        return f"{self.format.label()}, threshold={self.threshold:g}, {self.surrogate}"


def fresh(x: Tensor) -> MembraneState:
    """A discharged membrane for one step x [B, ...]."""
    return MembraneState(torch.zeros_like(x))


def as_surrogate(surrogate: str | Surrogate) -> Surrogate:
    """A surrogate from its registered name, or name and parameter, or the object itself.

    >>> as_surrogate("rectangle:1.0"), as_surrogate("atan")
    (Rectangle(width=1.0), ATan(alpha=2.0))
    """
    if isinstance(surrogate, Surrogate):
        return surrogate
    if not isinstance(surrogate, str):
        must = "the surrogate must be a Surrogate or its name"
        raise bad_type("surrogate", must, type(surrogate).__name__, "e.g. 'atan' or 'rectangle:1.0'")
    name, _, parameter = surrogate.partition(":")
    if not parameter:
        return SURROGATES[name]()
    try:
        value = float(parameter)
    except ValueError:
        raise bad_value("surrogate", "the parameter after ':' must be a number", parameter, "e.g. 'atan:2.0'") from None
    return SURROGATES[name](value)


def amplitude_sharing(amplitude: float, train: str) -> str:
    """Who scales the levels, for the format record: a fixed amplitude other than 1 is one per layer."""
    return "layer" if train == "none" and amplitude != 1 else train


def detach(states: Any) -> Any:
    """The same states cut from the graph, for truncated back-propagation (tuples, dicts and tensors).

    >>> detach({"lif": MembraneState(torch.ones(1, requires_grad=True))})["lif"].v.requires_grad
    False
    """
    if isinstance(states, Tensor):
        return states.detach()
    if isinstance(states, dict):
        return {key: detach(value) for key, value in states.items()}
    if isinstance(states, tuple):
        parts = [detach(item) for item in states]
        return type(states)(*parts) if hasattr(states, "_fields") else tuple(parts)
    return states
