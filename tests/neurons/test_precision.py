"""Low precision and autocast: dtypes kept, membranes in float32 under autocast, the same spikes in float64."""

from __future__ import annotations

import pytest
import torch

from bitspike.layers import Linear
from bitspike.neurons import NEURONS


@pytest.mark.parametrize("name", list(NEURONS))
def test_autocast_keeps_membranes_in_single_precision(name: str) -> None:
    """A bfloat16 current from a linear layer is charged in float32: decay·v keeps 24 bits."""
    neuron, layer, x = NEURONS[name](), Linear(4, 3), torch.randn(5, 2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        current = layer(x)
        s, state = neuron.run(current)
    assert current.dtype == torch.bfloat16
    assert s.dtype == torch.bfloat16 and state.v.dtype == torch.float32
    wanted, last = neuron.run(current.float())
    assert torch.equal(s, wanted.bfloat16()) and torch.equal(state.v, last.v)


@pytest.mark.parametrize("name", list(NEURONS))
def test_without_autocast_a_current_keeps_its_dtype(name: str) -> None:
    s, state = NEURONS[name]().run(torch.randn(2, 2, 4, dtype=torch.bfloat16))
    assert s.dtype == state.v.dtype == torch.bfloat16


@pytest.mark.parametrize("name", list(NEURONS))
def test_precisions_agree_on_the_dyadic_grid(name: str) -> None:
    """With power-of-two constants nothing is rounded over three steps: float32 and float64 are the same numbers."""
    neuron = NEURONS[name](decay=0.25)
    x = torch.randint(-24, 33, (3, 8, 16)).float() / 16
    single, double = neuron.run(x), neuron.run(x.double())
    assert torch.equal(single[0].double(), double[0]) and torch.equal(single[1].v.double(), double[1].v)
    assert 0.02 < (single[0] != 0).float().mean() < 0.98
