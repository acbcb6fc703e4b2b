"""The contract of a neuron. State is passed in and returned, never kept."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bitspike.checks import bad_type, bad_value, floating, time_first
from bitspike.formats import SpikeFormat
from bitspike.functional import SURROGATES, Stairs, Surrogate
from bitspike.neurons.emission import Emission, features_last
from bitspike.neurons.membrane import Membrane
from bitspike.ops import AdaptiveSpec, MembraneState, ScanFacts, ScanSpec, choose, integer_forward, saver, spec_of
from bitspike.registry import Registry
from bitspike.renamed import adopt_old_hooks, old_attribute, old_method
from bitspike.sealed import Sealed, amend

NEURONS: Registry[type[Neuron]] = Registry("neuron")
HOOKS = (
    "run",
    "constants",
    "extra_cost",
    "fused",
    "threshold_scale",
    "threshold_scale_at",
    "keep_thresholds",
    "channels",
    "detach_state",
    "cancels_only",
    "holds_back",
    "feeds_back",
    "current",
    "rectify",
    "rescaled",
    "formats",
    "scale_gradient",
    "width",
    "raw_bits",
    "least_bits",
    "bound",
    "channel_axis",
    "wanted_width",
    "refresh",
    "follow",
    "levels",
    "step_parameter",
)
"""What a neuron may have beside the parts it must have; docs/extending.md says who asks for each."""

_OLD_HOOKS = {"unit_like": "threshold_scale", "takes_back": "cancels_only"}


@dataclass(frozen=True)
class ExtraCost:
    """What a neuron takes beyond charge, fire and reset of one membrane, per neuron and step but the first.

    Attributes:
        states: numbers kept from step to step beside the membrane. adds, multiplications, comparisons: operations.
    """

    states: int = 0
    adds: int = 0
    multiplications: int = 0
    comparisons: int = 0


class Neuron(Sealed, nn.Module, ABC):
    """What all neurons share, and the place to begin a new one (docs/extending.md).

    Charge, fire, reset, emit. A leaf class is one file and sets the parts named here.

    Attributes:
        format: alphabet of what it emits.
        threshold: membrane value of one whole spike, as the user gave it (tdBN reads it).
        stairs: level function of the membrane.
        surrogate: derivative used in training.
        membrane: decay and reset.
        emission: value of one level on the wire.
        cancels_only: whether negative levels only take back what was sent before.
        holds_back: whether a level nearer to 0 than that of the membrane may be sent, as in a refractory period.
        feeds_back: whether spikes of the step before are part of its current, see `current`.
        detach_state: whether no gradient passes from one time step to the next.

    A leaf may also say in `fused` what a fused kernel has to know; a subclass that changes ``step`` starts again
    without. ``constants`` names the buffers that ``state_dict`` holds.

    ``forward`` maps currents [T, B, ...] to spikes [T, B, ...] from a fresh state and drops the final one: there is
    nothing to reset between batches.
    """

    format: SpikeFormat
    threshold: float
    stairs: Stairs
    surrogate: Surrogate
    membrane: Membrane
    emission: Emission
    constants: tuple[str, ...] = ()
    cancels_only: bool = False
    holds_back: bool = False
    feeds_back: bool = False
    detach_state: bool = False
    _runs_itself: bool = False
    sealed: ClassVar[tuple[str, ...]] = ("threshold", "format", "stairs", "membrane", "emission")
    settable: ClassVar[tuple[str, ...]] = ("surrogate",)

    unit_like: ClassVar[Callable[..., Any]] = old_method("unit_like", "threshold_scale")
    announce: ClassVar[Callable[..., Any]] = old_method("announce", "record_spikes")
    takes_back: property = old_attribute("takes_back", "cancels_only")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        adopt_old_hooks(cls, _OLD_HOOKS)
        # who has the last word on each name: a mixin before a neuron counts, too
        first = {name: i for i, base in reversed(list(enumerate(cls.__mro__))) for name in base.__dict__}
        cls._runs_itself = first["run"] < cls.__mro__.index(Neuron)
        if min(first["step"], first["initial_state"]) < first["fused"]:
            cls.fused = Neuron.fused  # type: ignore[method-assign]

    def admit(self, name: str, value: Any) -> Any:
        """A surrogate that is set later is read as the constructor reads it."""
        if name == "surrogate":
            value = as_surrogate(value)
            value.check(type(self).__name__, self.stairs)
        return value

    @abstractmethod
    def initial_state(self, x: Tensor) -> Any:
        """The state before the first step, for an input of one step x [B, ...]."""

    @abstractmethod
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One time step: current x [B, ...] and state → spikes [B, ...] and state. Pure."""

    def run(self, x_seq: Tensor, state: Any | None = None) -> tuple[Tensor, Any]:
        """All steps of x_seq [T, B, ...], from ``state`` or afresh → (spikes [T, B, ...], final state).

        Under autocast membranes are float32, whatever the linear layers run in; spikes have the dtype of x_seq.
        """
        return self._scan(x_seq, state, True)

    def forward(self, x_seq: Tensor) -> Tensor:
        """Currents [T, B, ...] → spikes [T, B, ...], fresh state in, final state dropped."""
        return self.run(x_seq)[0] if self._runs_itself else self._scan(x_seq, None, False)[0]

    def _scan(self, x_seq: Tensor, state: Any | None, keep: bool) -> tuple[Tensor, Any]:
        time_first(type(self).__name__, x_seq)
        if state is not None and state[0].shape != x_seq.shape[1:]:
            must = f"the state must be shaped like one step {list(x_seq.shape[1:])}"
            raise bad_value(type(self).__name__, must, list(state[0].shape), "start a new stream for a new batch")
        if state is not None and not state[0].is_floating_point():
            raise bad_type(
                type(self).__name__, "the state must be floating-point", state[0].dtype, "call initial_state(x)"
            )
        device, dtype, shape = x_seq.device.type, x_seq.dtype, x_seq.shape
        last = self.features_last(x_seq)
        if last:  # kernels have channels on axis 2
            x_seq = x_seq.flatten(1, -2)
            state = None if state is None else type(state)(*(part.flatten(0, -2) for part in state))
        if state is None and self.membrane.initial:
            state = self.initial_state(x_seq[0])  # kernels take None for a discharged membrane
        wide = dtype in (torch.bfloat16, torch.float16) and torch.is_autocast_enabled(device)
        membranes = torch.float32 if wide else dtype
        spec = self.fused()
        kernel = choose("scan", device, ScanFacts(spec, dtype, membranes))
        if wide and not kernel.half:
            s, after = kernel.function(self, x_seq.float(), state, keep, spec)
            s = s.to(dtype)
        else:
            s, after = kernel.function(self, x_seq, state, keep, spec)
        if last:
            s = s.reshape(shape)
            after = None if after is None else type(after)(*(part.reshape(shape[1:]) for part in after))
        return self.record_spikes(s), after

    def channels(self) -> int:
        """A hook: how many channels have numbers of their own; 0: all share them."""
        a = self.emission.raw_amplitude
        own = a.shape[-1] if a is not None and a.dim() and self.emission.train_kind == "channel" else 0
        return max(own, self.membrane.channels())

    def features_last(self, x_seq: Tensor) -> bool:
        """Whether channels are the last of more than three axes [T, B, ..., C]; by default they are axis 2.

        Raises:
            ValueError: four axes, numbers per channel, and a neuron that was not told which axis; see `replicate`.
        """
        return features_last(x_seq.shape[1:], self.channels(), self.emission.channel_dim)

    def record_spikes(self, s: Tensor) -> Tensor:
        """Tell `bitspike.lean` and `bitspike.int8` around this call that s are spikes of this neuron; returns s."""
        integer = integer_forward()
        if integer is not None:
            integer.spikes(s, self.format, self.emission.value(s))
        keeper = saver()
        if keeper is not None and s.requires_grad and not self.format.real and self.format.slope == 1:
            keeper.spikes(s, self.format.low, self.format.high, self.emission.value(s))
        return s

    def fused(self) -> ScanSpec | AdaptiveSpec | str:
        """What a fused kernel has to know, or why there is none; optional, the plain scan serves every neuron."""
        return f"{type(self).__name__} has no fused(); add it to its file"

    def extra_cost(self) -> ExtraCost | None:
        """What `cost` counts beside the membrane; optional. Without it `cost` names a neuron of more states."""
        return None

    def replicate(self, channels: int, channel_dim: int | None = None) -> Neuron:
        """A copy with its own parameters, per-channel ones sized for [B, channels, ...].

        Args:
            channel_dim: axis of the channels in one step: 1, or -1 for tokens [B, N, channels] and other values with
                features last. None: as this neuron was told; if it was not, 1, but numbers per channel then refuse
                three axes, which may be [B, channels, L] or [B, N, channels].
        """
        twin = copy.deepcopy(self)
        twin.emission.resize(channels, channel_dim)
        twin.membrane.resize(channels, twin.emission.channel_dim)
        return twin

    def normalised(self) -> Neuron:
        """A copy that emits plain integer levels; what it leaves out is ``emission.scale()``.

        Thresholds, decay and reset are untouched: they are driven by the levels (Ternary Spike, section on
        re-parameterisation).
        """
        twin = copy.deepcopy(self)
        twin.keep_thresholds()
        amend(twin, emission=Emission(), format=self.format.unit())
        amend(twin.emission, slope=self.emission.slope, channel_dim=self.emission.channel_dim)
        return twin

    def keep_thresholds(self) -> None:
        """A hook: store as a constant what firing reads from the emission, before that is replaced."""

    def threshold_scale(self, u: Tensor) -> Tensor:
        """What membranes [T, B, C, ...] are divided by before `stairs` reads them, to broadcast; 1 for most neurons.

        Trained thresholds over the one that `stairs` is made for.
        """
        return self.membrane.threshold_over(u)

    def threshold_scale_at(self, state: Any) -> Tensor | float:
        """A hook: what the membranes of the step from ``state`` are divided by besides, to broadcast over [B, ...].

        The threshold of that step over the fixed one that `stairs` is made for; 1 unless the threshold moves. A soft
        reset takes the threshold of its step.
        """
        return 1.0

    def current(self, x: Tensor, state: Any) -> Tensor:
        """A hook: what charges the membranes in the step from ``state``; x but in recurrent layers."""
        return x

    def extra_repr(self) -> str:
        return f"{self.format.label()}, threshold={self.threshold:g}, {self.surrogate}"


