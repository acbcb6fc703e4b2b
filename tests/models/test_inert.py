"""Factors that batch norm cancels: measured, listed, and warned about once."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from bitspike import trace
from bitspike.layers import AvgPool2d, BatchNorm, Conv2d, Flatten, GlobalAvgPool, Linear, MaxPool2d, Repeat
from bitspike.models import Policy, inert_parameters, mlp, study_cnn
from bitspike.models.network import warn_inert
from bitspike.neurons import LIF, Ternary
from bitspike.quantizers import Sign, TernaryWeight, Uniform
from networks import rng, small_cnn

AMPLITUDE = "emission.raw_amplitude"
FACTOR = "quantizer.factor.raw_factor"
HIDDEN = ["3.conv1", "3.conv2", "4.conv1", "4.conv2", "4.shortcut.1"]
SHAPE = {"shape": (2, 8, 8), "classes": 5, "width": 6, "stem_stride": 1}


def gradients(model: nn.Module) -> dict[str, float]:
    """Norm of the gradient of every parameter of a training-mode network, float64."""
    x = torch.randn(32, 2, 8, 8, generator=rng(3), dtype=torch.float64)
    labels = torch.randint(0, 5, (32,), generator=rng(4))
    model.double().train()
    torch.nn.functional.cross_entropy(model(x), labels).backward()
    return {name: float(p.grad.norm()) for name, p in model.named_parameters() if p.grad is not None}


def test_the_gradient_of_a_layer_amplitude_vanishes_through_norm() -> None:
    """Ternary Spike digest, section 3: 6e-4 through conv → BN against 3.6e2 through an identity shortcut."""
    model = small_cnn(Ternary(train_amplitude="layer", amplitude=1.37), T=2)
    found = {name: size for name, size in gradients(model).items() if name.endswith(AMPLITUDE)}
    shortcut = found[f"body.2.{AMPLITUDE}"]
    inert = inert_parameters(model)
    assert set(inert) == {f"body.{place}.{AMPLITUDE}" for place in ("3.neuron1", "3.neuron2", "4.neuron1")}
    assert all(found[name] <= 1e-3 * shortcut for name in inert), found
    acting = set(found) - set(inert)
    assert acting == {f"body.2.{AMPLITUDE}", f"body.4.neuron2.{AMPLITUDE}"}
    assert all(found[name] > 1e-2 * shortcut for name in acting), found


@pytest.mark.parametrize("quantizer", [Sign, TernaryWeight])
def test_the_gradient_of_a_weight_factor_vanishes_unless_it_is_per_input_channel(
    quantizer: type[Sign] | type[TernaryWeight],
) -> None:
    """ReverB digest 2.7: 2e-5 and 1e-5 (layer, output) against 12 (input)."""
    sizes = {}
    for sharing in ("layer", "output", "input"):
        model = small_cnn(LIF(0.5), quantizer(sharing), T=2, norm="joint")
        found = gradients(model)
        named = {name for name in found if name.endswith(FACTOR)}
        inert = inert_parameters(model)
        hidden = {name for name in named if name != f"body.7.{FACTOR}"}
        assert len(hidden) == 6 and set(inert) == (set() if sharing == "input" else hidden)
        sizes[sharing] = sum(found[name] for name in hidden)
    assert sizes["layer"] <= 1e-3 * sizes["input"] and sizes["output"] <= 1e-3 * sizes["input"], sizes


@pytest.mark.parametrize("norm", ["joint", "per_step", "threshold"])
def test_an_inert_amplitude_does_not_change_the_output(norm: str) -> None:
    model = small_cnn(LIF(0.5, train_amplitude="layer"), T=2, norm=norm).double().train()
    x = torch.randn(16, 2, 8, 8, generator=rng(0), dtype=torch.float64)
    before = model(x)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in inert_parameters(model):
            parameters[name].add_(1.0)
        assert (model(x) - before).abs().max() < 1e-3
        parameters[f"body.2.{AMPLITUDE}"].add_(1.0)
        assert (model(x) - before).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("neuron", "weight", "policy", "expected"),
    [
        (LIF(), None, None, set()),
        (LIF(amplitude=2.0), None, None, set()),
        (LIF(train_amplitude="channel"), None, None, set()),
        (LIF(train_amplitude="layer", raw_amplitude=True), None, None, set()),
        (LIF(), Sign("none"), None, set()),
        (LIF(), Sign("input"), Policy(), set()),
        (LIF(), Uniform(4), Policy(), set()),
        (LIF(), Sign("layer"), None, {f"body.{place}.{FACTOR}" for place in HIDDEN}),
    ],
)
def test_what_is_listed(neuron: LIF, weight: Sign | None, policy: Policy | None, expected: set[str]) -> None:
    assert set(inert_parameters(small_cnn(neuron, weight, policy=policy))) == expected


def test_every_reason_is_given_and_a_graph_will_do() -> None:
    model = small_cnn(LIF(train_amplitude="layer"), Sign("output"))
    reasons = inert_parameters(trace(model))
    assert reasons == inert_parameters(model)
    assert {reason for name, reason in reasons.items() if name.endswith(AMPLITUDE)} == {
        "every consumer is linear → batch norm"
    }
    assert {reason for name, reason in reasons.items() if name.endswith(FACTOR)} == {"batch norm follows the layer"}


def test_pools_pass_a_factor_on_and_a_bias_before_norm_cancels_too() -> None:
    amplitude = LIF(train_amplitude="layer")
    for pool in (AvgPool2d(2), MaxPool2d(2), nn.Sequential(AvgPool2d(2), MaxPool2d(2))):
        net = nn.Sequential(Repeat(1), amplitude, pool, Conv2d(1, 1, 1, bias=True), BatchNorm(1))
        assert set(inert_parameters(net)) == {f"1.{AMPLITUDE}"}
    net = nn.Sequential(Repeat(1), amplitude, GlobalAvgPool(), Flatten(), Linear(1, 1), LIF())
    assert inert_parameters(net) == {}
    assert inert_parameters(nn.Sequential(Repeat(1), amplitude, Conv2d(1, 1, 1))) == {}


def test_a_module_called_twice_acts_if_one_call_acts() -> None:
    class Twice(nn.Module):
        def __init__(self, first: bool, second: bool) -> None:
            super().__init__()
            self.neuron, self.conv = LIF(train_amplitude="layer"), Conv2d(2, 2, 1, weight=Sign("layer"))
            self.norms = nn.ModuleList([BatchNorm(2) if norm else nn.Identity() for norm in (first, second)])

        def forward(self, x: Tensor) -> Tensor:
            for norm in self.norms:
                x = norm(self.conv(self.neuron(x)))
            return x

    both = {f"neuron.{AMPLITUDE}", f"conv.{FACTOR}"}
    assert set(inert_parameters(Twice(True, True))) == both
    for first, second in ((True, False), (False, True), (False, False)):
        assert inert_parameters(Twice(first, second)) == {}


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: study_cnn(LIF(train_amplitude="layer"), **SHAPE), ["3.neuron1", "3.neuron2", "4.neuron1"]),
        (lambda: study_cnn(LIF(), Sign("layer"), **SHAPE), HIDDEN),
        (lambda: mlp(LIF(train_amplitude="layer"), shape=(4,), hidden=(3, 3, 3)), ["3", "6"]),
    ],
)
def test_builders_warn_once_naming_what_is_inert(build, expected: list[str]) -> None:  # type: ignore[no-untyped-def]
    with pytest.warns(UserWarning) as caught:
        build()
    assert len(caught) == 1
    text = str(caught[0].message)
    listed = text.partition("positive factor: ")[2].partition(". They")[0].split(", ")
    kind = FACTOR if "conv" in expected[0] else AMPLITUDE
    assert listed == [f"body.{place}.{kind}" for place in expected]
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "build",
    [
        lambda: study_cnn(LIF(), **SHAPE),
        lambda: study_cnn(LIF(train_amplitude="channel"), Sign("input"), **SHAPE),
        lambda: mlp(LIF(train_amplitude="channel"), Sign("input"), shape=(4,), hidden=(3, 3)),
        lambda: mlp(LIF(train_amplitude="layer"), shape=(4,), hidden=(3,)),
    ],
)
def test_builders_are_silent_where_every_factor_acts(build) -> None:  # type: ignore[no-untyped-def]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build()


def test_the_warning_is_a_user_warning() -> None:
    net = nn.Sequential(LIF(train_amplitude="layer"), Linear(2, 2, bias=False), BatchNorm(2))
    with pytest.warns(UserWarning, match=r"inert.*0\.emission\.raw_amplitude\. They train nothing"):
        warn_inert(net)
