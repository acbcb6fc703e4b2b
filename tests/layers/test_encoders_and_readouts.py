"""Encoders: rates, first-spike times, rounding, noise; conformance stands apart, read-outs are in test_maps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bitspike.layers import ENCODERS, Encoder, Latency, Poisson, Repeat, set_noise
from bitspike.layers.encoders.noise import content_seeds, uniform_noise

SHAPE = (3, 5, 4)


def samples(count: int = 64) -> Tensor:
    return torch.rand(count, *SHAPE)


@pytest.mark.parametrize("x", [0.1, 0.5, 0.83])
def test_poisson_rate(x: float) -> None:
    """20,000 draws: the mean is within five standard deviations of x."""
    rate = Poisson(100)(torch.full((1, 200), x)).mean().item()
    assert abs(rate - x) < 5 * math.sqrt(x * (1 - x) / 20_000)


def test_poisson_draws_are_independent_of_place_time_and_sample() -> None:
    """Equal intensities, different samples: spike trains are uncorrelated over samples, steps and places."""
    x = torch.full((40, 50), 0.5)
    x[:, 0] = torch.linspace(0.1, 0.9, 40)  # the samples differ in one value only
    s = 2 * Poisson(40).eval()(x)[..., 1:] - 1
    for moved in (s.roll(1, 0), s.roll(1, 1), s.roll(1, 2)):
        assert abs((s * moved).mean().item()) < 5 / math.sqrt(s.numel())
    assert not torch.equal(Poisson(40, seed=1).eval()(x), Poisson(40, seed=2).eval()(x))


def test_poisson_never_and_always() -> None:
    assert Poisson(200)(torch.tensor([[0.0, 1.0]])).mean((0, 1)).tolist() == [0.0, 1.0]


def test_given_seeds_replace_the_content() -> None:
    x = torch.full((2, 300), 0.5)
    encoder = Poisson(4).eval()
    assert torch.equal(encoder(x)[:, 0], encoder(x)[:, 1])  # equal content, equal noise
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
    assert not torch.equal(Latency(9, 2.0, seed=1).eval()(x), Latency(9, 2.0, seed=2).eval()(x))


def test_repeat_is_a_view() -> None:
    x = samples(2)
    y = Repeat(4)(x)
    assert y.data_ptr() == x.data_ptr() and all(torch.equal(step, x) for step in y)


@pytest.mark.parametrize("make", [entry for _, entry in ENCODERS.items()])
@pytest.mark.parametrize("T", [0, -1, 10_001])
def test_bad_steps(make: Callable[[int], Encoder], T: int, refuses: Any) -> None:
    with refuses(make.__name__, "T must lie in [1, 10000]", f"got {T}"):
        make(T)


@pytest.mark.parametrize("jitter", [-0.1, 2.5, float("nan")])
def test_bad_jitter(jitter: float, refuses: Any) -> None:
    with refuses("Latency", "jitter"):
        Latency(2, jitter)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_bad_threshold(threshold: float, refuses: Any) -> None:
    with refuses("Latency", "threshold must lie in [0, 1]"):
        Latency(2, threshold=threshold)


def test_below_the_threshold_nothing_spikes() -> None:
    """The threshold itself still does; the times of the others stay what they were."""
    x = torch.arange(65).reshape(1, 65) / 64
    plain, cut = Latency(5)(x), Latency(5, threshold=0.25)(x)
    assert torch.equal(cut[..., 16:], plain[..., 16:]) and not cut[..., :16].any() and plain[..., 1:16].any()
    assert torch.equal(Latency(5, threshold=0.0)(x), plain)


@pytest.mark.parametrize("make", [Poisson, lambda T, **kw: Latency(T, jitter=2.0, **kw)], ids=["poisson", "latency"])
class TestNoise:
    """Fresh in training, the same for a key whatever the batch, fixed in evaluation or where it is asked for."""

    def test_training_draws_anew_from_torchs_generator(self, make: Callable[..., Encoder]) -> None:
        x, encoder = samples(), make(4)
        torch.manual_seed(5)
        first, second = encoder(x), encoder(x)
        assert not torch.equal(first, second)
        torch.manual_seed(5)
        assert torch.equal(encoder(x), first)

    @given(st.integers(1, 64), st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=3))
    def test_a_key_decides_in_any_batch(self, make: Callable[..., Encoder], size: int, key: list[int]) -> None:
        x, encoder, state = torch.linspace(0, 1, 64 * 6).reshape(64, 6), make(4), torch.get_rng_state()
        set_noise(encoder, *key)
        whole = encoder(x)
        assert torch.equal(torch.cat([encoder(part) for part in x.split(size)], 1), whole)
        set_noise(encoder, *key, 1)
        assert not torch.equal(encoder(x), whole)
        assert torch.equal(torch.get_rng_state(), state)

    def test_epochs_differ_without_bias(self, make: Callable[..., Encoder]) -> None:
        """Over many keys a sample's spikes at every step average to those over many samples of its content."""
        encoder, x, sums = make(3), torch.full((1, 40), 0.5), torch.zeros(3)
        for epoch in range(100):
            set_noise(encoder, 7, epoch)
            sums += encoder(x).mean((1, 2)) / 100
        wide = encoder(torch.full((1, 40_000), 0.5)).mean((1, 2))
        assert (sums - wide).abs().max() < 5 * 0.5 / math.sqrt(4000)

    def test_fixed_noise_is_that_of_evaluation(self, make: Callable[..., Encoder]) -> None:
        x, encoder = samples(), make(4, noise="fixed")
        set_noise(encoder, 1, 2)
        assert torch.equal(encoder(x), make(4).eval()(x))

    def test_without_a_key_it_is_free_again(self, make: Callable[..., Encoder]) -> None:
        x, encoder = samples(), make(4)
        set_noise(encoder, 1)
        kept = encoder(x)
        set_noise(encoder)
        assert not torch.equal(encoder(x), kept) and not torch.equal(encoder(x), encoder(x))
        assert not encoder.state_dict()

    def test_wrong_words_are_refused(self, make: Callable[..., Encoder], refuses: Any) -> None:
        where = type(make(4)).__name__
        with refuses(where, "noise must be one of 'fresh', 'fixed'", "did you mean 'fixed'"):
            make(4, noise="fixd")
        with refuses("set_noise", "a part of the key must lie in"):
            set_noise(make(4), -1)
        with refuses(where, "seeds must be [3]", "got [2]"):
            make(4)(torch.zeros(3, 2), torch.tensor([1, 2]))
        with refuses(where, "seeds must be int64", kind=TypeError):
            make(4)(torch.zeros(2, 2), torch.tensor([1.0, 2.0]))


def test_a_network_of_ones_own_learns_from_fresh_noise() -> None:
    """In a plain loop too, compiled or not: no sample shows the same spikes twice."""
    net = torch.nn.Sequential(Poisson(4), torch.nn.Flatten(2))
    x = torch.rand(2, 50)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    for run in (net, compiled):
        assert not torch.equal(run(x), run(x))
    for epoch in range(3):
        set_noise(net, 0, epoch)
        assert torch.equal(compiled(x), net(x))
    torch.compiler.reset()


@pytest.mark.parametrize("value", [-1e-6, 1 + 1e-6, float("nan"), float("inf")])
@pytest.mark.parametrize("name", [name for name, entry in ENCODERS.items() if entry.intensities])
def test_what_is_no_intensity_is_refused(name: str, value: float, refuses: Any) -> None:
    x = torch.rand(3, 4)
    x[1, 2] = value
    with refuses(ENCODERS[name].__name__, "must be intensities in [0, 1]", "without normalising"):
        ENCODERS[name](3)(x)  # type: ignore[call-arg]