def fused_levels(neuron: Neuron, charge: float) -> ScanSpec | str:
    """The record for fused kernels of a neuron that emits levels.

    Args:
        neuron: its parts. charge: membrane value that one level carries away in a soft reset.
    """
    membrane, emission = neuron.membrane, neuron.emission
    if emission.slope != 1:
        return "two amplitudes have no kernel"
    if type(membrane) is not Membrane or type(emission) is not Emission:
        return f"{type(neuron).__name__} has parts of its own"
    if membrane.floor is not None:
        return "a membrane floor has no kernel"
    if membrane.raw_threshold is not None:
        return "trained thresholds have no kernel"
    return spec_of(
        neuron.stairs,
        neuron.surrogate,
        membrane.decay(),
        membrane.reset_kind == "soft",
        membrane.detach_reset,
        charge,
        emission.amplitude(),
        emission.fraction_bits,
    )


def fresh(x: Tensor, initial: float = 0.0) -> MembraneState:
    """A membrane at its initial value, by default discharged, for one step x [B, ...] of floating numbers."""
    floating("initial_state", x)
    return MembraneState(torch.full_like(x, initial) if initial else torch.zeros_like(x))


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
    """The same states cut from the graph of autograd, for truncated back-propagation.

    Args:
        states: what `Neuron.run` or `bitspike.stream` returned: tensors, and tuples, named tuples and dicts of them.

    Returns:
        The same structure; whatever is no tensor is passed on.

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
