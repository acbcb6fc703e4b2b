"""A folded network is the network for inputs of any number of steps, not only for those of its sample."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike import fold, stream
from bitspike.cost import cost
from bitspike.fold.expand import expand_unary
from bitspike.formats import SpikeFormat
from bitspike.graph import Graph
from bitspike.layers import Flatten, Linear, MeanReadout, Refined, Repeat, Squeeze, Windows
from bitspike.models import mlp
from bitspike.neurons import Adaptive, Integer
from builders import KINDS, residual
from networks import SHAPE, liven, rng, samples

SAMPLE = 4
FRONTS = {"": [], "windows": [Windows(2)], "squeeze": [Squeeze(3, always=False)]}


def sequence(T: int) -> Tensor:
    return torch.randn(T, 3, *SHAPE, generator=rng(T), dtype=torch.float64)


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("wiring", ["spike", "input"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_other_steps_than_the_sample(kind: str, wiring: str, front: str) -> None:
    """Windows and means in front and inside; T' that divide the sample's, are divided by it, or neither; held ones."""
    net = liven(residual(KINDS[kind](), wiring, "mean"), samples(4))
    body = nn.Sequential(*FRONTS[front], net.body, net.readout).eval()
    folded = fold(body, sequence(SAMPLE))
    for T in (1, 2, 3, 4, 5, 8):
        wanted = body(sequence(T))
        assert wanted.std() > 0
        assert torch.allclose(folded(sequence(T)), wanted, rtol=0, atol=1e-9 * max(1.0, float(wanted.abs().max()))), T


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_an_encoder_of_other_steps(kind: str) -> None:
    net = liven(residual(KINDS[kind](), "spike", "mean"), samples(4))
    folded = fold(net, samples(4))
    for T in (1, 3, 6):
        net.encoder = folded.net.encoder = Repeat(T)
        assert torch.allclose(folded(samples(3)), net(samples(3)), rtol=0, atol=1e-9), T


@torch.no_grad()
def test_a_stream_goes_on_behind_the_steps_of_the_sample() -> None:
    """Folded at two steps, streamed for seven; the neuron has five step sizes."""
    net = mlp(Adaptive(2, steps=5), T=2, hidden=(8, 8), shape=(5,), classes=3, readout="steps").double()
    x = torch.rand(7, 4, 5, generator=rng(0), dtype=torch.float64)
    for module in net.modules():
        if isinstance(module, Adaptive):
            module.step_parameter().mul_(torch.tensor([0.4, 0.2, 1.1, 0.3, 0.7], dtype=torch.float64)[:, None])
    folded = fold(net.eval(), x[0])
    outputs, states = [], None
    for chunk in x.split([2, 2, 3]):
        y, states = stream(folded.graph, chunk, states)
        outputs.append(y)
    assert torch.allclose(torch.cat(outputs), stream(net, x)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("layer", [Squeeze(1), Squeeze(4, always=False), Windows(2)])
@torch.no_grad()
def test_an_expanded_network_refuses_other_steps(layer: nn.Module, refuses: Any) -> None:
    """Sums over three steps for four have fractions, which have no binary sub-steps."""
    net = nn.Sequential(Repeat(4), Flatten(), Linear(5, 8), Integer(3), layer, Linear(8, 3), MeanReadout())
    x = torch.rand(6, 5, 1, generator=rng(0), dtype=torch.float64)
    folded = fold(net.double().eval(), x)
    expanded = expand_unary(folded)
    assert torch.allclose(expanded.run(x), folded(x), rtol=0, atol=1e-12)
    for model in (expanded.model, folded.net, net):
        name = next(name for name, module in model.named_modules() if isinstance(module, Repeat))
        setattr(model, name, Repeat(3))
    with refuses(type(layer).__name__, "4"):
        expanded.run(x)
    assert torch.allclose(folded(x), net(x), rtol=0, atol=1e-12)


def counted(layer: nn.Module, sample: int) -> Graph:
    """Integer spikes behind a layer over time, folded on so many steps."""
    net = nn.Sequential(Integer(3), layer, Flatten(), Linear(5, 4), MeanReadout()).eval()
    return fold(net.double(), ones(sample)).graph


def ones(T: int) -> Tensor:
    return torch.full((T, 2, 5, 1), 3.0, dtype=torch.float64)


@pytest.mark.parametrize(
    ("layer", "T", "scalings"),
    [
        (Squeeze(1), 4, 0),  # the sample's
        (Squeeze(1), 3, 5),  # 4/3 of every sum
        (Squeeze(1), 1, 5),  # a shift
        (Squeeze(3, always=False), 3, 15),  # three steps that pass count four times
        (Windows(2), 4, 0),
        (Windows(2), 6, 10),
        (Windows(2), 2, 10),
    ],
)
def test_what_other_steps_cost(layer: nn.Module, T: int, scalings: int) -> None:
    """The divisor of the sample is in the weights; what another one takes is counted, and values are no integers."""
    graph = counted(layer, 4)
    rows = [row for row in cost(graph, ones(T)).elements if row.kind in ("squeeze", "windows")]
    assert sum(row.side_multiplications + row.shifts for row in rows) == scalings
    if isinstance(layer, Squeeze) and T == 3:
        assert sum(row.side_adds for row in rows) == (10 if layer.always else 0)
    found = graph.edges(ones(T)).spikes["_1"]
    assert found is not None and found.format is not None
    values: dict[str, Tensor] = {}
    graph.run(ones(T), handler=lambda node, call, args: values.setdefault(node.name, call()))
    levels = values["_1"] / found.scale
    assert torch.allclose(levels, levels.round(), rtol=0, atol=1e-12)
    assert found.format.low <= levels.min() and levels.max() <= found.format.high
    assert bool(found.scale == 1) == (scalings == 0)


def test_alphabets_of_other_steps() -> None:
    record = SpikeFormat(0, 3)
    squeeze, windows = (counted(layer, 4)["_1"].module for layer in (Squeeze(1), Windows(2)))
    assert isinstance(squeeze, Squeeze) and isinstance(windows, Windows)
    assert squeeze.format_of(record, 4) == SpikeFormat(0, 12) and squeeze.format_of(record, 3) is None
    assert squeeze.format_of(record, 1) is None and Squeeze(1).format_of(record, 1) == record
    assert windows.format_of(record, 4) == SpikeFormat(0, 6) and windows.format_of(record, 6) is None
    assert windows.format_of(record, 2) is None and Windows(2).format_of(record, 2) == record


@torch.no_grad()
def test_steps_of_a_refined_neuron_are_its_own() -> None:
    """Its gain has a row for each of them and no more: what a step that never comes is worth does not matter."""
    net = mlp(Refined(Adaptive(2, steps=3), T=1), T=1, hidden=(8,), shape=(5,), classes=3).double()
    for module in net.modules():
        if isinstance(module, Adaptive):
            module.step_parameter().mul_(torch.tensor([[1.0], [0.7], [0.3]], dtype=torch.float64))
    assert fold(net.eval(), torch.rand(4, 5, dtype=torch.float64)).report.gains == {}
