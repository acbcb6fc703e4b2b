"""Ternary neuron against the backward recursion of its paper, written out by hand in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bitspike.functional import charge, fire, reset_hard
from bitspike.neurons import Ternary

TAU, THRESHOLD = 0.25, 0.5
T, B, C = 5, 4, 3


def forward(x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Membranes u and normalised spikes b of every step."""
    us, bs, v = [], [], torch.zeros_like(x[0])
    for current in x:
        u = TAU * v + current
        b = (u >= THRESHOLD).double() - (u <= -THRESHOLD).double()
        v = u * (1 - b.abs())
        us.append(u)
        bs.append(b)
    return us, bs


def backward(us: list[Tensor], bs: list[Tensor], by_o: Tensor, a: Tensor, detach: bool) -> tuple[Tensor, Tensor]:
    """(dL/dI of every step, dL/do·b summed over all but the channel), as the released code has it.

    delta_v^t = tau·delta_u^{t+1}; delta_b^t = a·delta_o^t − u^t·sign(b^t)·delta_v^t;
    delta_u^t = h(u^t)·delta_b^t + (1 − |b^t|)·delta_v^t; h = 1 on [−1, 1].
    """
    by_x, by_v = torch.zeros_like(by_o), torch.zeros_like(by_o[0])
    for t in reversed(range(T)):
        u, b = us[t], bs[t]
        by_b = a * by_o[t] - (0 if detach else u * b.sign() * by_v)
        window = ((u >= -1) & (u <= 1)).double()
        by_x[t] = window * by_b + (1 - b.abs()) * by_v
        by_v = TAU * by_x[t]
    return by_x, (torch.stack(bs) * by_o).sum((0, 1))


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("sharing", ["layer", "channel"])
def test_autograd_is_the_recursion_of_the_paper(sharing: str, detach: bool) -> None:
    neuron = Ternary(
        THRESHOLD, TAU, detach_reset=detach, amplitude=1.37, train_amplitude=sharing, raw_amplitude=True
    ).replicate(C)
    neuron.double()
    raw = neuron.emission.raw_amplitude
    assert raw is not None
    raw.data = torch.tensor([1.37, -0.6, 2.2], dtype=torch.float64)[: raw.numel()].reshape(raw.shape)
    x = (torch.randn(T, B, C, dtype=torch.float64) * 0.8).requires_grad_()
    by_o = torch.randn(T, B, C, dtype=torch.float64)
    o = neuron(x)
    o.backward(by_o)
    us, bs = forward(x.detach())
    by_x, by_a = backward(us, bs, by_o, raw.detach(), detach)
    assert torch.equal(o.detach(), raw.detach() * torch.stack(bs))
    assert {-1.0, 0.0, 1.0} == set(torch.stack(bs).unique().tolist())
    assert x.grad is not None and raw.grad is not None
    assert (x.grad - by_x).abs().max() <= 1e-12
    assert (raw.grad - (by_a.sum() if sharing == "layer" else by_a)).abs().max() <= 1e-12


def test_the_positive_amplitude_is_the_exponential() -> None:
    """a = exp(r): dL/dr = a·g_a."""
    x = torch.randn(T, B, C, dtype=torch.float64)
    by_o = torch.randn(T, B, C, dtype=torch.float64)
    found = {}
    for raw in (False, True):
        neuron = Ternary(amplitude=1.5, train_amplitude="layer", raw_amplitude=raw).double()
        neuron(x).backward(by_o)
        assert neuron.emission.raw_amplitude is not None and neuron.emission.raw_amplitude.grad is not None
        found[raw] = neuron.emission.raw_amplitude.grad
    torch.testing.assert_close(found[False], 1.5 * found[True], rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("u", "slope", "detached"),
    [
        (0.3, 1.0, 1.0),  # silent
        (0.49, 1.0, 1.0),
        (0.5, -0.5, 0.0),  # the tie fires
        (0.8, -0.8, 0.0),
        (1.0, -1.0, 0.0),
        (1.5, 0.0, 0.0),  # outside the window
        (-0.3, 1.0, 1.0),
        (-0.8, -0.8, 0.0),
        (-1.5, 0.0, 0.0),
        (0.0, 1.0, 1.0),
    ],
)
def test_slope_of_the_reset(u: float, slope: float, detached: float) -> None:
    """dv/du by case: 1 where silent, −|u| where it fires in the window, 0 beyond; cut: 1 or 0."""
    for detach, wanted in ((False, slope), (True, detached)):
        neuron, x = Ternary(detach_reset=detach), torch.tensor([[u]], dtype=torch.float64, requires_grad=True)
        _, state = neuron.step(x, neuron.initial_state(x))
        state.v.sum().backward()
        assert x.grad is not None and x.grad.item() == pytest.approx(wanted, abs=1e-15)


def test_the_reset_follows_the_normalised_spike() -> None:
    """The amplitude multiplies what is sent and nothing else: the membranes of all amplitudes are the same bits."""
    x = torch.randn(6, 3, 4) * 0.8
    for reset in ("hard", "soft"):
        plain, state = Ternary(reset=reset).run(x)
        scaled, other = Ternary(reset=reset, amplitude=3.0).run(x)
        assert torch.equal(state.v, other.v) and torch.equal(scaled, 3 * plain)


def test_parts_are_those_of_the_formula() -> None:
    """The class adds nothing to charge, fire, reset of the functional layer."""
    neuron, x = Ternary(), torch.randn(4, 7) * 0.8
    u = charge(torch.zeros_like(x), x, 0.25)
    k = fire(u, neuron.stairs, neuron.surrogate)
    s, state = neuron.step(x, neuron.initial_state(x))
    assert torch.equal(s, k) and torch.equal(state.v, reset_hard(u, k.abs()))
