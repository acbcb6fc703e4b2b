"""Sensitivity of an allocation: by hand for weights, against the neuron itself for steps; less for every bit more."""

from __future__ import annotations

import itertools

import pytest
import torch

from bitspike.allocation.config import AllocationConfig
from bitspike.allocation.forecast import Forecast
from bitspike.allocation.sensitivity import Sensitivity
from bitspike.allocation.widths import Allocation
from bitspike.layers import Refined
from bitspike.models import mlp, study_cnn
from bitspike.neurons import LIF, Adaptive
from bitspike.quantizers import LearnedBits


def test_one_layer_of_weights_by_hand() -> None:
    """Weights on the grid of 3 bits do no harm at 3 bits; at one bit ±α leaves half of the range."""
    net = mlp(LIF(), LearnedBits(3), T=1, shape=(1, 2, 2), hidden=(4, 2)).eval()
    allocation = Allocation(net, AllocationConfig())
    (synapse, _) = next(iter(allocation.weights.values()))
    synapse.weight.data = torch.tensor([[-3.0, -1.0, 1.0, 3.0], [3.0, 1.0, -1.0, -3.0]])
    x = torch.randn(4, 1, 2, 2)
    harm = Sensitivity(Forecast(allocation, x), x)
    assert harm((3,)) == pytest.approx(0.0, abs=1e-4)
    assert harm((1,)) == pytest.approx(1 / 5, abs=0.02)  # ±α with α near 2: (1 + 1)/(9 + 1)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_refined_neuron_is_a_quantizer_with_more_levels(bits: int, steps: int) -> None:
    """``mean_t s_t = round(T·x/γ)·γ/T``, clipped at γ·Q: exactly what `Sensitivity` takes for it."""
    neuron = Refined(Adaptive(bits, threshold=0.5), T=steps)
    x = torch.rand(1, 1, 4000, dtype=torch.float64) * 0.5 * (2**bits - 1)
    steps_taken = (steps * x / 0.5 + 0.5).floor().clamp(max=steps * (2**bits - 1)) * 0.5 / steps
    same = (neuron(x) - steps_taken).abs() < 1e-9
    assert same.double().mean() > 0.999


def test_every_bit_and_step_more_does_less_harm() -> None:
    net = study_cnn(Refined(Adaptive(3), T=2, learn_T=True), LearnedBits(4), T=1, shape=(1, 8, 8), width=4).eval()
    x = torch.randn(8, 1, 8, 8)
    forecast = Forecast(Allocation(net, AllocationConfig()), x)
    harm = Sensitivity(forecast, x)
    low = tuple(lever.low for lever in forecast.levers)
    for place, lever in enumerate(forecast.levers):
        errors = [harm((*low[:place], value, *low[place + 1 :])) for value in range(lever.low, lever.high + 1)]
        assert all(a >= b - 1e-3 for a, b in itertools.pairwise(errors)), lever
        assert errors[0] > errors[-1] or errors[0] == 0, lever
