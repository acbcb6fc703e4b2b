"""Unusual but legal networks: converted to what they compute, or refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitspike
from bitspike.cost import cost
from bitspike.neurons import LIF, Adaptive, Integer, Neuron, Signed
from networks import rng

FINE = Integer(200, decay=1.0)


class Model(nn.Module):
    """A forward over two convolutions (4 channels, and ``width``), a map and a norm with cumulative averages."""

    def __init__(self, forward: Callable[[Model, Tensor], Tensor], side: int = 6, width: int = 4) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.c, self.norm = nn.Conv2d(4, width, 3, padding=1), nn.BatchNorm2d(4, momentum=None)
        self.head = nn.Linear(4 * side * side, 3)
        self.what = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.what(self, x).flatten(1))  # type: ignore[no-any-return]


def images(count: int = 12) -> Tensor:
    return torch.randn(count, 2, 6, 6, generator=rng(3))


def model(forward: Callable[[Model, Tensor], Tensor], **sizes: int) -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Model(forward, **sizes)
        made.norm.running_mean.normal_()  # type: ignore[union-attr]
        made.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return made.eval()


def converted(net: nn.Module, neuron: Neuron, T: int) -> float:
    """Error of the conversion, after the fold, the stream and the cost of it."""
    x = images()
    snn = bitspike.ann2snn(net, neuron, x, T, "max", correction="line")
    with torch.no_grad():
        got, wanted = snn(x), net(x)
    parts, states = None, None
    for step in x.unsqueeze(0).expand(T, *x.shape).split(1):
        parts, states = bitspike.stream(snn.graph, step, states)
    assert parts is not None and torch.allclose(parts, got, atol=1e-6)
    cost(bitspike.fold(snn, x).graph, x)
    return float((got - wanted).norm() / wanted.norm())


def _pools_before_each_leaky(m: Model, x: Tensor) -> Tensor:
    return F.leaky_relu(F.max_pool2d(m.b(F.leaky_relu(m.a(x), 0.125)), 2), 0.125)


def _pools_a_norm_of_spikes(m: Model, x: Tensor) -> Tensor:
    return F.max_pool2d(m.norm(F.leaky_relu(m.a(x), 0.125)), 2)


@pytest.mark.parametrize("forward", [_pools_before_each_leaky, _pools_a_norm_of_spikes])
def test_max_pooling_of_currents_in_a_leaky_network(forward: Callable[[Model, Tensor], Tensor]) -> None:
    """A LeakyReLU with weights or a norm behind it sends no spikes to the pool."""
    assert converted(model(forward, side=3), Signed(100, decay=1.0), 4) < 0.01


def _wide_then_narrow(m: Model, x: Tensor) -> Tensor:
    y = F.relu(m.a(x))
    return F.relu(m.b(y) + m.c(y))


def _narrow_then_wide(m: Model, x: Tensor) -> Tensor:
    y = F.relu(m.a(x))
    return F.relu(m.c(y) + m.b(y))


@pytest.mark.parametrize("forward", [_wide_then_narrow, _narrow_then_wide])
def test_one_channel_added_to_many(forward: Callable[[Model, Tensor], Tensor]) -> None:
    """The weights of the one channel cannot take a factor for each of the many."""
    assert converted(model(forward, width=1), FINE, 3) < 0.01


def test_a_current_added_to_itself_is_corrected_once() -> None:
    def forward(m: Model, x: Tensor) -> Tensor:
        y = m.b(F.relu(m.a(x)))
        return F.relu(y + y)

    net, x = model(forward), images(64)
    snn = bitspike.ann2snn(net, LIF(decay=1.0, reset="soft"), x, 2, correction="mean")
    currents: list[Tensor] = []

    def note(node, call, args):  # type: ignore[no-untyped-def]
        if node.kind == "neuron":
            currents.append(args[0].mean((0, 1, 3, 4)) * node.module.emission.scale().float())
        return call()

    with torch.no_grad():
        snn.graph.run(x, handler=note)
        wanted = 2 * net.b(F.relu(net.a(x))).mean((0, 2, 3))
    assert snn.report is not None and list(snn.report.layers.values())[1].correction > 0.01
    torch.testing.assert_close(currents[1], wanted, atol=1e-4, rtol=1e-4)
    assert converted(net, FINE, 3) < 0.01


def test_a_norm_with_cumulative_averages() -> None:
    net = model(lambda m, x: F.relu(m.norm(m.a(x))))
    assert converted(net, FINE, 3) < 0.01
    assert net.norm.momentum is None


def _statement(m: Model, x: Tensor) -> Tensor:
    y = m.a(x)
    y.relu_()
    return y


def _unused(m: Model, x: Tensor) -> Tensor:
    F.gelu(m.b(F.relu(m.a(x))))
    return F.relu(m.a(x))


@pytest.mark.parametrize("forward", [lambda m, x: F.relu_(m.a(x)), _statement, _unused])
def test_activations_in_place_only_and_activations_that_nothing_reads(
    forward: Callable[[Model, Tensor], Tensor],
) -> None:
    assert converted(model(forward), FINE, 3) < 0.01


def test_a_neuron_whose_step_is_its_threshold_is_refused() -> None:
    """An amplitude set by the conversion would move the thresholds: the error stayed at a quarter for any T."""
    with pytest.raises(ValueError, match=r"ann2snn: the thresholds must .* got Adaptive, whose step is both;"):
        bitspike.ann2snn(model(lambda m, x: F.relu(m.a(x))), Adaptive(4), images())


def test_fine_tuning_leaves_the_data_alone() -> None:
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 2)).eval()
    x = torch.randn(16, 6, generator=rng(0))
    before = x.clone()
    bitspike.ann2snn(net, FINE, x, fine_tune=1)
    assert torch.equal(x, before)
