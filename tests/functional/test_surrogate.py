"""Staircases against exact integers; every surrogate against its primitive; the gradient of firing."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitspike.functional import SURROGATES, ATan, FastSigmoid, Rectangle, Sigmoid, Stairs, Surrogate, Triangle, fire

STAIRS = {
    "one": Stairs(1.0),
    "one-signed": Stairs(0.5, 1.0, 1, signed=True),
    "three": Stairs(0.5, 1.0, 3),
    "three-signed": Stairs(0.75, 0.5, 3, signed=True),
    "fifteen": Stairs(0.25, 0.25, 15),
    "fifteen-signed": Stairs(0.3, 0.6, 15, signed=True),
}
PARAMETERS = {"rectangle": [None, 0.125, 0.25], "triangle": [0.25, 1.0], "atan": [2.0, 7.0], "sigmoid": [4.0, 11.0]}
AREA: dict[str, Callable[[Any], float]] = {"fast_sigmoid": lambda h: 2 / h.slope}


def surrogates() -> list[tuple[str, Surrogate]]:
    return [(name, SURROGATES[name](*args)) for name in SURROGATES for args in arguments(name)]


def arguments(name: str) -> list[tuple[float | None, ...]]:
    return [(value,) for value in PARAMETERS.get(name, [])] or [()]


def grid(stairs: Stairs, count: int = 3001) -> torch.Tensor:
    """Irregular points over twice the range, both signs."""
    top = stairs.first + stairs.count * stairs.spacing
    return (torch.rand(count, dtype=torch.float64) * 4 - 2) * top


levels = st.builds(
    lambda first, spacing, count, signed: (first, spacing, Stairs(first / 16, spacing / 16, count, signed)),
    st.integers(1, 48), st.integers(1, 48), st.integers(1, 20), st.booleans(),
)  # fmt: skip


@given(levels, st.lists(st.integers(-1200, 1200), min_size=1, max_size=50), st.sampled_from(["float32", "float64"]))
def test_levels_equal_an_integer_model(case: tuple[int, int, Stairs], values: list[int], dtype: str) -> None:
    """Counting boundaries in integers: level = number of boundaries at or below |u|, in sixteenths."""
    first, spacing, stairs = case
    found = stairs.level(torch.tensor(values, dtype=getattr(torch, dtype)) / 16)
    for value, level in zip(values, found.tolist(), strict=True):
        size = abs(value) if stairs.signed else value
        count = sum(first + j * spacing <= size for j in range(stairs.count))
        assert level == (-count if stairs.signed and value < 0 else count)


@given(levels, st.integers(-1200, 1200))
def test_margin_is_the_distance_to_the_nearest_boundary(case: tuple[int, int, Stairs], value: int) -> None:
    first, spacing, stairs = case
    size = abs(value) if stairs.signed else value
    wanted = min(abs(Fraction(size - first - j * spacing, 16)) for j in range(stairs.count))
    assert Fraction(float(stairs.margin(torch.tensor(value / 16, dtype=torch.float64)))) == wanted


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("first", [0.5, 1.0, 0.3, 0.1])
def test_the_first_boundary_fires_and_the_number_below_does_not(
    first: float, dtype: torch.dtype, count: int, signed: bool
) -> None:
    stairs = Stairs(first, first, count, signed)
    at = torch.tensor([first, -first], dtype=dtype)
    below = torch.nextafter(at, torch.zeros_like(at))
    assert stairs.level(at).tolist() == [1, -1 if signed else 0]
    assert stairs.level(below).abs().tolist() == [0, 0]


def test_levels_saturate_and_carry_no_gradient() -> None:
    u = torch.tensor([1e30, -1e30, float("inf"), float("-inf")], requires_grad=True)
    assert Stairs(0.5, 0.5, 7).level(u).tolist() == [7, 0, 7, 0]
    assert Stairs(0.5, 0.5, 7, signed=True).level(u).tolist() == [7, -7, 7, -7]
    assert not Stairs().level(u).requires_grad


@pytest.mark.parametrize("stairs", STAIRS.values(), ids=STAIRS)
@pytest.mark.parametrize(("name", "surrogate"), surrogates(), ids=lambda v: str(v))
def test_a_derivative_is_that_of_its_primitive(name: str, surrogate: Surrogate, stairs: Stairs) -> None:
    if isinstance(surrogate, Rectangle) and (surrogate.width or 0) > stairs.spacing:
        pytest.fail("choose widths that fit every staircase")
    u, step = grid(stairs), 1e-6
    below, here, above = (surrogate.primitive(u + shift, stairs) for shift in (-step, 0, step))
    smooth = ((above - here) - (here - below)).abs() <= 1e-3 * step
    assert int((~smooth).sum()) <= 2  # points within a step of a kink
    claimed = surrogate.derivative(u, stairs)
    torch.testing.assert_close(claimed[smooth], (above - below)[smooth] / (2 * step), rtol=1e-5, atol=1e-6)
    assert (claimed > 0).any()
    assert (claimed >= 0).all()


@pytest.mark.parametrize("stairs", STAIRS.values(), ids=STAIRS)
@pytest.mark.parametrize(("name", "surrogate"), surrogates(), ids=lambda v: str(v))
def test_the_area_of_a_bump_is_one_or_as_documented(name: str, surrogate: Surrogate, stairs: Stairs) -> None:
    """Far above every boundary the primitive has climbed count·area over its value far below."""
    far = torch.tensor([1e9, 0.0 if stairs.signed else -1e9], dtype=torch.float64)
    high, low = surrogate.primitive(far, stairs).tolist()
    area = AREA.get(name, lambda _: 1.0)(surrogate)
    assert high - low == pytest.approx(stairs.count * area, rel=1e-6)
    assert surrogate.primitive(-far[:1], stairs).item() == pytest.approx(-high if stairs.signed else low, abs=1e-6)


@pytest.mark.parametrize("stairs", STAIRS.values(), ids=STAIRS)
@pytest.mark.parametrize("surrogate", [Rectangle(0.125), Triangle(0.125)], ids=str)
def test_a_narrow_primitive_meets_the_staircase(surrogate: Surrogate, stairs: Stairs) -> None:
    u = grid(stairs)
    away = u[stairs.margin(u) > 0.13]
    torch.testing.assert_close(surrogate.primitive(away, stairs), stairs.level(away), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("surrogate", "x", "height"),
    [
        (Rectangle(0.5), 0.25, 2.0),  # the edge belongs to the window: 1/width
        (Triangle(0.5), 0.25, 1.0),  # (1 − ½)/½
        (Triangle(0.5), 0.5, 0.0),
        (ATan(2.0), 1 / math.pi, 0.5),  # 1 / (1 + (π/2·2·1/π)²) = ½
        (Sigmoid(4.0), math.log(3) / 4, 0.75),  # σ = ¾: 4·¾·¼
        (FastSigmoid(25.0), 0.04, 0.25),  # 1/(1 + 1)²
    ],
    ids=str,
)
def test_heights_by_hand(surrogate: Surrogate, x: float, height: float) -> None:
    u = torch.tensor([1.0 + x, 1.0 - x], dtype=torch.float64)
    assert surrogate.derivative(u, Stairs()).tolist() == pytest.approx([height, height])


def test_the_default_windows_of_the_papers() -> None:
    """Ternary: 1 on [−1, 1] at threshold ½; multi-bit: [Δ/2, (M+½)Δ], 1/Δ."""
    u = torch.tensor([-1.0 - 1e-9, -1.0, 0.0, 1.0, 1.0 + 1e-9], dtype=torch.float64)
    assert Rectangle().derivative(u, Stairs(0.5, 1.0, 1, signed=True)).tolist() == [0, 1, 1, 1, 0]
    delta = torch.tensor([0.25, 0.25 - 1e-9, 1.75, 1.75 + 1e-9], dtype=torch.float64)
    assert Rectangle().derivative(delta, Stairs(0.5, 0.5, 3)).tolist() == [2, 0, 2, 0]


@pytest.mark.parametrize("stairs", STAIRS.values(), ids=STAIRS)
@pytest.mark.parametrize(("name", "surrogate"), surrogates(), ids=lambda v: str(v))
def test_fire_goes_forward_by_levels_and_back_by_the_derivative(
    name: str, surrogate: Surrogate, stairs: Stairs
) -> None:
    u = grid(stairs, 200).requires_grad_()
    upstream = torch.randn(200, dtype=torch.float64)
    k = fire(u, stairs, surrogate)
    k.backward(upstream)
    assert torch.equal(k, stairs.level(u))
    assert u.grad is not None
    assert torch.equal(u.grad, upstream * surrogate.derivative(u.detach(), stairs))


def test_windows_may_touch_and_not_overlap(refuses: Any) -> None:
    Rectangle(0.5).check("X", Stairs(0.5, 0.5, 3))
    Rectangle(9.0).check("X", Stairs(0.5, 0.5, 1))  # a single boundary: nothing to overlap
    with refuses("X", "must not overlap (width <= 0.5", "width 0.75"):
        Rectangle(0.75).check("X", Stairs(0.5, 0.5, 3))
    with refuses("X", "must not overlap (width <= 1", "width 1.5"):
        Rectangle(1.5).check("X", Stairs(0.5, 1.0, 1, signed=True))


@pytest.mark.parametrize(
    ("make", "where", "word"),
    [
        (lambda: Stairs(first=0.0), "Stairs", "first"),
        (lambda: Stairs(spacing=-1.0), "Stairs", "spacing"),
        (lambda: Stairs(first=float("nan")), "Stairs", "first"),
        (lambda: Stairs(count=0), "Stairs", "count"),
        (lambda: Rectangle(0.0), "Rectangle", "width"),
        (lambda: Triangle(-1.0), "Triangle", "half_width"),
        (lambda: ATan(float("inf")), "ATan", "alpha"),
        (lambda: Sigmoid(0.0), "Sigmoid", "alpha"),
        (lambda: FastSigmoid(0.0), "FastSigmoid", "slope"),
        (lambda: SURROGATES["rectangel"], "surrogate registry", "did you mean 'rectangle'?"),
    ],
)
def test_bad_parameters(make: Callable[[], object], where: str, word: str, refuses: Any) -> None:
    with refuses(where, word):
        make()
