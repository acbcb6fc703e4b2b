"""Encoders: batch invariance, rates, first-spike times, rounding; read-outs are in test_maps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bitspike.layers import Encoder, Latency, Poisson, Repeat
from bitspike.layers.encoders.noise import content_seeds, uniform_noise

SHAPE = (3, 5, 4)
ENCODERS: dict[str, Callable[[], Encoder]] = {
    "repeat": lambda: Repeat(6),
    "poisson": lambda: Poisson(6),
    "poisson-seed": lambda: Poisson(6, seed=11),
    "latency": lambda: Latency(6),
    "latency-jitter": lambda: Latency(6, jitter=1.5),
}


def samples(count: int = 64) -> Tensor:
    return torch.rand(count, *SHAPE)


@pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
def test_a_sample_gets_the_same_spikes_in_any_batch(make: Callable[[], Encoder]) -> None:
    encoder, x = make(), samples()
    whole = encoder(x)
    assert whole.shape == (6, 64, *SHAPE) and whole.dtype == x.dtype
    for size in (1, 7, 64):
        parts = torch.cat([encoder(part) for part in x.split(size)], 1)
        assert torch.equal(parts, whole)
    order = torch.randperm(64)
    assert torch.equal(encoder(x[order]), whole[:, order])
    assert torch.equal(encoder(x.transpose(1, 3).contiguous().transpose(1, 3)), whole)


@pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
def test_two_calls_and_two_encoders_agree(make: Callable[[], Encoder]) -> None:
    x, state = samples(3), torch.get_rng_state()
    encoder = make()
    assert torch.equal(encoder(x), encoder(x)) and torch.equal(encoder(x), make()(x))
    assert torch.equal(torch.get_rng_state(), state)  # no global generator is read


@pytest.mark.parametrize("x", [0.1, 0.5, 0.83])
def test_poisson_rate(x: float) -> None:
    """20,000 draws: the mean is within five standard deviations of x."""
    rate = Poisson(100)(torch.full((1, 200), x)).mean().item()
    assert abs(rate - x) < 5 * math.sqrt(x * (1 - x) / 20_000)


def test_poisson_draws_are_independent_of_place_time_and_sample() -> None:
    """Equal intensities, different samples: spike trains are uncorrelated over samples, steps and places."""
    x = torch.full((40, 50), 0.5)
    x[:, 0] = torch.linspace(0.1, 0.9, 40)  # the samples differ in one value only
    s = 2 * Poisson(40)(x)[..., 1:] - 1
    for moved in (s.roll(1, 0), s.roll(1, 1), s.roll(1, 2)):
        assert abs((s * moved).mean().item()) < 5 / math.sqrt(s.numel())
    assert not torch.equal(Poisson(40, seed=1)(x), Poisson(40, seed=2)(x))


def test_poisson_never_and_always() -> None:
    x = torch.tensor([[0.0, -0.5, 1.0, 1.5]])
    assert Poisson(200)(x).mean((0, 1)).tolist() == [0.0, 0.0, 1.0, 1.0]


def test_given_seeds_replace_the_content() -> None:
    x = torch.full((2, 300), 0.5)
    assert torch.equal(Poisson(4)(x)[:, 0], Poisson(4)(x)[:, 1])  # equal content, equal noise
    apart = Poisson(4)(x, torch.tensor([1, 2]))
    assert not torch.equal(apart[:, 0], apart[:, 1])
    moved = Poisson(4)(x, torch.tensor([2, 1]))
    assert torch.equal(apart[:, [1, 0]], moved)


def test_noise_is_uniform_and_below_one() -> None:
    noise = uniform_noise(torch.arange(8), 25, (10, 50))
    counts = torch.histc(noise, bins=20, min=0, max=1)
    expected = noise.numel() / 20
    assert noise.min() >= 0 and noise.max() < 1
    assert float(((counts - expected) ** 2 / expected).sum()) < 50  # 19 degrees of freedom: p < 0.0002


def test_one_changed_pixel_changes_the_seed() -> None:
    x = torch.zeros(1, 100)
    found = {int(content_seeds(x, seed)) for seed in range(3)}
    for place in range(100):
        y = x.clone()
        y[0, place] = 0.25
        found.add(int(content_seeds(y, 0)))
    assert len(found) == 103


@given(st.integers(1, 12), st.lists(st.integers(0, 64), min_size=1, max_size=30))
def test_latency_in_exact_numbers(T: int, values: list[int]) -> None:
    """One spike at step (1 − x)·(T − 1), rounded half up, where x > 0; x in 64ths."""
    spikes = Latency(T)(torch.tensor([values]) / 64)[:, 0]
    for place, value in enumerate(values):
        slot = (2 * (64 - value) * (T - 1) + 64) // 128
        assert spikes[:, place].tolist() == [float(value > 0 and t == slot) for t in range(T)]


def test_latency_at_a_tie() -> None:
    """Half-way is the later step; the number just above it in brightness is the earlier one."""
    half = torch.tensor([[0.5]])
    assert Latency(2)(half)[:, 0, 0].tolist() == [0.0, 1.0]
    assert Latency(2)(torch.nextafter(half, half * 2))[:, 0, 0].tolist() == [1.0, 0.0]


def test_jitter_moves_spikes_by_so_much_at_most() -> None:
    x = torch.rand(20, 50).clamp(min=0.01)
    steady, shaken = Latency(9)(x), Latency(9, jitter=2.0)(x)
    assert torch.equal(shaken.sum(0), torch.ones_like(x))  # still one spike each
    distance = (steady.argmax(0) - shaken.argmax(0)).abs()
    assert 1 <= distance.max() <= 3  # two steps and a rounding
    assert not torch.equal(Latency(9, 2.0, seed=1)(x), Latency(9, 2.0, seed=2)(x))


def test_repeat_is_a_view() -> None:
    x = samples(2)
    y = Repeat(4)(x)
    assert y.data_ptr() == x.data_ptr() and all(torch.equal(step, x) for step in y)


@pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
def test_what_is_declared_is_what_is_emitted(make: Callable[[], Encoder]) -> None:
    encoder, x = make(), samples(4)
    if encoder.format is None:
        assert len(encoder(x).unique()) > 2
    else:
        allowed = set(map(float, range(encoder.format.low, encoder.format.high + 1)))
        assert set(encoder(x).unique().tolist()) == allowed


@pytest.mark.parametrize("make", [Repeat, Poisson, Latency])
@pytest.mark.parametrize("T", [0, -1, 10_001])
def test_bad_steps(make: Callable[[int], Encoder], T: int, refuses: Any) -> None:
    with refuses(make.__name__, "T must lie in [1, 10000]", f"got {T}"):
        make(T)


@pytest.mark.parametrize("encoder", [Repeat(2), Poisson(2), Latency(2)], ids=lambda e: type(e).__name__)
def test_bad_samples(encoder: Encoder, refuses: Any) -> None:
    name = type(encoder).__name__
    with refuses(name, "floating-point", "torch.uint8", kind=TypeError):
        encoder(torch.zeros(2, 3, dtype=torch.uint8))
    with refuses(name, "[B, ...]", "got [3]"):
        encoder(torch.zeros(3))


@pytest.mark.parametrize("jitter", [-0.1, 2.5, float("nan")])
def test_bad_jitter(jitter: float, refuses: Any) -> None:
    with refuses("Latency", "jitter"):
        Latency(2, jitter)
