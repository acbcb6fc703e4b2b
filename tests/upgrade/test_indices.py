"""Numbers of words: an embedding in front of a network goes through upgrade, fold, cost and stream."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike import upgrade
from bitspike.cost import cost
from bitspike.neurons import LIF


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.hidden, self.last = nn.Embedding(20, 6), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, words: Tensor) -> Tensor:
        return self.last(self.hidden(self.embed(words).mean(1)).relu())


@pytest.mark.parametrize("kind", [torch.int64, torch.int32])
def test_an_embedding_in_front(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    model, words = Bag().double(), torch.randint(20, (5, 7)).to(kind)
    same = upgrade(model, {nn.ReLU: nn.ReLU()}, words, T=2).eval()
    assert torch.allclose(same(words), model(words), atol=1e-12) and "embed" in same.report.uncounted
    net = upgrade(model, {nn.ReLU: LIF(threshold=0.1)}, words, T=3).eval()
    folded = bitspike.fold(net, words)
    assert torch.allclose(folded(words), net(words), atol=1e-12) and folded(words).dtype == torch.float64
    graph, states = bitspike.trace(net), None
    for step in net.encoder(words).split(1):
        out, states = bitspike.stream(graph, step, states)
    assert torch.equal(out, net(words))
    rows = [row for row in cost(folded.graph, words).layers if row.kind == "synapse"]
    assert [row.macs for row in rows] == [48, 24] and rows[0].multiplications == 3 * 48
    net.train()(words).sum().backward()
    assert net.body.get_submodule("embed").body.weight.grad.abs().max() > 0


def test_integers_for_anything_else_are_refused() -> None:
    net = upgrade(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), {nn.ReLU: LIF()}, torch.rand(2, 4)).eval()
    whole = torch.ones(2, 4, dtype=torch.int64)
    for call in (net, lambda x: bitspike.fold(net, x), lambda x: bitspike.stream(net, x[None])):
        with pytest.raises(TypeError, match=r"must be a floating-point tensor, got torch\.int64"):
            call(whole)
    with pytest.raises(ValueError, match="at module '0': mat1 and mat2 must have the same dtype"):
        upgrade(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), {nn.ReLU: LIF()}, whole)
