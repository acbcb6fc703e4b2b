"""A hard staircase forward, a named surrogate derivative backward, each with its primitive.

A neuron's level function is a staircase with equal steps (`Stairs`). A surrogate gives the derivative used in its
place and the primitive of that derivative, so that tests can check one against the other and relax a network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bitspike.checks import floating, integer, positive
from bitspike.registry import Registry


@dataclass(frozen=True)
class Stairs:
    """Where a neuron goes from one level to the next.

    Boundaries ``first + j·spacing`` (j = 0 .. count-1), mirrored to negative u if signed.

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

    def scaled_level(self, u: Tensor, scale: Tensor) -> Tensor:
        """Integer level of every membrane value where all boundaries are multiplied by ``scale``; no gradient.

        A boundary is the rounded product ``first·scale``, and fires; u over the scale might miss it by a rounding.

        Args:
            u: membranes. scale: > 0, broadcasts over u.

        >>> Stairs(0.7).scaled_level(torch.tensor([0.7]) * 0.3, torch.tensor(0.3))
        tensor([1.])
        """
        u, scale = u.detach(), scale.detach().to(u.dtype)
        reached = (u.abs() if self.signed else u) - torch.full_like(scale, self.first) * scale
        k = torch.clamp(torch.floor(reached / (self.spacing * scale)) + 1, 0, self.count)
        return k * u.sign() if self.signed else k

    def margin(self, u: Tensor) -> Tensor:
        """Distance of every membrane value to the nearest boundary (for flip reports)."""
        magnitude = u.abs() if self.signed else u
        nearest = torch.clamp(torch.round((magnitude - self.first) / self.spacing), 0, self.count - 1)
        return (magnitude - (self.first + nearest * self.spacing)).abs()


class Surrogate(ABC):
    """The slope that training uses where spikes have none.

    Derivative of the staircase used in training. Parameters are in membrane units.

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

    Raises:
        TypeError: u is not floating.

    >>> from bitspike.functional import Rectangle
    >>> u = torch.tensor([0.9, 1.0], requires_grad=True)
    >>> k = fire(u, Stairs(1.0), Rectangle()); k.sum().backward(); k.tolist(), u.grad.tolist()
    ([0.0, 1.0], [1.0, 1.0])
    """
    if not u.is_floating_point():
        floating("fire", u)
    if surrogate.relaxed:
        return surrogate.primitive(u, stairs)
    return _Fire.apply(u, stairs, surrogate)  # type: ignore[no-any-return,no-untyped-call]


class _FireScaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ratio: Tensor, level: Tensor, stairs: Stairs, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(ratio)
        ctx.stairs, ctx.surrogate = stairs, surrogate
        return level.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (ratio,) = ctx.saved_tensors
        return grads[0] * ctx.surrogate.derivative(ratio, ctx.stairs), None, None, None


def fire_scaled(u: Tensor, scale: Tensor, stairs: Stairs, surrogate: Surrogate) -> Tensor:
    """Levels ``k(u/scale)`` forward; backward the surrogate's derivative h at ``r = u/scale``, times dr.

        dk/du = h(r)/scale        dk/dscale = −h(r)·r/scale

    So the windows of the surrogate widen with the thresholds.

    Args:
        u: membrane before firing, any shape, floating. scale: > 0, what all boundaries are multiplied by; broadcasts
            over u. stairs, surrogate: as in `fire`.

    Returns:
        Integers in the dtype and shape of u.

    Raises:
        TypeError: u is not floating.

    >>> from bitspike.functional import Rectangle
    >>> scale = torch.tensor(2.0, requires_grad=True)
    >>> k = fire_scaled(torch.tensor([1.9, 2.0]), scale, Stairs(1.0), Rectangle())
    >>> k.sum().backward(); k.tolist(), round(float(scale.grad), 3)
    ([0.0, 1.0], -0.975)
    """
    if not u.is_floating_point():
        floating("fire_scaled", u)
    ratio = u / scale.to(u.dtype)
    if surrogate.relaxed:
        return surrogate.primitive(ratio, stairs)
    return _FireScaled.apply(ratio, stairs.scaled_level(u, scale), stairs, surrogate)  # type: ignore[no-any-return,no-untyped-call]


SURROGATES: Registry[Callable[..., Surrogate]] = Registry("surrogate")


def sum_over_boundaries(u: Tensor, stairs: Stairs, bump: Callable[[Tensor], Tensor], odd: bool) -> Tensor:
    """Σ_j bump(u − b_j), with the mirrored boundaries added (even) or subtracted (odd) if signed."""
    total = torch.zeros_like(u)
    for j in range(stairs.count):
        boundary = stairs.first + j * stairs.spacing
        total = total + bump(u - boundary)
        if stairs.signed:
            mirrored = bump(-u - boundary)
            total = total - mirrored if odd else total + mirrored
    return total
