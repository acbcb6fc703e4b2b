"""Integer spikes expanded into binary sub-steps give the same network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike import expand_unary, fold
from bitspike.fold.expand import UnarySynapse
from bitspike.graph import Graph, Node
from bitspike.layers import Conv2d, Linear
from bitspike.models import Policy
from bitspike.neurons import LIF, Integer, MultiBit
from networks import NETS, WEIGHTS, dyadic, liven, samples, spikes_of


def pair(D: int, weight: str, net: str, dtype: torch.dtype, grid: int | None) -> tuple[Graph, Graph, Tensor]:
    """(folded, expanded, input)."""
    x = samples(6, dtype=dtype)
    x = dyadic(x, 8) if grid else x
    neuron = Integer(D, amplitude=2.0 if grid else 1.37)
    folded = fold(liven(NETS[net](neuron, WEIGHTS[weight](), T=2), x, grid=grid), x)
    assert all(0.02 < layer.rate < 0.98 for layer in folded.report.layers.values())
    return folded.graph, expand_unary(folded), x


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("weight", ["float", "sign-layer", "uniform4-layer"])
@pytest.mark.parametrize("D", [1, 2, 4, 7])
def test_equal_bit_for_bit_on_dyadic_weights(D: int, weight: str, net: str) -> None:
    folded, expanded, x = pair(D, weight, net, torch.float64, 16)
    wanted, before = spikes_of(folded, x)
    got, after = spikes_of(expanded, x)
    assert torch.equal(wanted, got)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), after.values(), strict=True))
    assert max(float(levels.max()) for levels in before.values()) == D


@pytest.mark.parametrize("weight", ["float", "sign-output", "ternary-layer", "uniform3-output"])
@pytest.mark.parametrize("D", [3, 4])
def test_close_on_random_weights_in_float32(D: int, weight: str) -> None:
    folded, expanded, x = pair(D, weight, "study_cnn", torch.float32, None)
    wanted, before = spikes_of(folded, x)
    got, after = spikes_of(expanded, x)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), after.values(), strict=True))
    assert (wanted - got).abs().max() <= 1e-5 * wanted.abs().max()


def test_synapses_see_binary_sub_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    D = 4
    _, expanded, x = pair(D, "sign-layer", "pool_net", torch.float64, 16)
    seen: list[Tensor] = []
    for cls in (Conv2d, Linear):
        honest: Callable[..., Tensor] = cls.connect

        def spy(self: Any, x: Tensor, *rest: Any, honest: Callable[..., Tensor] = honest) -> Tensor:
            seen.append(x)
            return honest(self, x, *rest)

        monkeypatch.setattr(cls, "connect", spy)
    replaced = [node for node in expanded if isinstance(node.module, UnarySynapse)]
    assert {node.name for node in replaced} == {"net_conv2", "net_conv4", "net_classifier"}

    def check(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        if isinstance(node.module, UnarySynapse):
            sub_steps = seen[-1]
            assert sub_steps.shape == (2 * D, *args[0].shape[1:])
            assert set(sub_steps.unique().tolist()) == {0.0, 1.0}
            assert torch.equal(sub_steps.unflatten(0, (2, D)).sum(1), args[0])
        return value

    with torch.no_grad():
        expanded.run(x, handler=check)
    assert len(seen) == 4  # the first convolution reads the image, and is left as it is


def test_the_bias_is_added_once_a_step() -> None:
    conv = Conv2d(1, 2, 1, bias=True)
    conv.weight.data.fill_(0.5)
    conv.bias.data.copy_(torch.tensor([1.0, -2.0]))
    k = torch.tensor([0.0, 3.0]).reshape(1, 1, 1, 1, 2)
    assert UnarySynapse(conv, 3)(k).flatten().tolist() == [1.0, 2.5, -2.0, -0.5]
    linear = Linear(2, 1)
    linear.weight.data.fill_(1.0)
    linear.bias.data.fill_(10.0)
    assert UnarySynapse(linear, 4)(torch.tensor([[[1.0, 4.0]], [[0.0, 0.0]]])).flatten().tolist() == [15.0, 10.0]
    assert UnarySynapse(Linear(2, 1, bias=False), 4)(torch.zeros(1, 1, 2)).tolist() == [[[0.0]]]


def test_pooled_spikes_are_expanded() -> None:
    _, expanded, _ = pair(4, "float", "study_cnn", torch.float64, 16)
    kept = {node.name for node in expanded.of_kind("synapse")}
    assert kept == {"net_body_0"}


def test_the_folded_network_is_left_as_it_was() -> None:
    x = samples(2)
    folded = fold(liven(NETS["study_cnn"](Integer(2)), x), x)
    before = folded(x)
    expanded = expand_unary(folded)
    for parameter in expanded.model.parameters():
        parameter.data.zero_()
    assert torch.equal(folded(x), before)


@pytest.mark.parametrize("neuron", [LIF(), MultiBit(1, 1)])
def test_nothing_to_expand(neuron: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"^expand_unary: some synapse must be fed by Integer spikes, got none"):
        expand_unary(nn.Sequential(neuron, Linear(2, 2)))


def test_spikes_behind_a_gain_are_no_plain_integers() -> None:
    x = samples(4)
    folded = fold(liven(NETS["study_cnn"](Integer(2), WEIGHTS["sign-input"](), policy=Policy()), x), x)
    with pytest.raises(ValueError, match="some synapse must be fed by Integer spikes, got none"):
        expand_unary(folded)


@pytest.mark.parametrize("neuron", [Integer(2, amplitude=2.0), Integer(2, train_amplitude="layer")])
def test_an_amplitude_must_be_folded_first(neuron: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"^expand_unary: spikes must be plain integers, got .*·a; call fold first"):
        expand_unary(nn.Sequential(neuron, Linear(2, 2)))
