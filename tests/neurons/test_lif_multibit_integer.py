"""LIF is MultiBit(1, 0); fixed-point alphabets and windows; integers and their unary code."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bitspike.functional import unary_expand
from bitspike.neurons import LIF, Integer, MultiBit, Neuron
from bitspike.sealed import amend
from neurons.cases import AMPLITUDE, DECAY, SURROGATE

RESETS = list(itertools.product(("hard", "soft"), (False, True)))


def outcome(neuron: Neuron, x: Tensor) -> list[Tensor]:
    """Spikes, final state, and the gradients of input and parameters."""
    x = x.clone().requires_grad_()
    neuron = neuron.replicate(x.shape[2])
    s, state = neuron.run(x)
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
    gradients = torch.autograd.grad((s * weight).sum() + (state.v * weight[0]).sum(), [x, *neuron.parameters()])
    return [s.detach(), state.v.detach(), *gradients]


@pytest.mark.parametrize(("reset", "detach"), RESETS)
@pytest.mark.parametrize("amplitude", AMPLITUDE, ids=str)
def test_multibit_1_0_is_lif(reset: str, detach: bool, amplitude: dict[str, Any]) -> None:
    """Outputs, states and all gradients, bit for bit, at the same options."""
    x = torch.randn(4, 4, 5) * 1.5
    for decay, surrogate in itertools.product(DECAY, SURROGATE):
        options = {"reset": reset, "detach_reset": detach, "threshold": 0.7, **amplitude, **decay, **surrogate}
        for one, other in zip(outcome(LIF(**options), x), outcome(MultiBit(1, 0, **options), x), strict=True):
            assert torch.equal(one, other), options


@pytest.mark.parametrize(("m", "n"), [(1, 0), (0, 1), (1, 1), (2, 0), (1, 2), (2, 2), (0, 8), (8, 0)])
def test_the_alphabet_of_multibit(m: int, n: int) -> None:
    """2^-n·{0 .. 2^(m+n) − 1}; the greatest value is 2^m − 2^-n."""
    neuron = MultiBit(m, n)
    values = (torch.arange(-4, 2 ** (m + n) + 5) / 2**n).reshape(1, 1, -1)
    found = neuron(values).unique()
    assert found.tolist() == [k / 2**n for k in range(2 ** (m + n))]
    assert found.max() == 2**m - 2.0**-n
    assert neuron.format.bits == m + n


@pytest.mark.parametrize("threshold", [1.0, 0.5])
@pytest.mark.parametrize("neuron", [MultiBit, Integer])
def test_windows(neuron: type[Neuron], threshold: float) -> None:
    """Multi-bit: [Δ/2, (M+½)Δ], ds/du = 1/threshold. Integer: [0, D·threshold], edges included."""
    if neuron is MultiBit:
        made, delta = MultiBit(1, 1, threshold=threshold), threshold / 2
        low, high = delta / 2, 3.5 * delta
    else:
        made, low, high = Integer(3, threshold=threshold), 0.0, 3 * threshold
    edges = [low - 1e-9, low, (low + high) / 2, high, high + 1e-9]
    x = torch.tensor(edges, dtype=torch.float64).reshape(1, 1, -1).requires_grad_()
    made(x).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0, 1 / threshold, 1 / threshold, 1 / threshold, 0]


@given(st.integers(1, 12), st.lists(st.integers(-64, 64 * 14), min_size=1, max_size=40))
def test_integer_levels_are_rounded_and_clipped(D: int, values: list[int]) -> None:
    """Exact integers in 1/64: round half up of clip(u, 0, D); the unary code of D sub-steps sums back to it."""
    s = Integer(D)(torch.tensor(values).reshape(1, 1, -1) / 64)
    clipped = [min(max(v, 0), 64 * D) for v in values]
    assert s.flatten().tolist() == [(2 * v + 64) // 128 for v in clipped]
    train = unary_expand(s, D)
    assert torch.equal(train.sum(0), s) and train.max() <= 1


def test_unary_sub_steps_make_the_same_current() -> None:
    """D binary sub-steps through a linear map sum to the map of the integer: exact on integer weights."""
    s, w = Integer(4)(torch.rand(3, 5, 8) * 5), torch.randint(-7, 8, (6, 8)).float()
    assert torch.equal(torch.stack([part @ w.T for part in unary_expand(s, 4)]).sum(0), s @ w.T)


@pytest.mark.parametrize("decay", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("neuron", [MultiBit(1, 2), MultiBit(2, 0), Integer(5), LIF(reset="soft")], ids=str)
def test_soft_reset_conserves_charge_over_a_run(neuron: Neuron, decay: float) -> None:
    """What came in, decayed, less what was sent is what the membrane holds: exact on a dyadic grid."""
    amend(neuron.membrane, fixed_decay=decay)
    x = torch.randint(-16, 33, (8, 4, 6)).double() / 16
    s, state = neuron.run(x)
    charge = neuron.stairs.spacing * neuron.normalised()(x)
    kept = torch.zeros_like(x[0])
    for current, sent in zip(x, charge, strict=True):
        kept = decay * kept + current - sent
    assert torch.equal(kept, state.v)
    assert (s > 0).double().mean() > 0.1
