"""A new step size at a change of width: never worse than the old one, near the best there is, by column."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from bitspike.functional.learned import greatest_level, rounded
from bitspike.functional.renewal import best_step, columns, error, kept_range, quantized, start_step

WIDTHS = (1, 2, 3, 4, 8)
FLIPS = list(itertools.permutations(WIDTHS, 2))


def ends(bits: int, signed: bool) -> tuple[int, int, int]:
    """Levels and stride of unsigned spikes or of weights."""
    if not signed:
        return 0, 2**bits - 1, 1
    high = max(1, 2 ** (bits - 1) - 1)
    return -high, high, 2 if bits == 1 else 1


def gaussian(signed: bool) -> Tensor:
    x = torch.randn(20_000, 1, dtype=torch.float64)
    return x if signed else x.relu()


def optimum(x: Tensor, bits: int, signed: bool) -> Tensor:
    step = torch.tensor([x.abs().max().item()])
    for _ in range(3):
        step = best_step(x, step, *ends(bits, signed), grid=400)
    return step


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("before", "after"), FLIPS)
def test_a_renewal_lowers_the_error_at_every_flip(before: int, after: int, signed: bool) -> None:
    """On Gaussian weights and rectified Gaussian spikes, from the best step of the width before."""
    x = gaussian(signed)
    old = optimum(x, before, signed)
    levels = ends(after, signed)
    kept, new = error(x, old, *levels), error(x, best_step(x, old, *levels), *levels)
    assert new <= kept
    if not signed or 1 not in (before, after):  # ±α is far from anything whatever α, and near to {−α, 0, α}
        assert new < 0.85 * kept


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("before", "after"), [f for f in FLIPS if f[0] in (2, 3, 4) and f[1] in (2, 3, 4)])
def test_the_closed_form_lowers_the_error_too_and_the_inverse_ratio_does_not(
    before: int, after: int, signed: bool
) -> None:
    x = gaussian(signed)
    old, levels = optimum(x, before, signed), ends(after, signed)
    kept = error(x, old, *levels)
    closed = kept_range(old, ends(before, signed)[1], levels[1])
    wrong = kept_range(old, levels[1], ends(before, signed)[1])
    assert error(x, closed, *levels) < kept < error(x, wrong, *levels)


@pytest.mark.parametrize(
    ("signed", "table"),
    [(True, {5: 0.194, 4: 0.354, 3: 0.654, 2: 1.221}), (False, {4: 0.193, 3: 0.353, 2: 0.651, 1: 1.223})],
)
def test_the_best_steps_of_gaussians(signed: bool, table: dict[int, float]) -> None:
    """Least-squares optima of the literature on uniform quantizers; the power 2.4 moves them up a little."""
    x = gaussian(signed)
    for bits, step in table.items():
        assert optimum(x, bits, signed).item() == pytest.approx(step, rel=0.12)


def test_every_column_has_its_own_step() -> None:
    x = torch.randn(4000, 3, dtype=torch.float64) * torch.tensor([0.1, 1.0, 30.0])
    steps = best_step(x, torch.ones(3, dtype=torch.float64), -3, 3)
    assert (steps / torch.tensor([0.1, 1.0, 30.0])).tolist() == pytest.approx([0.65] * 3, rel=0.2)
    for column in range(3):
        part = x[:, column : column + 1]
        assert best_step(part, torch.ones(1, dtype=torch.float64), -3, 3).item() == steps[column].item()


def test_the_present_step_stays_where_nothing_is_better() -> None:
    """Silent channels and constants give no reason for another step, not even a tiny one."""
    x = torch.tensor([[-1.0, 0.0], [-2.0, 0.0]])
    assert best_step(x, torch.tensor([0.5, 0.25]), 0, 3).tolist() == [0.5, 0.25]


def test_ties_and_ends_by_hand() -> None:
    x = torch.tensor([0.25, 0.75, -0.25, 5.0, -5.0])
    assert quantized(x, torch.tensor(0.5), 0, 3).tolist() == [0.5, 1.0, 0.0, 1.5, 0.0]
    assert quantized(x, torch.tensor(0.5), -1, 1).tolist() == [0.5, 0.5, -0.5, 0.5, -0.5]
    assert quantized(x, torch.tensor(0.5), -1, 1, 2).tolist() == [0.5, 0.5, -0.5, 0.5, -0.5]
    assert error(torch.tensor([[1.0], [3.0]]), torch.tensor([1.0]), 0, 1).item() == pytest.approx(2**2.4)


def test_start_by_hand() -> None:
    """2·mean|x|/√Q."""
    x = torch.tensor([[1.0, 0.0], [-3.0, 0.0]])
    assert start_step(x, 4).tolist() == [2.0, 0.0]


def test_columns() -> None:
    x = torch.arange(12.0).reshape(2, 3, 2)
    assert columns(x, None).shape == (12, 1) and columns(x, 1)[:, 1].tolist() == [2.0, 3.0, 8.0, 9.0]


def test_widths_and_levels() -> None:
    assert rounded(torch.tensor([0.0, 1.5, -2.4, 7.6]), 1, 6).tolist() == [1, 2, 2, 6]
    for signed in (False, True):
        for bits in range(1, 17):
            top = greatest_level(torch.tensor(bits), None, signed, torch.float32)
            assert top.item() == ends(bits, signed)[1]
