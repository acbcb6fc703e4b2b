"""A layer of neurons that also read their own spikes of the step before."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bitspike.checks import bad_type, bad_value
from bitspike.formats import SpikeFormat
from bitspike.functional import Stairs, Surrogate, learns_bits
from bitspike.layers.affine import Affine, Gain
from bitspike.layers.base import Synapse
from bitspike.neurons import Neuron
from bitspike.neurons.base import ExtraCost
from bitspike.neurons.emission import Emission
from bitspike.neurons.membrane import Membrane
from bitspike.quantizers import Fixed, Float


class RecurrentState(NamedTuple):
    """Membrane v after the last reset and the spikes of the last step, both shaped like one step."""

    v: Tensor
    spikes: Tensor


class RecurrentTally(NamedTuple):
    """The same of a neuron that also keeps the sum of the levels it has sent."""

    v: Tensor
    sent: Tensor
    spikes: Tensor


_STATES: dict[tuple[str, ...], Any] = {("v",): RecurrentState, ("v", "sent"): RecurrentTally}


class Recurrent(Neuron):
    """A neuron layer that hears its own spikes one step later.

    Neurons that their own spikes of the step before charge, through a synapse.

        s_t = neuron(x_t + W·s_{t−1} + bias)        s_0 = 0

    It is a neuron itself: networks, `fold`, `cost`, `observe` and `stream` take it as one; its state is that of the
    neuron and the spikes of the last step. With W = 0 and no bias it is the plain neuron, bit for bit. s is what is
    sent, amplitude included; gradients pass through it. No fused kernel runs it.

    Source: snnTorch's ``RLeaky`` and SpikingJelly's ``LinearRecurrentContainer``, by their documentation.

    Args:
        neuron: any neuron that learns no bits; per-channel parts are sized by its `replicate`, as those of all.
        synapse: W, as many outputs as inputs: a `Linear`, or a `Conv2d` of stride 1 that keeps the size of images
            (padding half of kernel − 1), with its own quantizer.

    Called with currents [T, B, ...], it returns spikes of that shape; `run` takes and returns the state as well.

    Raises:
        ValueError: a synapse that changes the shape, learned bits, a state that is not known here. TypeError: other
            modules.

    >>> from bitspike.layers import Linear; from bitspike.neurons import LIF
    >>> layer = Recurrent(LIF(decay=0.0), Linear(1, 1, bias=False)); _ = layer.synapse.weight.data.fill_(1.0)
    >>> layer(torch.tensor([[[1.0]], [[0.0]], [[-0.5]]])).flatten().tolist()  # holds its spike until it is stopped
    [1.0, 1.0, 0.0]
    """

    feeds_back = True

    def __init__(self, neuron: Neuron, synapse: Synapse) -> None:
        super().__init__()
        if not isinstance(neuron, Neuron) or neuron.feeds_back:
            raise bad_type("Recurrent", "the neuron must be a plain Neuron", type(neuron).__name__, "e.g. LIF()")
        if not isinstance(synapse, Synapse):
            todo = "e.g. Linear(8, 8, bias=False) of bitspike.layers"
            raise bad_type("Recurrent", "the synapse must be a Synapse", type(synapse).__name__, todo)
        _check_learned(neuron)
        outputs, inputs = synapse.weight.shape[0], synapse.weight.shape[1] * synapse.groups
        if outputs != inputs:
            must = "the synapse must have as many outputs as inputs"
            raise bad_value("Recurrent", must, f"{inputs} to {outputs}", "it leads from the neurons to themselves")
        kernel = tuple(synapse.weight.shape[2:])
        stride, padding = (
            _sides(getattr(synapse, name, usual), kernel) for name, usual in (("stride", 1), ("padding", 0))
        )
        if any(n != 1 for n in stride) or any(2 * n != side - 1 for n, side in zip(padding, kernel, strict=True)):
            must, got = "a convolution must keep the size of its images", f"kernel {kernel}, padding {padding}"
            raise bad_value("Recurrent", must, got, "stride 1, padding (kernel - 1)/2")
        self.neuron: Neuron = neuron
        self.synapse: Synapse = synapse
        self.before: nn.Module = nn.Identity()
        self.behind: nn.Module = nn.Identity()

    def admit(self, name: str, value: Any) -> Any:
        """A neuron that is put in the place of another must be one that the constructor takes."""
        if name == "neuron":
            _check_learned(value)
        return value

    @property
    def format(self) -> SpikeFormat:  # type: ignore[override]
        """Alphabet of the neuron."""
        return self.neuron.format

    @property
    def threshold(self) -> float:  # type: ignore[override]
        """Threshold of the neuron, as the user gave it."""
        return self.neuron.threshold

    @property
    def stairs(self) -> Stairs:  # type: ignore[override]
        """Level function of the neuron."""
        return self.neuron.stairs

    @property
    def surrogate(self) -> Surrogate:
        """That of the neuron."""
        return self.neuron.surrogate

    @surrogate.setter
    def surrogate(self, value: Surrogate) -> None:
        self.neuron.surrogate = value

    @property
    def membrane(self) -> Membrane:  # type: ignore[override]
        """Decay, thresholds and reset of the neuron."""
        return self.neuron.membrane

    @property
    def emission(self) -> Emission:  # type: ignore[override]
        """Value of one level of the neuron."""
        return self.neuron.emission

    @property
    def constants(self) -> tuple[str, ...]:  # type: ignore[override]
        """Buffers of its parts."""
        own = [name for name, _ in self.named_buffers() if not name.startswith("neuron.")]
        return (*(f"neuron.{name}" for name in self.neuron.constants), *own)

    @property
    def cancels_only(self) -> bool:  # type: ignore[override]
        """As of the neuron."""
        return self.neuron.cancels_only

    @property
    def holds_back(self) -> bool:  # type: ignore[override]
        """As of the neuron."""
        return self.neuron.holds_back

    @property
    def detach_state(self) -> bool:  # type: ignore[override]
        """As of the neuron."""
        return self.neuron.detach_state

    def channels(self) -> int:
        """Those of the neuron."""
        return self.neuron.channels()

    def threshold_scale(self, u: Tensor) -> Tensor:
        """That of the neuron."""
        return self.neuron.threshold_scale(u)

    def threshold_scale_at(self, state: Any) -> Tensor | float:
        """That of the neuron."""
        return self.neuron.threshold_scale_at(self._inner(state))

    def initial_state(self, x: Tensor) -> Any:
        """That of the neuron, and silence."""
        return _joined(self.neuron.initial_state(x), torch.zeros_like(x))

    def _inner(self, state: Any) -> Any:
        return self._kind(state)(*state[:-1])

    def _kind(self, state: Any) -> Any:
        """Class of the neuron's own state."""
        return type(self.neuron.initial_state(state[0]))

    def feedback(self, spikes: Tensor) -> Tensor:
        """Spikes [T, B, ...] → the currents [T, B, ...] that they make one step later."""
        current: Tensor = self.behind(self.synapse(self.before(spikes)))
        if current.shape != spikes.shape:
            must = f"the synapse must keep the shape {list(spikes.shape)}"
            raise bad_value("Recurrent", must, list(current.shape), "see the padding and stride of the synapse")
        return current

    def current(self, x: Tensor, state: Any) -> Tensor:
        """What charges the membranes: x and what the spikes of the step before bring, [B, ...]."""
        spikes = state.spikes.contiguous().unsqueeze(0)  # no bit of its sums depends on the layout of x
        return x + self.feedback(spikes)[0].to(x.dtype)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One step, x [B, ...]."""
        s, after = self.neuron.step(self.current(x, state), self._inner(state))
        return s, _joined(after, s)

    def replicate(self, channels: int, channel_dim: int | None = None) -> Recurrent:
        """A copy with its own parameters; the synapse fixes how many channels there are.

        Raises:
            ValueError: another number of channels than that of the synapse.
        """
        own = self.synapse.weight.shape[0]
        if channels != own:
            must = f"a recurrent layer of {own} channels stands where {own} come in"
            raise bad_value("Recurrent", must, channels, f"give it a synapse with {channels} inputs and outputs")
        twin = copy.deepcopy(self)
        twin.neuron = self.neuron.replicate(channels, channel_dim)
        return twin

    def normalised(self) -> Recurrent:
        """A copy that emits plain integer levels, whose value has moved into its own synapse, too.

        Real weights take it. Integer ones stay integers: what is one number, or one per output, becomes an affine map
        behind them; what differs by input channel a `Gain` on the spikes in front.

        Raises:
            ValueError: the value of a level changes with time.
        """
        twin, value = copy.deepcopy(self), self.neuron.emission.scale()
        if value.dim() > 1:
            must = "the value of a level must not change with time in a recurrent layer"
            raise bad_value("fold Recurrent", must, f"{len(value)} values", "take a neuron with steps=1")
        twin.neuron = self.neuron.normalised()
        twin._take(value)
        return twin

    def _take(self, value: Tensor) -> None:
        """Move the value of a level [] or [C], and the scale of integer weights, out of spikes and weights."""
        synapse = self.synapse
        weight, dtype = synapse.weight.detach(), synapse.weight.dtype
        if synapse.quantizer.format.real:
            scaled = (weight.double() * synapse.columns(value)).to(dtype)
            synapse.weight, synapse.quantizer = nn.Parameter(scaled, synapse.weight.requires_grad), Float()
            return
        levels, scale = synapse.quantizer.to_int(weight)
        scale = scale.double()
        if scale.shape[1] > 1 and synapse.groups > 1:
            must = "a grouped convolution must have one weight factor per layer or output channel"
            raise bad_value("fold Recurrent", must, "one per input channel", "quantize it with another scale")
        incoming = value.double()
        if scale.shape[1] > 1:
            incoming, scale = incoming * scale.reshape(-1), torch.ones_like(scale[:1, :1])
        if incoming.dim() and bool((incoming != incoming[0]).any()):
            self.before, incoming = Gain(incoming.to(dtype)), torch.ones((), dtype=torch.float64)
        outgoing = scale.reshape(-1) * (incoming[0] if incoming.dim() else incoming)
        synapse.weight = nn.Parameter(levels.to(dtype), synapse.weight.requires_grad)
        synapse.quantizer = Fixed(synapse.quantizer.format)
        if bool((outgoing != 1).any()):
            bias = weight.new_zeros(len(weight)) if synapse.bias is None else synapse.bias.detach()
            synapse.bias = None
            self.behind = Affine(outgoing.expand(len(weight)).to(dtype), bias.to(dtype))

    def extra_cost(self) -> ExtraCost | None:
        """That of the neuron; the synapse has a row of its own, which reads the spikes that are kept."""
        extra = self.neuron.extra_cost()
        plain = len(self.neuron.initial_state(torch.zeros(1, len(self.synapse.weight)))) == 1
        return ExtraCost() if extra is None and plain else extra

    def fused(self) -> str:
        """No kernel feeds spikes back."""
        return "recurrent layers have no kernel"

    def extra_repr(self) -> str:
        return ""


def _sides(given: Any, kernel: tuple[int, ...]) -> tuple[Any, ...]:
    """One value for each axis of a convolution's kernel."""
    return given if isinstance(given, tuple) else (given,) * len(kernel)


def _check_learned(neuron: Neuron) -> None:
    if learns_bits(neuron):
        got = f"{type(neuron).__name__} with a width or step size to be learned"
        raise bad_value("Recurrent", "bits and step sizes must be fixed", got, "take LIF, Ternary, MultiBit or Integer")


def _joined(state: Any, spikes: Tensor) -> Any:
    """The state of the neuron with its spikes."""
    kind = _STATES.get(getattr(state, "_fields", ()))
    if kind is None:
        must = "the state of the neuron must be a membrane, or a membrane and what was sent"
        raise bad_value("Recurrent", must, getattr(state, "_fields", type(state).__name__), "take LIF or MultiBit")
    return kind(*state, spikes)
