"""A hard staircase forward, a named surrogate derivative backward, each with its primitive.

A neuron's level function is a staircase with equal steps (`Stairs`). A surrogate gives the derivative used in its
place and the primitive of that derivative, so that tests can check one against the other and relax a network.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bitspike.checks import bad_value, integer, positive
from bitspike.registry import Registry


@dataclass(frozen=True)
class Stairs:
    """Boundaries ``first + j·spacing`` (j = 0 .. count-1), mirrored to negative u if signed.

    ``k(u) = clip(⌊(|u| − first)/spacing⌋ + 1, 0, count)``, times sign(u) if signed; a boundary fires (>=).

    Args:
        first: membrane value at which level 1 begins, > 0.
        spacing: distance of neighbouring boundaries, > 0; the natural width of a surrogate window.
        count: greatest level, >= 1.
        signed: whether negative membranes fire negative levels.

    >>> Stairs(0.5, 1.0, 2).level(torch.tensor([0.4, 0.5, 1.5, 9.0, -9.0]))
    tensor([0., 1., 2., 2., 0.])
    """

    first: float = 1.0
    spacing: float = 1.0
    count: int = 1
    signed: bool = False

    def __post_init__(self) -> None:
        positive("Stairs", "first", self.first)
        positive("Stairs", "spacing", self.spacing)
        integer("Stairs", "count", self.count, 1, 2**16 - 1)

    def level(self, u: Tensor) -> Tensor:
        """Integer level of every membrane value, in the dtype of u; no gradient."""
        u = u.detach()
        if self.count == 1:
            up = (u >= self.first).to(u.dtype)
            return up - (u <= -self.first).to(u.dtype) if self.signed else up
        if not self.signed:
            return torch.clamp(torch.floor((u - self.first) / self.spacing) + 1, 0, self.count)
        return torch.clamp(torch.floor((u.abs() - self.first) / self.spacing) + 1, 0, self.count) * u.sign()

    def margin(self, u: Tensor) -> Tensor:
        """Distance of every membrane value to the nearest boundary (for flip reports)."""
        magnitude = u.abs() if self.signed else u
        nearest = torch.clamp(torch.round((magnitude - self.first) / self.spacing), 0, self.count - 1)
        return (magnitude - (self.first + nearest * self.spacing)).abs()


class Surrogate(ABC):
    """Derivative of the staircase used in training. Parameters are in membrane units.

    ``relaxed`` is False for every surrogate of the library: forward is the hard staircase. A relaxed one (used by
    tests only) sends its primitive forward instead.
    """

    relaxed: bool = False

    @abstractmethod
    def derivative(self, u: Tensor, stairs: Stairs) -> Tensor:
        """dk/du, the shape of u."""

    @abstractmethod
    def primitive(self, u: Tensor, stairs: Stairs) -> Tensor:
        """A continuous function of u whose derivative is `derivative`, near k(u) far from every boundary."""

    def check(self, where: str, stairs: Stairs) -> None:  # noqa: B027 (a hook; most surrogates fit every staircase)
        """Raise `ValueError` if this surrogate does not fit the staircase."""


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, stairs: Stairs, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(u)
        ctx.stairs, ctx.surrogate = stairs, surrogate
        return stairs.level(u)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        return grads[0] * ctx.surrogate.derivative(u, ctx.stairs), None, None


def fire(u: Tensor, stairs: Stairs, surrogate: Surrogate) -> Tensor:
    """Levels k(u) forward, the surrogate's derivative backward.

    Args:
        u: membrane before firing, any shape, floating.
        stairs: the neuron's staircase.
        surrogate: derivative used in its place.

    Returns:
        Integers in the dtype and shape of u.

    >>> u = torch.tensor([0.9, 1.0], requires_grad=True)
    >>> k = fire(u, Stairs(1.0), Rectangle()); k.sum().backward(); k.tolist(), u.grad.tolist()
    ([0.0, 1.0], [1.0, 1.0])
    """
    if surrogate.relaxed:
        return surrogate.primitive(u, stairs)
    return _Fire.apply(u, stairs, surrogate)  # type: ignore[no-any-return,no-untyped-call]


SURROGATES: Registry[Callable[..., Surrogate]] = Registry("surrogate")


def _sum_over_boundaries(u: Tensor, stairs: Stairs, bump: Callable[[Tensor], Tensor], odd: bool) -> Tensor:
    """Σ_j bump(u − b_j), with the mirrored boundaries added (even) or subtracted (odd) if signed."""
    total = torch.zeros_like(u)
    for j in range(stairs.count):
        boundary = stairs.first + j * stairs.spacing
        total = total + bump(u - boundary)
        if stairs.signed:
            mirrored = bump(-u - boundary)
            total = total - mirrored if odd else total + mirrored
    return total


@SURROGATES.register("rectangle")
@dataclass(frozen=True)
class Rectangle(Surrogate):
    """A window of unit area around every boundary.

    ``h(u) = 1/width where |u − b| <= width/2``, edges included. With ``width=None`` the windows are as wide as the
    spacing and touch: one window over the whole range, 1/spacing inside.

    Source: clamp window of Ternary Spike's code (|u| <= 1 at threshold 0.5); LM-HT (NeurIPS 2024) window
    [θ/2, (L+½)θ] for graded spikes.

    Args:
        width: full width in membrane units, > 0; None for the spacing of the staircase.

    >>> Rectangle().derivative(torch.tensor([-1.1, -1.0, 0.0, 1.0]), Stairs(0.5, 1.0, 1, signed=True)).tolist()
    [0.0, 1.0, 1.0, 1.0]
    """

    width: float | None = None

    def __post_init__(self) -> None:
        if self.width is not None:
            positive("Rectangle", "width", self.width)

    def check(self, where: str, stairs: Stairs) -> None:
        """Windows of neighbouring boundaries may touch, not overlap."""
        width = self.width or stairs.spacing
        limit = min(stairs.spacing if stairs.count > 1 else math.inf, 2 * stairs.first if stairs.signed else math.inf)
        if width > limit:
            must = f"the windows of a Rectangle must not overlap (width <= {limit:g} here)"
            raise bad_value(where, must, f"width {width:g}", "narrow it, or take a smooth surrogate")

    def derivative(self, u: Tensor, stairs: Stairs) -> Tensor:
        """1/width inside a window, edges included, else 0."""
        magnitude = u.abs() if stairs.signed else u
        if self.width is None or stairs.count == 1:
            width = self.width or stairs.spacing
            low = stairs.first - width / 2
            high = stairs.first + (stairs.count - 1) * stairs.spacing + width / 2
            return ((magnitude >= low) & (magnitude <= high)).to(u.dtype) / width
        _, offset = self._nearest(magnitude, stairs)
        return (offset.abs() <= self.width / 2).to(u.dtype) / self.width

    def primitive(self, u: Tensor, stairs: Stairs) -> Tensor:
        """A ramp over every window; with touching windows one ramp from 0 to count."""
        magnitude = u.abs() if stairs.signed else u
        below, offset = self._nearest(magnitude, stairs)
        ramp = below + torch.clamp(offset / (self.width or stairs.spacing) + 0.5, 0, 1)
        return ramp * u.detach().sign() if stairs.signed else ramp

    @staticmethod
    def _nearest(magnitude: Tensor, stairs: Stairs) -> tuple[Tensor, Tensor]:
        index = torch.clamp(
            torch.floor((magnitude.detach() - stairs.first) / stairs.spacing + 0.5), 0, stairs.count - 1
        )
        return index, magnitude - (stairs.first + index * stairs.spacing)


@SURROGATES.register("triangle")
@dataclass(frozen=True)
class Triangle(Surrogate):
    """A tent of unit area around every boundary: ``h = max(0, 1 − |x|/half_width)/half_width``.

    Source: TET (arXiv 2202.11946), half-width 1.

    Args:
        half_width: in membrane units, > 0.

    >>> Triangle().derivative(torch.tensor([0.0, 0.5, 1.0]), Stairs(1.0)).tolist()
    [0.0, 0.5, 1.0]
    """

    half_width: float = 1.0

    def __post_init__(self) -> None:
        positive("Triangle", "half_width", self.half_width)

    def derivative(self, u: Tensor, stairs: Stairs) -> Tensor:
        """Sum of the tents."""
        w = self.half_width
        return _sum_over_boundaries(u, stairs, lambda x: torch.clamp(1 - x.abs() / w, min=0) / w, odd=False)

    def primitive(self, u: Tensor, stairs: Stairs) -> Tensor:
        """Sum of piecewise-quadratic steps."""

        def step(x: Tensor) -> Tensor:
            y = torch.clamp(x / self.half_width, -1, 1)
            return 0.5 + y - 0.5 * y * y.abs()

        return _sum_over_boundaries(u, stairs, step, odd=True)


@SURROGATES.register("atan")
@dataclass(frozen=True)
class ATan(Surrogate):
    """``h = (α/2) / (1 + (π/2·α·x)²)``, unit area.

    Source: Fang et al., PLIF (ICCV 2021); SpikingJelly's default with α = 2.

    Args:
        alpha: sharpness per membrane unit, > 0.

    >>> float(ATan().derivative(torch.tensor(1.0), Stairs(1.0)))
    1.0
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        positive("ATan", "alpha", self.alpha)

    def derivative(self, u: Tensor, stairs: Stairs) -> Tensor:
        """Sum of the bumps."""
        a = self.alpha
        return _sum_over_boundaries(u, stairs, lambda x: a / 2 / (1 + (math.pi / 2 * a * x).square()), odd=False)

    def primitive(self, u: Tensor, stairs: Stairs) -> Tensor:
        """Sum of arctangent steps."""
        a = math.pi / 2 * self.alpha
        return _sum_over_boundaries(u, stairs, lambda x: torch.atan(a * x) / math.pi + 0.5, odd=True)


