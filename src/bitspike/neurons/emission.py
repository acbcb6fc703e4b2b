"""What a neuron puts on the wire: the value of one level, and how a factor spreads over channels and time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, number, one_of, positive
from bitspike.functional import bounded
from bitspike.renamed import old_method
from bitspike.sealed import Sealed, amend


class Emission(Sealed, nn.Module):
    """What leaves a neuron: it turns levels into values.

    What a level is worth on the wire: ``amplitude · 2^-fraction_bits``, times a slope below 0 (`set_slope`).

    A trainable amplitude is positive by parameterisation, ``exp(raw_amplitude)``, unless ``raw`` is set (the released
    form of Ternary Spike, which nothing keeps from changing sign; max pooling refuses it at folding).

    Source: Ternary Spike (AAAI 2024), eq. 14; per channel: Real Spike (ECCV 2022).

    Args:
        amplitude: fixed or initial value; > 0 unless raw (then any finite value but 0).
        train: "none", "layer" or "channel".
        raw: train the amplitude itself.
        fraction_bits: n of a fixed-point spike.
        least: a raw amplitude below it counts as this, and its gradient leads back (`bounded`); None: anything goes.
        steps: time steps with amplitudes of their own, the last one for all later ones; 1: shared over time.

    Attributes:
        channel_dim: axis of the channels in one step: 1 of [B, C, ...], -1 of tokens [B, N, F]; None: not said, then 1,
            but three axes are refused where something is per channel.
    """

    sealed: ClassVar[tuple[str, ...]] = ("initial", "train_kind", "slope", "channel_dim")
    remedies: ClassVar[Mapping[str, str]] = {
        "slope": "call set_slope",
        "channel_dim": "call replicate(channels, channel_dim=...)",
    }
    channel_dim: int | None = None

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
        self.train_kind: str = one_of("Emission", "train_amplitude", train, ("none", "layer", "channel"))
        if raw and train != "none":
            if amplitude == 0 or not math.isfinite(amplitude):
                raise bad_value("Emission", "amplitude must be finite and not 0", amplitude, "start at 1")
        else:
            positive("Emission", "amplitude", amplitude)
        self.raw = raw
        self.fraction_bits = fraction_bits
        self.initial: float = float(amplitude)
        self.slope: float = 1.0
        self.least: float | None = least
        self.steps: int = steps
        self.raw_amplitude: nn.Parameter | None = None
        if train != "none":
            self._allocate(())

    bend_by: Callable[..., Any] = old_method("bend_by", "set_slope")
    bend: Callable[..., Any] = old_method("bend", "scale_negative")
    straighten: Callable[..., Any] = old_method("straighten", "unscale_negative")

    def _allocate(self, shape: tuple[int, ...]) -> None:
        start = self.initial if self.raw else math.log(self.initial)
        sizes = shape if self.steps == 1 else (self.steps, *(shape or (1,)))
        self.raw_amplitude = nn.Parameter(torch.full(sizes, start))

    def resize(self, channels: int, channel_dim: int | None = None) -> None:
        """Give every channel its own amplitude, if this emission is per channel; say which axis channels are."""
        dim = one_of("Emission", "channel_dim", channel_dim, (None, 1, -1))
        amend(self, channel_dim=self.channel_dim if dim is None else dim)
        if self.train_kind == "channel":
            self._allocate((channels,))

    def set_slope(self, slope: float) -> None:
        """Let a negative level be worth ``slope`` times a positive one, in (0, 1]."""
        number("Emission", "the slope", slope)
        if not 0 < slope <= 1:
            raise bad_value("Emission", "the slope must lie in (0, 1]", slope, "1 gives both signs one amplitude")
        amend(self, slope=float(slope))

    def scale_negative(self, k: Tensor) -> Tensor:
        """Levels → levels, the negative ones times the slope; which ones they are has no gradient."""
        return k if self.slope == 1 else torch.where(k.detach() < 0, k * self.slope, k)

    def levels(self, s: Tensor) -> Tensor:
        """Transmitted values [T, B, C, ...] → the levels they came from (not rounded), in float64."""
        return self.unscale_negative(s.detach().double() / self.over(s).detach().double())

    def unscale_negative(self, k: Tensor) -> Tensor:
        """The inverse of `scale_negative`, up to rounding."""
        return k if self.slope == 1 else torch.where(k.detach() < 0, k / self.slope, k)

    def amplitude(self) -> Tensor | float:
        """A float where fixed, else a differentiable tensor [] or [C]; [steps, 1] or [steps, C] if not shared."""
        if self.raw_amplitude is None:
            return self.initial
        if not self.raw:
            return self.raw_amplitude.exp()
        if self.least is None:
            return self.raw_amplitude
        low = torch.full_like(self.raw_amplitude, self.least)
        return bounded(self.raw_amplitude, low, torch.full_like(low, math.inf))

    def over(self, s: Tensor) -> Tensor:
        """Value of one level, differentiable, to broadcast over values [T, B, C, ...]; see `over_time`."""
        a = self.amplitude()
        value = a if isinstance(a, Tensor) else torch.tensor(a, dtype=torch.float64, device=s.device)
        return over_time(value * 2.0**-self.fraction_bits, s, self.channel_dim)

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
        return over_time(a * 2.0**-self.fraction_bits if self.fraction_bits else a, s, self.channel_dim)

    def forward(self, k: Tensor) -> Tensor:
        """Levels [B, C, ...] → transmitted values of that shape and dtype."""
        a, k = self.amplitude(), self.scale_negative(k)
        if isinstance(a, float):
            factor = a * 2.0**-self.fraction_bits
            return k if factor == 1.0 else k * factor
        a = per_channel(a, k, self.channel_dim)
        return (k * (a * 2.0**-self.fraction_bits if self.fraction_bits else a)).to(k.dtype)

    def extra_repr(self) -> str:
        below = f", slope={self.slope:g}" if self.slope != 1 else ""
        below += ", channel_dim=-1" if self.channel_dim == -1 else ""
        return f"amplitude={self.initial:g}, train={self.train_kind}, fraction_bits={self.fraction_bits}{below}"


def features_last(shape: Sequence[int], channels: int, channel_dim: int | None) -> bool:
    """Whether the channels of one step of a shape are its last axis, behind others; by default they are axis 1.

    Args:
        channels: numbers there are per channel; 0: none. channel_dim: see `Emission`.

    Raises:
        ValueError: three axes, [B, C, L] or tokens [B, N, F], and nobody has said which; or another last axis.

    >>> features_last([2, 8, 4, 4], 8, None), features_last([2, 5, 8], 8, -1), features_last([2, 5, 8], 0, None)
    (False, True, False)
    """
    if len(shape) == 3 and channels and channel_dim is None:
        must = f"numbers for {channels} channels need to know which of three axes the channels are"
        todo = "call neuron.replicate(channels, channel_dim=-1) for tokens [B, N, F], channel_dim=1 for [B, C, L]"
        raise bad_value("Emission", must, f"{list(shape)} and no channel_dim", todo)
    last = channel_dim == -1 and len(shape) > 2
    if last and channels not in (0, shape[-1]):
        must = f"numbers for {channels} channels need [B, ..., {channels}]"
        raise bad_value("Emission", must, list(shape), "call replicate(channels, channel_dim=-1) for the right width")
    return last


def per_channel(a: Tensor, k: Tensor, channel_dim: int | None = None) -> Tensor:
    """A factor [] or [C] to broadcast over k [B, C, ...] or [B, ..., C]; raises `ValueError` if the channels differ."""
    if a.dim() == 0:
        return a
    if features_last(k.shape, a.numel(), channel_dim):
        return a
    if k.dim() < 2 or k.shape[1] != a.numel():
        must = f"numbers for {a.numel()} channels need [B, {a.numel()}, ...]"
        raise bad_value("Emission", must, list(k.shape), "call replicate(channels) for the right width")
    return a.reshape(-1, *[1] * (k.dim() - 2))


def over_time(value: Tensor, s: Tensor, channel_dim: int | None = None) -> Tensor:
    """A factor [], [C] or [steps, C] (the last step for all later ones) to broadcast over s [T, B, C, ...].

    Features [T, B, F] with F a multiple of C are the flattened values of C channels. With ``channel_dim`` -1 factors
    are those of the last axis of tokens [T, B, N, C], and [T, B, F] are such tokens flattened.
    """
    if value.dim() == 2 and len(s) != len(value):
        value = torch.cat([value[: len(s)], value[-1:].expand(max(len(s) - len(value), 0), -1)])
    if value.dim() and s.dim() == 3 and value.shape[-1] not in (1, s.shape[2]):
        times = s.shape[2] // value.shape[-1]
        value = (
            value.repeat(*[1] * (value.dim() - 1), times) if channel_dim == -1 else value.repeat_interleave(times, -1)
        )
    inner = [1] * (s.dim() - 3)
    around = [*inner, -1] if channel_dim == -1 else [-1, *inner]
    if value.dim() == 2:
        return value.reshape(len(value), 1, *around)
    return value.reshape(around) if value.dim() else value
