"""Charge and reset: the order of operations, and what is conserved."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitspike.functional import charge, reset_hard, reset_soft

sixteenths = st.integers(-4096, 4096).map(lambda n: n / 16)
decays = st.integers(0, 16).map(lambda n: n / 16)


@given(sixteenths, sixteenths, decays, st.booleans())
def test_charge_is_exact_on_the_dyadic_grid(v: float, x: float, decay: float, learned: bool) -> None:
    factor = torch.tensor(decay) if learned else decay
    found = charge(torch.tensor(v), torch.tensor(x), factor)
    assert Fraction(float(found)) == Fraction(v) * Fraction(decay) + Fraction(x)


def test_charge_multiplies_then_adds() -> None:
    """Two roundings, not the one of a fused multiply-add: in float32 0.1·0.1 is rounded before −0.01 is added."""
    v, x = torch.tensor(0.1), -(torch.tensor(0.1) * torch.tensor(0.1))
    assert float(charge(v, x, 0.1)) == 0.0
    exact = Fraction(float(v)) * Fraction(float(torch.tensor(0.1))) + Fraction(float(x))
    assert exact != 0


def test_an_integrator_only_adds() -> None:
    v, x = torch.randn(100), torch.randn(100)
    assert torch.equal(charge(v, x, 1.0), v + x)
    assert torch.equal(charge(v, x, torch.tensor(1.0)), v + x)


@given(sixteenths, sixteenths, decays, st.integers(-64, 0).map(lambda n: n / 16))
def test_a_floor_is_the_least_membrane(v: float, x: float, decay: float, floor: float) -> None:
    free = charge(torch.tensor(v), torch.tensor(x), decay)
    for given_floor in (floor, torch.tensor(floor)):
        assert float(charge(torch.tensor(v), torch.tensor(x), decay, given_floor)) == max(float(free), floor)


@pytest.mark.parametrize("floor", [-1.0, torch.tensor(-1.0), torch.full((3,), -1.0)])
def test_a_floor_passes_no_gradient_below(floor: torch.Tensor | float) -> None:
    """Below it 0, at it and above 1 (times the decay for v)."""
    v = torch.tensor([-1.0, -1.0, -1.0], requires_grad=True)
    x = torch.tensor([-0.625, -0.5, -0.375], requires_grad=True)
    charge(v, x, 0.5, floor).sum().backward()
    assert v.grad is not None and x.grad is not None
    assert (v.grad.tolist(), x.grad.tolist()) == ([0.0, 0.5, 0.5], [0.0, 1.0, 1.0])


@given(sixteenths, sixteenths)
def test_soft_reset_keeps_charge(u: float, sent: float) -> None:
    v = reset_soft(torch.tensor(u), torch.tensor(sent))
    assert float(v) + sent == u


@given(sixteenths)
def test_hard_reset_keeps_or_clears(u: float) -> None:
    assert float(reset_hard(torch.tensor(u), torch.tensor(0.0))) == u
    assert float(reset_hard(torch.tensor(u), torch.tensor(1.0))) == 0


def test_gradients_of_the_resets_by_hand() -> None:
    u = torch.tensor(3.0, requires_grad=True)
    fired = torch.tensor(0.25, requires_grad=True)
    reset_hard(u, fired).backward()
    assert (float(u.grad or 0), float(fired.grad or 0)) == (0.75, -3.0)  # 1 − fired, −u
    u.grad = fired.grad = None
    reset_soft(u, fired).backward()
    assert (float(u.grad or 0), float(fired.grad or 0)) == (1.0, -1.0)
