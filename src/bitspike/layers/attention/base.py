"""The contract of attention over tokens, and the pieces that every variant is built of."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

from torch import Tensor, nn

from bitspike.checks import bad_type, bad_value, integer, one_of
from bitspike.layers.attention.views import TokenView
from bitspike.layers.norm import BatchNorm
from bitspike.layers.quantized import Conv2d
from bitspike.layers.squeeze import Refined
from bitspike.neurons import Neuron
from bitspike.quantizers import Quantizer
from bitspike.registry import Registry
from bitspike.sealed import Sealed

ATTENTION: Registry[type[Attention]] = Registry("attention")
"""Attention layers by name; all take ``(channels, tokens, neuron)`` and the options of `Attention`."""


class Attention(Sealed, nn.Module, ABC):
    """Tokens [T, B, N, C] → [T, B, N, C]; a container of layers over time, so every pass sees all of them.

    Inside, tokens are maps [T, B, C, N, 1]: linear maps of the channels are 1×1 convolutions with weights [C, C, 1, 1].
    Products of two spike tensors are integer products of their alphabets: derived, counted, folded and lowered.

    Attributes:
        expand: channels that the projection reads, as multiples of C.

    Args:
        channels: C. tokens: N; an input with another number is refused.
        neuron: prototype of every neuron, any of `NEURONS` or another [T, B, ...] module; each place has its own copy.
        weight: quantizer prototype; default full precision.
        heads: H, a divisor of C.
        norm: mode of the norms, see `BatchNorm`.
        gate: prototype of the neuron behind the sums; default ``neuron``.
        output: "spikes": a neuron is last; "current": the last norm is, for shortcuts that add currents.

    Raises:
        ValueError, TypeError: sizes out of range, heads that do not divide C, a neuron that is no module, an unknown
            output or norm; `forward`: an input that is not [T, B, N, C].
    """

    expand: int = 1

    def __init__(
        self,
        channels: int,
        tokens: int,
        neuron: nn.Module,
        weight: Quantizer | None = None,
        heads: int = 1,
        norm: str = "joint",
        gate: nn.Module | None = None,
        output: str = "spikes",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.channels: int = integer(name, "channels", channels, 1, 2**20)
        self.tokens: int = integer(name, "tokens", tokens, 1, 2**20)
        self.heads: int = integer(name, "heads", heads, 1, 2**20)
        if channels % heads:
            must = "heads must divide the channels"
            raise bad_value(name, must, f"{heads} heads of {channels} channels", "choose a divisor")
        for prototype in (neuron, neuron if gate is None else gate):
            if not isinstance(prototype, nn.Module):
                got = getattr(prototype, "__name__", prototype)
                raise bad_type(name, "the neuron must be a module", got, "pass an object such as LIF()")
        one_of(name, "output", output, ("spikes", "current"))
        self.maps: TokenView = TokenView("maps", tokens, channels)
        self.build(neuron, weight, norm, neuron if gate is None else gate)
        last = [own_neuron(neuron, channels)] if output == "spikes" else []
        self.project: nn.Sequential = nn.Sequential(
            *_current(self.expand * channels, channels, weight, norm, neuron), *last
        )
        self.back: TokenView = TokenView("tokens", tokens, channels)

    @abstractmethod
    def build(self, neuron: nn.Module, weight: Quantizer | None, norm: str, gate: nn.Module) -> None:
        """Make the layers between both views but the projection."""

    @abstractmethod
    def attend(self, x: Tensor) -> Tensor:
        """Maps [T, B, C, N, 1] → what the projection reads, [T, B, expand·C, N, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [T, B, N, C] → the same shape."""
        return self.back(self.inside(self.maps(x)))  # type: ignore[no-any-return]

    def inside(self, x: Tensor) -> Tensor:
        """Maps [T, B, C, N, 1] → the same shape: for networks whose layers read maps all along."""
        return self.project(self.attend(x))  # type: ignore[no-any-return]

    def branch(self, neuron: nn.Module, weight: Quantizer | None, norm: str, expand: int = 1) -> nn.Sequential:
        """Linear map, norm and neuron, C → expand·C channels: q, k or v."""
        outputs = expand * self.channels
        return nn.Sequential(*_current(self.channels, outputs, weight, norm, neuron), own_neuron(neuron, outputs))

    def extra_repr(self) -> str:
        return f"{self.channels}, tokens={self.tokens}, heads={self.heads}"


def own_neuron(prototype: nn.Module, channels: int) -> nn.Module:
    """A copy of a neuron with channels on axis 2 of [T, B, C, ...], or of any other module."""
    if isinstance(prototype, Neuron):
        return prototype.replicate(channels, 1)
    return prototype.replicate(channels) if isinstance(prototype, Refined) else copy.deepcopy(prototype)


def _current(inputs: int, outputs: int, weight: Quantizer | None, norm: str, neuron: nn.Module) -> list[nn.Module]:
    conv = Conv2d(inputs, outputs, 1, weight=weight)
    if isinstance(neuron, (Neuron, Refined)):
        return [conv, BatchNorm(outputs, norm, threshold=neuron.threshold)]
    if norm == "threshold":
        raise bad_value("attention", "norm 'threshold' needs a neuron with a threshold", neuron, "choose norm 'joint'")
    return [conv, BatchNorm(outputs, norm)]
