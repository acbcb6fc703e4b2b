"""Learned bits in attention layers: alphabets of products follow those of their factors in every forecast."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attention_nets import token_net, tokens
from bitspike.allocation.config import AllocationConfig
from bitspike.allocation.forecast import Forecast, exact, generic
from bitspike.allocation.lagrangian import Lagrangian
from bitspike.allocation.widths import Allocation
from bitspike.cost import activations, cost
from bitspike.fold import fold
from bitspike.layers import ATTENTION, Conv2d, MeanReadout, Product, Repeat
from bitspike.neurons import Adaptive
from bitspike.quantizers import LearnedBits

NAMES = ["bit-budget", "s-ace", "size", "activations"]


class Gates(nn.Module):
    """Two trains side by side, by a gate of places, and the square of that."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.encoder, self.readout, self.product = Repeat(2), MeanReadout(), Product()
        self.convs = nn.ModuleList(Conv2d(2, n, 1, weight=LearnedBits(4)) for n in (2, 3, 1))
        self.neurons = nn.ModuleList(Adaptive(bits, bound=bits + 1, steps=steps) for bits in (1, 3, 2))
        self.last = Conv2d(10, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b, gate = (neuron(conv(self.encoder(x))) for conv, neuron in zip(self.convs, self.neurons, strict=True))
        y = self.product(torch.cat([a, b], 2), gate)
        return self.readout(self.last(torch.cat([y, self.product(y, y)], 2)))  # type: ignore[no-any-return]


def forecast_of(name: str, steps: int, x: torch.Tensor) -> tuple[Forecast, Any]:
    torch.manual_seed(0)
    made = Gates(steps) if name == "gates" else token_net(name, Adaptive(3, steps=steps), LearnedBits(4), T=2)
    net = generic(made.float().eval())
    return Forecast(Allocation(net, AllocationConfig()), x), net


def inputs(name: str) -> Tensor:
    return torch.rand(2, 2, 4, 4) if name == "gates" else tokens(2).float()


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("name", [*ATTENTION, "gates"])
def test_a_forecast_is_what_cost_counts(name: str, steps: int) -> None:
    x = inputs(name)
    forecast, net = forecast_of(name, steps, x)
    draw = random.Random(1)
    for _ in range(3):
        state = tuple(draw.randint(lever.low, lever.high) for lever in forecast.levers)
        with torch.no_grad():
            for lever, value in zip(forecast.levers, state, strict=True):
                part: Any = forecast.part(lever)
                part.raw_bits.reshape(-1)[lever.row] = value
                part.refresh()
        assert forecast.state == state
        graph = fold(copy.deepcopy(net), x).graph
        counted, memory = cost(graph, x), activations(graph, x)
        for kind, values in forecast.values(NAMES, state).items():
            assert max(values) == pytest.approx(exact(kind, counted, memory, "all"), rel=1e-12), kind


@pytest.mark.parametrize("name", [*ATTENTION, "gates"])
def test_the_lagrangian_follows_the_exact_cost(name: str) -> None:
    forecast, _ = forecast_of(name, 1, inputs(name))
    soft = Lagrangian(forecast, dict.fromkeys(NAMES, 1.0), 1.0, 0.1).soft()
    for kind, values in forecast.values(NAMES, forecast.state).items():
        assert float(soft[kind].detach()) == pytest.approx(max(values), rel=1e-6), kind
