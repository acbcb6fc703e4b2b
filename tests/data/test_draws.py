"""Counter-based draws: known words, uniformity, independence of keys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitspike.data import draws


def test_the_words_are_splitmix64() -> None:
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert draws.words(5, 1234567).tolist() == known


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 2**63 - 1), st.integers(0, 2**64 - 1))
def test_a_permutation_is_one_and_repeats(count: int, seed: int, stream: int) -> None:
    order = draws.permutation(count, seed, stream)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(count))
    assert np.array_equal(order, draws.permutation(count, seed, stream))


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(1, 2**31), st.integers(0, 2**63 - 1))
def test_below_stays_below(count: int, bound: int, seed: int) -> None:
    numbers = draws.below(count, bound, seed)
    assert numbers.shape == (count,) and numbers.dtype == np.int64
    assert ((numbers >= 0) & (numbers < bound)).all()


@settings(deadline=None)
@given(st.integers(0, 2**62), st.integers(0, 100))
def test_a_longer_draw_begins_with_a_shorter_one(seed: int, count: int) -> None:
    assert np.array_equal(draws.below(100, 7, seed)[:count], draws.below(count, 7, seed))


@pytest.mark.parametrize("bound", [2, 5, 9])
def test_draws_are_uniform(bound: int) -> None:
    counts = np.bincount(draws.below(90_000, bound, 3, draws.SHIFT_X, 1), minlength=bound)
    expected = 90_000 / bound
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 30  # 8 degrees of freedom at most: p < 0.0003


def test_nearby_keys_are_uncorrelated() -> None:
    keys = [(seed, stream, epoch) for seed in (0, 1) for stream in (0, 1) for epoch in (0, 1)]
    bits = np.stack([draws.below(20_000, 2, *key) for key in keys]) * 2.0 - 1
    correlation = bits @ bits.T / bits.shape[1] - np.eye(len(keys))
    assert abs(correlation).max() < 0.035