@SURROGATES.register("sigmoid")
@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """``h = α·σ(αx)·(1 − σ(αx))``, unit area.

    Source: the logistic surrogate common to SNN libraries (SpikingJelly, α = 4).

    Args:
        alpha: sharpness per membrane unit, > 0.

    >>> float(Sigmoid().derivative(torch.tensor(1.0), Stairs(1.0)))
    1.0
    """

    alpha: float = 4.0

    def __post_init__(self) -> None:
        positive("Sigmoid", "alpha", self.alpha)

    def derivative(self, u: Tensor, stairs: Stairs) -> Tensor:
        """Sum of the bumps."""

        def bump(x: Tensor) -> Tensor:
            y = torch.sigmoid(self.alpha * x)
            return self.alpha * y * (1 - y)

        return _sum_over_boundaries(u, stairs, bump, odd=False)

    def primitive(self, u: Tensor, stairs: Stairs) -> Tensor:
        """Sum of logistic steps."""
        return _sum_over_boundaries(u, stairs, lambda x: torch.sigmoid(self.alpha * x), odd=True)


@SURROGATES.register("fast_sigmoid")
@dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """``h = 1/(1 + slope·|x|)²``: height 1, area 2/slope (not 1).

    Source: Zenke & Ganguli, SuperSpike (2018); snnTorch's default with slope 25.

    Args:
        slope: per membrane unit, > 0.

    >>> float(FastSigmoid().derivative(torch.tensor(1.0), Stairs(1.0)))
    1.0
    """

    slope: float = 25.0

    def __post_init__(self) -> None:
        positive("FastSigmoid", "slope", self.slope)

    def derivative(self, u: Tensor, stairs: Stairs) -> Tensor:
        """Sum of the bumps."""
        return _sum_over_boundaries(u, stairs, lambda x: 1 / (1 + self.slope * x.abs()).square(), odd=False)

    def primitive(self, u: Tensor, stairs: Stairs) -> Tensor:
        """Sum of ``x/(1 + slope·|x|) + 1/slope`` (from 0 to 2/slope)."""

        def step(x: Tensor) -> Tensor:
            return x / (1 + self.slope * x.abs()) + 1 / self.slope

        return _sum_over_boundaries(u, stairs, step, odd=True)
