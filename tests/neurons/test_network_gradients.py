"""Autograd equals the finite differences of the relaxed network, through linear → norm → neuron → linear in time."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from bitspike.layers import BatchNorm, Linear
from bitspike.neurons import LIF, NEURONS, MultiBit, Neuron, Ternary
from bitspike.quantizers import QUANTIZERS, Quantizer, Uniform
from bitspike.sealed import amend
from bitspike.testing import finite_differences
from neurons.cases import Options, cases, label
from quantizers.cases import Case, build
from quantizers.cases import cases as weight_cases
from quantizers.cases import label as weight_label

T, B, INPUTS, HIDDEN, OUTPUTS = 3, 3, 3, 5, 2
TOLERANCE = 1e-6  # of 1 + |gradient|


def relaxed_lsq(quantizer: Uniform, w: Tensor) -> Tensor:
    """LSQ without its gradient scale in plain operations: rounding residual frozen, clipping real."""
    assert quantizer.step is not None
    levels = quantizer.to_int(w)[0].detach()
    ratio = (w / quantizer.step).clamp(-quantizer.q, quantizer.q)
    return (levels + (ratio - ratio.detach())) * quantizer.step


FORWARDS = {Uniform: relaxed_lsq}


def network(neuron: Neuron, weight: Quantizer | None = None) -> nn.Sequential:
    """In training mode: the norm uses the statistics of time and batch together; its scale and shift are random."""
    if hasattr(neuron, "scale_gradient"):
        neuron.scale_gradient = False  # tested apart
    norm = BatchNorm(HIDDEN)
    nn.init.normal_(norm.weight, 1.0, 0.3)
    nn.init.normal_(norm.bias, 0.4, 0.3)
    layers = (Linear(INPUTS, HIDDEN, bias=False, weight=weight), norm, neuron.replicate(HIDDEN))
    return nn.Sequential(*layers, Linear(HIDDEN, OUTPUTS, weight=weight)).double()


def compare(model: nn.Sequential) -> Mapping[str, Tensor]:
    """Gradients by autograd, compared with differences for the input and every parameter; fails where they differ."""
    x = torch.randn(T, B, INPUTS, dtype=torch.float64, requires_grad=True)
    target = torch.randn(T, B, OUTPUTS, dtype=torch.float64)
    named = {"x": x, **dict(model.named_parameters())}

    def loss() -> Tensor:
        return (model(x) - target).square().mean()

    rate = (model[:3](x) != 0).double().mean()
    assert 0.02 <= rate <= 0.98, f"{rate:.1%} spikes"
    found = dict(zip(named, torch.autograd.grad(loss(), list(named.values())), strict=True))
    wanted = finite_differences(loss, named.values(), model, forwards=FORWARDS)
    for (name, one), other in zip(found.items(), wanted, strict=True):
        gap = ((one - other).abs() / (1 + other.abs())).max()
        assert gap <= TOLERANCE, f"{name}: autograd {one.tolist()}, differences {other.tolist()}"
    return found


@pytest.mark.parametrize("case", cases(1), ids=label)
def test_every_neuron(case: tuple[str, Options]) -> None:
    gradients = compare(network(NEURONS[case[0]](**case[1])))
    assert gradients["0.weight"].abs().max() > 0
    for name in gradients:
        if "raw_amplitude" in name:
            assert gradients[name].abs().max() > 0, "an amplitude in front of a linear map must matter"


@pytest.mark.slow
@pytest.mark.parametrize("case", cases(2), ids=label)
def test_every_pair_of_options(case: tuple[str, Options]) -> None:
    compare(network(NEURONS[case[0]](**case[1])))


@pytest.mark.parametrize("case", weight_cases(), ids=weight_label)
def test_every_quantizer(case: Case) -> None:
    scaled = "scale_gradient" in inspect.signature(QUANTIZERS[case[0]]).parameters
    options = case[1] | ({"scale_gradient": False} if scaled else {})
    neuron = Ternary(train_amplitude="channel", amplitude=1.5, surrogate="atan", reset="soft", learn_decay=True)
    gradients = compare(network(neuron, build(case[0], options)))
    factors = [name for name in gradients if name.startswith("3.quantizer") and "bits" not in name]
    assert len(factors) == (0 if case[0] == "float" or options.get("factor") == "none" else 1)
    assert all(gradients[name].abs().max() > 0 for name in factors)
    assert gradients["2.membrane.raw_decay"].abs() > 0


@pytest.mark.parametrize("neuron", [LIF(learn_decay=True), MultiBit(1, 1, learn_decay=True, reset="hard")])
def test_the_undetached_reset_is_part_of_the_gradient(neuron: Neuron) -> None:
    """Cutting the reset changes the gradient that the differences confirm: the two modes are told apart."""
    found = {}
    for detach in (False, True):
        torch.manual_seed(1)
        amend(neuron.membrane, detach_reset=detach)
        found[detach] = compare(network(neuron))["x"]
    assert (found[False] - found[True]).abs().max() > 1e-3
