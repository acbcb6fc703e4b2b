"""Real-valued spikes: truth table, conservation, homogeneity, and both gradients by hand (ReverB)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bitspike.neurons import Real

T, B, C = 5, 4, 3
TAU, THRESHOLD = 0.25, 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [0.5, 1.0, 0.3])
def test_truth_table(threshold: float, dtype: torch.dtype) -> None:
    at = torch.tensor(threshold, dtype=dtype)
    below, above = torch.nextafter(at, at * 0), torch.nextafter(at, at * 2)
    u = torch.stack([below, at, above, -at, -above, at * 100]).reshape(1, -1)
    s, state = Real(threshold).step(u, Real(threshold).initial_state(u))
    nothing = torch.zeros((), dtype=dtype)
    assert torch.equal(s[0], torch.stack([nothing, at, above, nothing, nothing, at * 100]))
    assert torch.equal(state.v[0], torch.stack([below, nothing, nothing, -at, -above, nothing]))


@pytest.mark.parametrize("gradient", ["mask", "surrogate"])
def test_nothing_is_lost(gradient: str) -> None:
    """O + V = U, bit for bit, at every step."""
    neuron, x = Real(gradient=gradient), torch.randn(50, 8, 16)
    state = neuron.initial_state(x[0])
    for current in x:
        u = neuron.membrane.charge(state.v, current)
        s, state = neuron.step(current, state)
        assert torch.equal(s + state.v, u)
        assert ((s == 0) | (s >= THRESHOLD)).all()


def recursion(x: Tensor, by_o: Tensor, window: float | None) -> tuple[Tensor, Tensor]:
    """(O, dL/dI) ; window None is option A, a width is option B."""
    us, v = [], torch.zeros_like(x[0])
    for current in x:
        us.append(TAU * v + current)
        v = us[-1] * (us[-1] < THRESHOLD)
    by_x, by_v = torch.zeros_like(x), torch.zeros_like(x[0])
    for t in reversed(range(len(x))):
        u = us[t]
        m = (u >= THRESHOLD).double()
        by_x[t] = m * by_o[t] + (1 - m) * by_v
        if window is not None:
            h = ((u - THRESHOLD).abs() <= window / 2).double() / window
            by_x[t] += u * h * (by_o[t] - by_v)
        by_v = TAU * by_x[t]
    return torch.stack([u * (u >= THRESHOLD) for u in us]), by_x


@pytest.mark.parametrize(
    ("options", "window"),
    [
        ({}, None),
        ({"gradient": "mask", "surrogate": "atan"}, None),  # option A does not read the surrogate
        ({"gradient": "surrogate"}, 1.0),
        ({"gradient": "surrogate", "surrogate": "rectangle:0.5"}, 0.5),
    ],
)
def test_both_gradients_by_hand(options: dict[str, str], window: float | None) -> None:
    x = torch.randn(T, B, C, dtype=torch.float64, requires_grad=True)
    by_o = torch.randn(T, B, C, dtype=torch.float64)
    o = Real(**options)(x)
    o.backward(by_o)
    wanted, by_x = recursion(x.detach(), by_o, window)
    assert torch.equal(o.detach(), wanted)
    assert x.grad is not None and (x.grad - by_x).abs().max() <= 1e-12


@pytest.mark.parametrize("options", [{}, {"gradient": "surrogate"}])
def test_the_two_paths_sum_to_one(options: dict[str, str]) -> None:
    """dO/dU + dV/dU = 1 in both options."""
    neuron, x = Real(**options), torch.randn(1, 200, dtype=torch.float64, requires_grad=True)
    s, state = neuron.step(x, neuron.initial_state(x))
    by_s, by_v = (torch.autograd.grad(part.sum(), x, retain_graph=True)[0] for part in (s, state.v))
    assert (by_s + by_v - 1).abs().max() <= 1e-12


def test_a_power_of_two_moves_through_the_threshold_exactly() -> None:
    """Fed c·x with threshold c·θ it emits c·s at the same times; exact for c = 2^k."""
    x = torch.randn(20, 6, 4)
    c = torch.tensor([0.25, 1.0, 2.0, 8.0])
    assert torch.equal(Real().rescaled(c)(c * x), c * Real()(x))
    assert torch.equal(Real().rescaled(c).rescaled(1 / c)(x), Real()(x))


def test_rescaling_reaches_space() -> None:
    x, c = torch.randn(5, 2, 3, 4, 4), torch.tensor([0.5, 2.0, 4.0])
    wide = c.reshape(-1, 1, 1)
    assert torch.equal(Real().rescaled(c)(wide * x), wide * Real()(x))
