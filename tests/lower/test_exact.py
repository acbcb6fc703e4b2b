"""On a dyadic grid a program sends what its folded network sends in float64: every spike, every logit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bitspike.fold import fold
from bitspike.layers import BatchNorm
from bitspike.lower import CompileReport
from bitspike.testing import check_program
from networks import NETS, WEIGHTS, dyadic, liven, make_neuron, samples

WIDE = {"input_bits": 16, "weight_bits": 16, "spike_bits": 16}


def on_grid(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Livened on a grid; the tiny γ is 2^-6, since currents of 2^-20 steps need more than 32 bits to be exact."""
    liven(model, x, grid=16)
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.weight.data[1] = 2.0**-6
    return model


def folded_on_grid(net: str, neuron: Any, weight: str, T: int) -> tuple[Any, torch.Tensor]:
    x = dyadic(samples(12))
    model = NETS[net](neuron, WEIGHTS[weight](), T=T)
    return fold(on_grid(model, x), x), x


@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize(
    "weight", ["float", "sign-layer", "sign-output", "ternary-none", "ternary-output", "uniform4-layer"]
)
@pytest.mark.parametrize("neuron", ["lif", "ternary", "multibit"])
@pytest.mark.parametrize("net", sorted(NETS))
def test_program_equals_folded_network(net: str, neuron: str, weight: str, T: int) -> None:
    folded, x = folded_on_grid(net, make_neuron(neuron, amplitude=2.0, decay=0.5), weight, T)
    program, found = check_program(folded, x, **WIDE)
    for name, layer in found.layers.items():
        assert 0.02 < layer.fired / layer.spikes < 0.98, name
    report = CompileReport.of(program)
    assert report.agreement == 1 and report.max_logit_difference == 0 and report.input_error == 0
    assert all(layer.safe and layer.rounding == 0 for layer in report.layers)


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("neuron", ["lif", "ternary", "multibit"])
def test_resets_and_decays(neuron: str, reset: str) -> None:
    for decay in (1.0, 0.25):
        made = make_neuron(neuron, amplitude=2.0, decay=decay, reset=reset)
        check_program(*folded_on_grid("study_cnn", made, "uniform4-layer", 4), **WIDE)
