"""The two parts neurons are composed of: the membrane (decay, reset) and the emission (amplitude)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, in_range, number, one_of, positive
from bitspike.functional import charge, reset_hard, reset_soft


class Membrane(nn.Module):
    """Leak and reset of a membrane; holds constants and at most one parameter, never a state.

    Args:
        decay: factor per step in [0, 1]; 1 is integrate-and-fire.
        learn_decay: learn one decay per layer, as ``sigmoid(raw_decay)`` in (0, 1) (PLIF form).
        reset: "hard" (to 0) or "soft" (subtract the emitted charge).
        detach_reset: cut the gradient of the reset through the spike.
        initial: membrane before the first step; half a level makes a floor round (conversion).
        floor: least membrane before firing, <= 0 and <= initial; None: there is none.

    Attributes:
        floor_factor: [C] on the floor of a folded neuron whose thresholds are scaled per channel, else None.
    """

    def __init__(
        self,
        decay: float,
        learn_decay: bool,
        reset: str,
        detach_reset: bool,
        initial: float = 0.0,
        floor: float | None = None,
    ) -> None:
        super().__init__()
        number("Membrane", "initial", initial)
        if not math.isfinite(initial):
            raise bad_value("Membrane", "the initial membrane must be finite", initial, "start at 0")
        self.initial = float(initial)
        if floor is not None:
            number("Membrane", "floor", floor)
        if floor is not None and not -math.inf < floor <= min(0.0, initial):
            must = "the floor must be finite, <= 0 and <= the initial membrane"
            raise bad_value("Membrane", must, floor, "pass e.g. floor=-1.0, or None for no floor")
        self.floor = None if floor is None else float(floor)
        self.register_buffer("floor_factor", None)
        self.floor_factor: Tensor | None
        in_range("Membrane", "decay", decay, 0.0, 1.0)
        if learn_decay and not 0 < decay < 1:
            raise bad_value("Membrane", "a learnable decay must start inside (0, 1)", decay, "start at 0.25 or 0.5")
        self.reset_kind = one_of("Membrane", "reset", reset, ("hard", "soft"))
        self.detach_reset = detach_reset
        self.fixed_decay = float(decay)
        self.raw_decay = nn.Parameter(torch.tensor(math.log(decay / (1 - decay)))) if learn_decay else None

    def decay(self) -> Tensor | float:
        """Factor per step: a float, or a differentiable tensor [] where it is learned."""
        return self.fixed_decay if self.raw_decay is None else torch.sigmoid(self.raw_decay)

    def charge(self, v: Tensor, x: Tensor) -> Tensor:
        """Membrane before firing, ``decay·v + x``, not below the floor."""
        return charge(v, x, self.decay(), self.floor_like(x))

    def floor_like(self, x: Tensor) -> Tensor | float | None:
        """The floor, to broadcast over currents of one step x [B, C, ...]; None where there is none."""
        if self.floor is None or self.floor_factor is None:
            return self.floor
        return per_channel(self.floor_factor.to(x.dtype) * self.floor, x)

    def rescaled(self, factor: Tensor) -> None:
        """Multiply the floor by a factor > 0 [C], for a neuron whose thresholds and currents are."""
        if self.floor is not None:
            self.floor_factor = factor if self.floor_factor is None else self.floor_factor * factor

    def reset(self, u: Tensor, k: Tensor, level_charge: float, graded: bool, signed: bool) -> Tensor:
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
        learned = ", learned" if self.raw_decay is not None else ""
        start = f", initial={self.initial:g}" if self.initial else ""
        start += "" if self.floor is None else f", floor={self.floor:g}"
        return f"decay={self.fixed_decay:g}{learned}, reset={self.reset_kind}, detach_reset={self.detach_reset}{start}"


class Emission(nn.Module):
    """What a level is worth on the wire: ``amplitude · 2^-fraction_bits``, times a slope below 0 (`bend_by`).

    A trainable amplitude is positive by parameterisation, ``exp(raw_amplitude)``, unless ``raw`` is set (the released
    form of Ternary Spike, which nothing keeps from changing sign; max pooling refuses it at folding).

    Source: Ternary Spike (AAAI 2024), eq. 14; per channel: Real Spike (ECCV 2022).

    Args:
        amplitude: fixed or initial value; > 0 unless raw (then any finite value but 0).
        train: "none", "layer" or "channel".
        raw: train the amplitude itself.
        fraction_bits: n of a fixed-point spike.
        least: a raw amplitude below it counts as this and gets no gradient; None: anything goes.
        steps: time steps with amplitudes of their own, the last one for all later ones; 1: shared over time.
    """

    def __init__(
        self,
        amplitude: float = 1.0,
        train: str = "none",
        raw: bool = False,
        fraction_bits: int = 0,
        least: float | None = None,
        steps: int = 1,
    ) -> None:
        super().__init__()
        self.train_kind = one_of("Emission", "train_amplitude", train, ("none", "layer", "channel"))
        if raw and train != "none":
            if amplitude == 0 or not math.isfinite(amplitude):
                raise bad_value("Emission", "amplitude must be finite and not 0", amplitude, "start at 1")
        else:
            positive("Emission", "amplitude", amplitude)
        self.raw = raw
        self.fraction_bits = fraction_bits
        self.initial = float(amplitude)
        self.slope = 1.0
        self.least, self.steps = least, steps
        self.raw_amplitude: nn.Parameter | None = None
        if train != "none":
            self._allocate(())

    def _allocate(self, shape: tuple[int, ...]) -> None:
        start = self.initial if self.raw else math.log(self.initial)
        sizes = shape if self.steps == 1 else (self.steps, *(shape or (1,)))
        self.raw_amplitude = nn.Parameter(torch.full(sizes, start))

    def resize(self, channels: int) -> None:
        """Give every channel its own amplitude, if this emission is per channel."""
        if self.train_kind == "channel":
            self._allocate((channels,))

    def bend_by(self, slope: float) -> None:
        """Let a negative level be worth ``slope`` times a positive one, in (0, 1]."""
        if not 0 < slope <= 1:
            raise bad_value("Emission", "the slope must lie in (0, 1]", slope, "1 gives both signs one amplitude")
        self.slope = float(slope)

    def bend(self, k: Tensor) -> Tensor:
        """Levels → levels, the negative ones times the slope; which ones they are has no gradient."""
        return k if self.slope == 1 else torch.where(k.detach() < 0, k * self.slope, k)

    def levels(self, s: Tensor) -> Tensor:
        """Transmitted values [T, B, C, ...] → the levels they came from (not rounded), in float64."""
        return self.straighten(s.detach().double() / self.over(s).detach().double())

    def straighten(self, k: Tensor) -> Tensor:
        """The inverse of `bend`, up to rounding."""
        return k if self.slope == 1 else torch.where(k.detach() < 0, k / self.slope, k)

    def amplitude(self) -> Tensor | float:
        """A float where fixed, else a differentiable tensor [] or [C]; [steps, 1] or [steps, C] if not shared."""
        if self.raw_amplitude is None:
            return self.initial
        if not self.raw:
            return self.raw_amplitude.exp()
        return self.raw_amplitude if self.least is None else self.raw_amplitude.clamp(min=self.least)

    def over(self, s: Tensor) -> Tensor:
        """Value of one level, differentiable, to broadcast over values [T, B, C, ...]; see `over_time`."""
        a = self.amplitude()
        value = a if isinstance(a, Tensor) else torch.tensor(a, dtype=torch.float64, device=s.device)
        return over_time(value * 2.0**-self.fraction_bits, s)

    def scale(self) -> Tensor:
        """Value of one level as a detached tensor in float64, shaped like `amplitude`."""
        a = self.amplitude()
        value = a.detach() if isinstance(a, Tensor) else torch.tensor(a, dtype=torch.float64)
        return value.double() * 2.0**-self.fraction_bits

    def value(self, s: Tensor) -> Tensor | float:
        """Value of one level in spikes s [T, B, C, ...]: a float, or a detached tensor that broadcasts."""
        a = self.amplitude()
        if isinstance(a, float):
            return a * 2.0**-self.fraction_bits
        a = a.detach()
        return over_time(a * 2.0**-self.fraction_bits if self.fraction_bits else a, s)

    def forward(self, k: Tensor) -> Tensor:
        """Levels [B, C, ...] → transmitted values of that shape."""
        a, k = self.amplitude(), self.bend(k)
        if isinstance(a, float):
            factor = a * 2.0**-self.fraction_bits
            return k if factor == 1.0 else k * factor
        a = per_channel(a, k)
        return k * (a * 2.0**-self.fraction_bits if self.fraction_bits else a)

    def extra_repr(self) -> str:
        below = f", slope={self.slope:g}" if self.slope != 1 else ""
        return f"amplitude={self.initial:g}, train={self.train_kind}, fraction_bits={self.fraction_bits}{below}"


def per_channel(a: Tensor, k: Tensor) -> Tensor:
    """A factor [] or [C] to broadcast over k [B, C, ...]; raises `ValueError` if the channels differ."""
    if a.dim() == 0:
        return a
    if k.dim() < 2 or k.shape[1] != a.numel():
        must = f"a per-channel amplitude of {a.numel()} channels needs [B, {a.numel()}, ...]"
        raise bad_value("Emission", must, list(k.shape), "call replicate(channels) for the right width")
    return a.reshape(-1, *[1] * (k.dim() - 2))


def over_time(value: Tensor, s: Tensor) -> Tensor:
    """A factor [], [C] or [steps, C] (the last step for all later ones) to broadcast over s [T, B, C, ...].

    Features [T, B, F] with F a multiple of C are the flattened values of C channels.
    """
    if value.dim() == 2 and len(s) != len(value):
        value = torch.cat([value[: len(s)], value[-1:].expand(max(len(s) - len(value), 0), -1)])
    if value.dim() and s.dim() == 3 and value.shape[-1] not in (1, s.shape[2]):
        value = value.repeat_interleave(s.shape[2] // value.shape[-1], -1)
    inner = [1] * (s.dim() - 3)
    if value.dim() == 2:
        return value.reshape(len(value), 1, -1, *inner)
    return value.reshape(-1, *inner) if value.dim() else value
