"""The membrane of a neuron: leak, floor, trained thresholds and reset."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, in_range, number, one_of
from bitspike.functional import Stairs, Surrogate, charge, fire, fire_scaled, reset_hard, reset_soft
from bitspike.neurons.emission import over_time, per_channel
from bitspike.sealed import Sealed, amend

_SHARING = ("none", "layer", "channel")


class Membrane(Sealed, nn.Module):
    """Leak, thresholds and reset of a membrane; holds constants and parameters, never a state.

    A trained threshold is ``threshold·exp(raw_threshold)``, positive and at first the one given; a learned decay is
    ``sigmoid(raw_decay)``, in (0, 1).

    Source: decays: PLIF (ICCV 2021). Thresholds: DIET-SNN and LTMD train one a layer; the exponential is ours.
    Differs: the windows of the surrogate widen with the threshold, see `fire_scaled`.

    Args:
        decay: factor per step in [0, 1]; 1 is integrate-and-fire.
        learn_decay: "none" (or False), "layer" (or True): learn one decay, "channel": one a channel.
        reset: "hard" (to 0) or "soft" (subtract the emitted charge).
        detach_reset: cut the gradient of the reset through the spike.
        initial: membrane before the first step; half a level makes a floor round (conversion).
        floor: least membrane before firing, <= 0 and <= initial; None: there is none.
        train_threshold: "none", "layer" or "channel": thresholds learned; only without a floor.

    Attributes:
        channel_dim: as that of the emission, which `resize` is told.
        floor_factor: [C] on the floor of a folded neuron whose thresholds are scaled per channel, else None; channels
            are axis 1 of a step then.
    """

    sealed: ClassVar[tuple[str, ...]] = ("fixed_decay", "reset_kind", "decay_kind", "threshold_kind", "channel_dim")
    channel_dim: int | None = None
    raw_threshold: nn.Parameter | None

    def __init__(
        self,
        decay: float,
        learn_decay: bool | str,
        reset: str,
        detach_reset: bool,
        initial: float = 0.0,
        floor: float | None = None,
        train_threshold: str = "none",
    ) -> None:
        super().__init__()
        number("Membrane", "initial", initial)
        if not math.isfinite(initial):
            raise bad_value("Membrane", "the initial membrane must be finite", initial, "start at 0")
        self.initial: float = float(initial)
        if floor is not None:
            number("Membrane", "floor", floor)
        if floor is not None and not -math.inf < floor <= min(0.0, initial):
            must = "the floor must be finite, <= 0 and <= the initial membrane"
            raise bad_value("Membrane", must, floor, "pass e.g. floor=-1.0, or None for no floor")
        self.floor: float | None = None if floor is None else float(floor)
        self.register_buffer("floor_factor", None)
        self.floor_factor: Tensor | None
        in_range("Membrane", "decay", decay, 0.0, 1.0)
        learned = ("none", "layer")[learn_decay] if isinstance(learn_decay, bool) else learn_decay
        self.decay_kind: str = one_of("Membrane", "learn_decay", learned, _SHARING)
        if self.decay_kind != "none" and not 0 < decay < 1:
            raise bad_value("Membrane", "a learnable decay must start inside (0, 1)", decay, "start at 0.25 or 0.5")
        self.reset_kind: str = one_of("Membrane", "reset", reset, ("hard", "soft"))
        self.detach_reset = detach_reset
        self.fixed_decay: float = float(decay)
        self.threshold_kind: str = one_of("Membrane", "train_threshold", train_threshold, _SHARING)
        if self.threshold_kind != "none" and floor is not None:
            must = "a floor goes with fixed thresholds, for it would not follow trained ones"
            raise bad_value("Membrane", must, f"train_threshold={train_threshold!r}", "leave one of them out")
        self.raw_decay: nn.Parameter | None = None
        self.raw_threshold = None
        self._allocate(())

    def _allocate(self, shape: tuple[int, ...]) -> None:
        """Parameters of a shape where they are per channel, else of one number."""
        if self.decay_kind != "none":
            start = math.log(self.fixed_decay / (1 - self.fixed_decay))
            self.raw_decay = nn.Parameter(torch.full(shape if self.decay_kind == "channel" else (), start))
        if self.threshold_kind != "none":
            self.raw_threshold = nn.Parameter(torch.zeros(shape if self.threshold_kind == "channel" else ()))

    @property
    def per_channel(self) -> bool:
        """Whether decays or thresholds are learned per channel."""
        return "channel" in (self.decay_kind, self.threshold_kind)

    def channels(self) -> int:
        """How many channels have a decay or threshold of their own; 0: all share them."""
        for raw in (self.raw_decay, self.raw_threshold):
            if raw is not None and raw.dim():
                return raw.numel()
        return 0

    def resize(self, channels: int, channel_dim: int | None) -> None:
        """Give every channel its own numbers, if this membrane has them per channel; see `Emission.resize`."""
        amend(self, channel_dim=channel_dim)
        if self.per_channel:
            self._allocate((channels,))

    def decay(self) -> Tensor | float:
        """Factor per step: a float, or a differentiable tensor [] or [C] where it is learned."""
        return self.fixed_decay if self.raw_decay is None else torch.sigmoid(self.raw_decay)

    def decay_like(self, x: Tensor) -> Tensor | float:
        """Factor per step, to broadcast over currents of one step x [B, C, ...]."""
        decay = self.decay()
        if not isinstance(decay, Tensor) or not decay.dim():
            return decay
        return per_channel(decay, x, self.channel_dim).to(x.dtype)

    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        """Membrane before firing, ``decay·v + x``, not below the floor."""
        return charge(v, x, self.decay_like(x), self.floor_like(x))

    def threshold_factor(self) -> Tensor | None:
        """Trained thresholds over the one given, differentiable, [] or [C]; None where they are fixed."""
        return None if self.raw_threshold is None else self.raw_threshold.exp()

    def threshold_over(self, u: Tensor) -> Tensor:
        """Thresholds over the one given, no gradient, to broadcast over membranes [T, B, C, ...]."""
        factor = self.threshold_factor()
        if factor is None:
            return torch.ones((), dtype=u.dtype, device=u.device)
        return over_time(factor.detach(), u, self.channel_dim).to(u.dtype)

    def scaled(self, level_charge: float, u: Tensor) -> Tensor | float:
        """What a level takes in a soft reset, for the present thresholds; to broadcast over u [B, C, ...]."""
        factor = self.threshold_factor()
        return level_charge if factor is None else per_channel(factor, u, self.channel_dim).to(u.dtype) * level_charge

    def fire(self, u: Tensor, stairs: Stairs, surrogate: Surrogate) -> Tensor:
        """Levels of membranes u [B, C, ...] for the present thresholds, with the surrogate's gradient to both."""
        factor = self.threshold_factor()
        if factor is None:
            return fire(u, stairs, surrogate)
        return fire_scaled(u, per_channel(factor, u, self.channel_dim), stairs, surrogate)

    def floor_like(self, x: Tensor) -> Tensor | float | None:
        """The floor, to broadcast over currents of one step x [B, C, ...]; None where there is none."""
        if self.floor is None or self.floor_factor is None:
            return self.floor
        return per_channel(self.floor_factor.to(x.dtype) * self.floor, x, 1)

    def rescaled(self, factor: Tensor) -> None:
        """Multiply the floor by a factor > 0 [C], for a neuron whose thresholds and currents are."""
        if self.floor is not None:
            self.floor_factor = factor if self.floor_factor is None else self.floor_factor * factor

    def reset(self, u: Tensor, k: Tensor, level_charge: Tensor | float, graded: bool, signed: bool) -> Tensor:
        """Membrane after firing.

        Args:
            u: membrane before firing. k: fired levels, the same shape.
            level_charge: membrane value that one level carries away in a soft reset.
            graded: whether |k| may exceed 1. signed: whether k may be negative.
        """
        if self.reset_kind == "soft":
            sent = k * level_charge
            return reset_soft(u, sent.detach() if self.detach_reset else sent)
        if self.detach_reset:
            return reset_hard(u, (k.detach() != 0).to(u.dtype))
        fired = k * k.detach().sign() if signed else k
        if graded:
            fired = torch.where(k.detach().abs() <= 1, fired, torch.ones_like(fired))
        return reset_hard(u, fired)

    def extra_repr(self) -> str:
        learned = "" if self.decay_kind == "none" else ", learned" + " per channel" * (self.decay_kind == "channel")
        start = f", initial={self.initial:g}" if self.initial else ""
        start += "" if self.floor is None else f", floor={self.floor:g}"
        start += "" if self.threshold_kind == "none" else f", train_threshold={self.threshold_kind}"
        return f"decay={self.fixed_decay:g}{learned}, reset={self.reset_kind}, detach_reset={self.detach_reset}{start}"
