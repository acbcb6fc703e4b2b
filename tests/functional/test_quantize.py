"""Rounding, signs, bit planes and unary codes against exact integer models."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitspike.functional import bit_planes, popcount, round_half, round_ste, sign_pm1, unary_expand

floats32 = st.floats(-1e6, 1e6, width=32)
HALVES = st.integers(-4000, 4000).map(lambda n: n / 2)


def exact(x: float) -> int:
    """Nearest integer, halves away from zero, in exact arithmetic."""
    size = abs(Fraction(x))
    whole = math.floor(size) + (size - math.floor(size) >= Fraction(1, 2))
    return -whole if x < 0 else whole


@given(st.lists(floats32 | HALVES, min_size=1), st.sampled_from([torch.float32, torch.float64]))
def test_round_half_is_exact(values: list[float], dtype: torch.dtype) -> None:
    assert round_half(torch.tensor(values, dtype=dtype)).tolist() == [exact(v) for v in values]


@given(st.lists(floats32 | HALVES, min_size=1))
def test_round_half_is_odd(values: list[float]) -> None:
    u = torch.tensor(values)
    assert torch.equal(round_half(-u), -round_half(u))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("whole", [0, 1, 2, 3, 1023])
def test_one_step_beside_a_half(dtype: torch.dtype, whole: int) -> None:
    half = torch.tensor(whole + 0.5, dtype=dtype)
    below, above = torch.nextafter(half, half * 0), torch.nextafter(half, half * 2)
    assert [float(round_half(u)) for u in (below, half, above)] == [whole, whole + 1, whole + 1]


def test_the_rules_it_replaces_differ() -> None:
    """Half to even takes 0.5 to 0; floor(u + ½) takes the number just below ½ to 1."""
    just_below = torch.tensor(0.49999997)
    assert float(torch.round(torch.tensor(0.5))) == 0 != float(round_half(torch.tensor(0.5)))
    assert float(torch.floor(just_below + 0.5)) == 1 != float(round_half(just_below))


def test_rounding_passes_the_gradient_straight() -> None:
    u = torch.tensor([0.4, 0.5, -1.7], dtype=torch.float64, requires_grad=True)
    upstream = torch.tensor([2.0, -3.0, 5.0], dtype=torch.float64)
    round_ste(u).backward(upstream)
    assert torch.equal(round_ste(u).detach(), torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64))
    assert u.grad is not None and torch.equal(u.grad, upstream)
    assert not round_half(u).requires_grad
    assert not sign_pm1(u).requires_grad


@given(st.lists(floats32, min_size=1))
def test_rounding_ste_has_the_value_of_rounding(values: list[float]) -> None:
    u = torch.tensor(values)
    assert torch.equal(round_ste(u), round_half(u))


def test_the_sign_of_zero_is_plus() -> None:
    w = torch.tensor([0.0, -0.0, 1e-45, -1e-45, float("inf"), float("-inf")])
    assert sign_pm1(w).tolist() == [1, 1, 1, -1, 1, -1]
    assert sign_pm1(w.to(torch.float64)).dtype == torch.float64


numbers = st.integers(1, 31).flatmap(lambda bits: st.tuples(st.just(bits), st.lists(st.integers(0, 2**bits - 1))))


@given(numbers, st.sampled_from([torch.int64, torch.float64]))
def test_bit_planes_add_up(case: tuple[int, list[int]], dtype: torch.dtype) -> None:
    bits, values = case
    k = torch.tensor(values, dtype=dtype)
    planes = bit_planes(k, bits)
    assert planes.shape == (bits, len(values)) and planes.dtype == dtype
    assert ((planes == 0) | (planes == 1)).all()
    weights = torch.tensor([2**i for i in range(bits)], dtype=dtype)
    assert torch.equal((planes * weights[:, None]).sum(0), k)


@given(numbers, st.booleans())
def test_popcount_counts_the_bits_of_the_magnitude(case: tuple[int, list[int]], negate: bool) -> None:
    bits, values = case
    signed = [-v if negate else v for v in values]
    found = popcount(torch.tensor(signed, dtype=torch.float64), bits)
    assert found.tolist() == [bin(v).count("1") for v in values]


@pytest.mark.parametrize("bits", [0, 32, -1])
def test_bit_planes_need_a_sensible_width(bits: int, refuses: Any) -> None:
    with refuses("bit_planes", "bits must lie in [1, 31]", f"got {bits}"):
        bit_planes(torch.zeros(1), bits)


@given(st.integers(1, 40).flatmap(lambda d: st.tuples(st.just(d), st.lists(st.integers(0, d), min_size=1))))
def test_unary_codes_add_up(case: tuple[int, list[int]]) -> None:
    steps, values = case
    k = torch.tensor(values, dtype=torch.float32)
    train = unary_expand(k, steps)
    assert train.shape == (steps, len(values)) and train.dtype == k.dtype
    assert ((train == 0) | (train == 1)).all()
    assert torch.equal(train.sum(0), k)
    assert (train.diff(dim=0) <= 0).all()  # the first k slots
