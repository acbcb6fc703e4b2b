"""Ranges by maximum, percentile and least error; the closed form of a neuron's mean output."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitspike.ann2snn.calibrate import line
from bitspike.ann2snn.thresholds import quantized, ranges, rows_of, thinned
from bitspike.neurons import LIF, Integer, MultiBit, Neuron
from networks import rng

NEURONS = {
    "lif": lambda v: LIF(1.0, 1.0, reset="soft", initial=v),
    "multibit": lambda v: MultiBit(1, 2, 2.0, 1.0, initial=v * 0.5),
    "integer": lambda v: Integer(5, 0.5, 1.0, initial=(v - 0.5) * 0.5),
}


@pytest.mark.parametrize("kind", list(NEURONS))
@given(T=st.integers(1, 6), initial=st.sampled_from([0.0, 0.25, 0.5]), seed=st.integers(0, 1000))
def test_the_closed_form_is_the_neuron(kind: str, T: int, initial: float, seed: int) -> None:
    """Constant current, soft reset: T steps of M levels are one step of T·M levels; on a dyadic grid, exactly."""
    neuron: Neuron = NEURONS[kind](initial)
    spacing, levels = neuron.stairs.spacing, neuron.format.high
    x = (torch.randn(64, generator=rng(seed), dtype=torch.float64) * levels * spacing).mul(64).round() / 64
    spikes = neuron(x.expand(T, 1, 64))
    total = (spikes / neuron.emission.scale()).sum(0)[0]
    wanted = torch.floor(T * x / spacing + initial).clamp(0, T * levels)
    assert torch.equal(total, wanted)
    got = quantized(x[:, None], torch.tensor([spacing], dtype=torch.float64), levels, T, initial)[:, 0]
    torch.testing.assert_close(got, total / T * spacing, rtol=1e-12, atol=0)


def test_maximum_and_percentile_by_hand() -> None:
    wanted = torch.cat([torch.zeros(100, 2), torch.arange(1.0, 11.0)[:, None] * torch.tensor([1.0, 10.0])])
    assert ranges("max", wanted, wanted, 3, 1, 0.5, 99.9).tolist() == [10.0, 100.0]
    assert ranges("percentile", wanted, wanted, 3, 1, 0.5, 50.0).tolist() == [5.5, 55.0]  # of those above 0
    with pytest.raises(ValueError, match="'max', 'percentile' or 'mse'"):
        ranges("median", wanted, wanted, 3, 1, 0.5, 50.0)


@pytest.mark.parametrize(("levels", "T"), [(1, 1), (3, 1), (15, 1), (3, 4)])
def test_least_error_is_the_least(levels: int, T: int) -> None:
    """No range of a finer search does better by more than the search's own step, and the maximum does worse."""
    x = torch.randn(4000, 3, generator=rng(0), dtype=torch.float64) * torch.tensor([0.1, 1.0, 7.0])
    wanted = x.clamp_min(0)

    def error(top: torch.Tensor) -> torch.Tensor:
        return (quantized(x, top / levels, levels, T, 0.5) - wanted).square().mean(0)

    found = ranges("mse", wanted, x, levels, T, 0.5, 99.9)
    fine = torch.stack([error(wanted.amax(0) * share / 1000) for share in range(20, 1001)]).amin(0)
    assert (error(found) <= fine * 1.05).all()
    assert (error(found) < error(wanted.amax(0)) * (0.9 if T * levels < 15 else 1)).all()
    assert (error(found) < error(found / 2)).all()


def test_what_arrives_counts_not_what_should() -> None:
    """Currents too large by a half: the range is chosen for the currents that the neuron will see."""
    wanted = torch.rand(1000, 1, generator=rng(1), dtype=torch.float64)
    right = ranges("mse", wanted, wanted, 3, 1, 0.5, 99.9)
    shifted = ranges("mse", wanted, wanted + 0.5, 3, 1, 0.5, 99.9)
    assert float(right) == pytest.approx(1.0, abs=0.2) and float(shifted) < float(right)


def test_silent_and_nearly_silent_columns() -> None:
    wanted = torch.tensor([[0.0, 4.0, 1e-6], [0.0, 2.0, 0.0]])
    assert ranges("max", wanted, wanted, 3, 1, 0.5, 99.9).tolist() == [4.0, 4.0, 4.0 / 256]
    assert ranges("max", wanted[:, :1], wanted[:, :1], 3, 1, 0.5, 99.9).tolist() == [1.0]


def test_rows() -> None:
    x = torch.arange(24.0).reshape(1, 2, 3, 2, 2)
    assert rows_of(x).shape == (8, 3) and torch.equal(rows_of(x)[:, 1], x[0, :, 1].flatten())
    assert rows_of(torch.zeros(1, 5)).shape == (5, 1)
    one_of_each_run = thinned(torch.arange(10.0)[:, None], 4).flatten().tolist()
    assert all(low <= row < high for row, low, high in zip(one_of_each_run, (0, 2, 5, 7), (2, 5, 7, 10), strict=True))
    assert torch.equal(thinned(x, 4), x)


@pytest.mark.parametrize("kind", ["none", "mean", "line"])
def test_the_line_by_hand(kind: str) -> None:
    """A column on a line of slope 0.8, a constant one, an equal one, one whose slope is cut."""
    got = torch.tensor([[0.0, 2.0, 1.0, 0.0], [1.0, 2.0, 5.0, 1.0], [2.0, 2.0, 3.0, 2.0]], dtype=torch.float64)
    wanted = torch.tensor([[1.0, 3.0, 1.0, 1.0], [1.8, 4.0, 5.0, 4.0], [2.6, 5.0, 3.0, 7.0]], dtype=torch.float64)
    slope, shift = line(wanted, got, kind)
    assert slope.tolist() == pytest.approx([0.8, 1.0, 1.0, 1.5] if kind == "line" else [1.0] * 4)
    by_kind = {"none": [0.0] * 4, "mean": [0.8, 2.0, 0.0, 3.0], "line": [1.25, 2.0, 0.0, 4 / 1.5 - 1]}
    assert shift.tolist() == pytest.approx(by_kind[kind])
    if kind != "none":
        torch.testing.assert_close(((got + shift) * slope).mean(0), wanted.mean(0))
