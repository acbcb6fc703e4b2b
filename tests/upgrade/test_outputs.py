"""Networks with several outputs, or one number a sample: upgraded, trained, streamed and counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import bitspike
from bitspike import upgrade
from bitspike.cost import cost
from bitspike.fold.verify import FoldReport, compare
from bitspike.neurons import LIF


class Heads(nn.Module):
    """A body and two heads; ``gives`` says how they are returned."""

    def __init__(self, gives: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.body, self.a, self.b, self.gives = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 1), gives

    def forward(self, x: Tensor) -> Any:
        return self.gives(self, self.body(x).relu())


GIVES: dict[str, Callable[[Any, Tensor], Any]] = {
    "tuple": lambda s, y: (s.a(y), s.b(y)),
    "list": lambda s, y: [s.a(y)],
    "dict": lambda s, y: {"kinds": s.a(y), "inner": (s.b(y), y)},
    "pieces": lambda s, y: s.a(y).split([1, 2], dim=1),
    "numbers": lambda s, y: s.b(y).squeeze(-1),
    "sums": lambda s, y: s.a(y).sum(1),
}


@pytest.mark.parametrize("name", GIVES)
def test_every_output_is_that_of_the_network_alone(name: str) -> None:
    torch.manual_seed(0)
    model, x = Heads(GIVES[name]).double(), torch.randn(5, 6, dtype=torch.float64)
    net = upgrade(model, {nn.ReLU: nn.ReLU()}, x, T=2).eval()
    for ours, theirs in zip(tree_leaves(net(x)), tree_leaves(model(x)), strict=True):
        assert ours.shape == theirs.shape and torch.allclose(ours, theirs, atol=1e-12)
    spiking = upgrade(model, {nn.ReLU: LIF(threshold=0.2)}, x, T=3).eval()
    whole, states = tree_leaves(spiking(x)), None
    sequence, graph = spiking.encoder(x), bitspike.trace(spiking)
    for chunk in sequence.split(1):
        streamed, states = bitspike.stream(graph, chunk, states)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(tree_leaves(streamed), whole, strict=True))
    folded = bitspike.fold(spiking, x)
    pairs = zip(tree_leaves(folded(x)), whole, strict=True)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in pairs) and folded.report.samples == 5
    assert folded.report.agreement == 1.0
    assert sum(row.macs for row in cost(folded.graph, x).layers) == sum(row.macs for row in cost(spiking, x).layers) > 0
    sum(out.sum() for out in tree_leaves(spiking.train()(x))).backward()
    assert spiking.body.get_submodule("body").weight.grad.abs().max() > 0


def test_a_wrong_output_of_many_is_found() -> None:
    """The check of `fold` looks at all outputs, not only at the first."""
    torch.manual_seed(0)
    model, x = Heads(GIVES["dict"]).double(), torch.randn(5, 6, dtype=torch.float64)
    net = upgrade(model, {nn.ReLU: LIF(threshold=0.2)}, x, T=3).eval()
    folded = bitspike.fold(net, x)
    assert folded.report.max_logit_difference < 1e-12
    broken = bitspike.fold(net, x).graph
    broken["body_b"].module.bias.data += 1.0
    report = compare(bitspike.trace(net), broken, x, FoldReport())
    assert report.max_logit_difference_all == pytest.approx(1.0)
