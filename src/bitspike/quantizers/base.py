"""The contract of a weight quantizer, and the trainable factor they share."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, floating, one_of
from bitspike.formats import WeightFormat
from bitspike.registry import Registry
from bitspike.sealed import Sealed

QUANTIZERS: Registry[type[Quantizer]] = Registry("quantizer")
HOOKS = (
    "ratio",
    "constants",
    "scale_gradient",
    "step_size",
    "step_parameter",
    "width",
    "raw_bits",
    "least_bits",
    "bound",
    "channel_axis",
    "wanted_width",
    "refresh",
    "levels",
)
"""What a quantizer may have beside the parts it must have; docs/extending.md says who asks for each."""


class Quantizer(Sealed, nn.Module, ABC):
    """What decides the values that a weight may have; the place to begin a new one.

    Latent weight → quantized weight ``scale · k`` with integer k, straight-through gradients.

    Attributes:
        format: alphabet of the weights.
        constants: names of the buffers that ``state_dict`` holds.

    A quantizer object given to a layer is a prototype: the layer calls ``replicate(weight)`` for its own copy.
    """

    format: WeightFormat
    constants: tuple[str, ...] = ()
    sealed: ClassVar[tuple[str, ...]] = ("format", "bits")

    @abstractmethod
    def to_int(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Latent weight [O, I, ...] → (integers in the dtype of w, scale that broadcasts to w); no gradient."""

    @abstractmethod
    def forward(self, w: Tensor) -> Tensor:
        """Latent weight [O, I, ...] → quantized weight; equals ``k * scale`` of `to_int` bit for bit."""

    @abstractmethod
    def initialise(self, w: Tensor) -> None:
        """Size the parameters for this weight and start them from its statistics."""

    def ratio(self, w: Tensor, scale: Tensor) -> Tensor:
        """What the levels round: a continuous function, flat where the gradient stops. A hook; here w/scale, clipped.

        Near weights w0 with levels k0 the gradients of `forward` are those of ``(k0 + ratio − ratio0) · scale``, where
        ratio0, whatever `ratio` detaches and what the scale depends on but parameters are constants. Every level is one
        of the two that enclose the ratio.

        Args:
            w: latent weight [O, I, ...]. scale: what `to_int` gives, with gradients or without.

        >>> from bitspike.quantizers import Sign
        >>> Sign(clip=0.5).ratio(torch.tensor([0.25, -3.0]), torch.tensor(0.1)).tolist()
        [0.25, -0.5]
        """
        return (w / scale).clamp(self.format.low, self.format.high)

    @property
    def bits(self) -> int:
        """Bits stored per weight."""
        return self.format.bits

    def replicate(self, w: Tensor) -> Quantizer:
        """A copy initialised for weight w [O, I, ...]; `TypeError` if w is not floating."""
        floating(type(self).__name__, w)
        twin = copy.deepcopy(self)
        twin.initialise(w.detach())
        return twin

    def extra_repr(self) -> str:
        return self.format.label()


class Factor(Sealed, nn.Module):
    """The trainable scale of a quantizer; it stays positive.

    A positive trainable factor ``exp(raw_factor)`` shared by "layer", "output" or "input" channel; "none" is 1.

    Source: trainable factor of ReverB (ICML 2025); its granularity is not confirmed [?], so all are offered. A layer
    or output factor in front of batch norm is inert; builders warn.

    Args:
        sharing: "none", "layer", "output" or "input".
    """

    def __init__(self, sharing: str) -> None:
        super().__init__()
        self.sharing: str = one_of("Factor", "factor", sharing, ("none", "layer", "output", "input"))
        self.raw_factor: nn.Parameter | None = None

    def initialise(self, w: Tensor, magnitude: Tensor) -> None:
        """Start from the mean of ``magnitude`` (same shape as w) over the weights that share a factor."""
        if self.sharing == "none":
            return
        kept = {"layer": (), "output": (0,), "input": (1,)}[self.sharing]
        axes = [axis for axis in range(w.dim()) if axis not in kept]
        mean = magnitude.mean(axes, keepdim=True).clamp(min=1e-8)
        self.raw_factor = nn.Parameter(mean.log().to(w.dtype))

    def value(self, w: Tensor) -> Tensor:
        """The factor, shaped to broadcast to w; differentiable."""
        if self.raw_factor is None:
            if self.sharing != "none":
                raise bad_value("Factor", "a factor must be initialised", "none yet", "call replicate(weight) first")
            return torch.ones([1] * w.dim(), dtype=w.dtype, device=w.device)
        return self.raw_factor.exp()


def fan_in(w: Tensor) -> int:
    """Inputs per output of a weight [O, I, ...]."""
    return math.prod(w.shape[1:])
