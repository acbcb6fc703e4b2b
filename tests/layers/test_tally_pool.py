"""Max pooling of what was sent so far: sums, formats, streams, folding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import bitspike
from bitspike.layers import Conv2d, Flatten, Linear, MaxPool2d, MeanReadout, Repeat, TallyMaxPool2d
from bitspike.models import Network
from bitspike.neurons import MultiBit
from networks import rng


@given(
    T=st.integers(1, 5),
    low=st.sampled_from([0, -1]),
    high=st.integers(1, 15),
    kernel=st.sampled_from([(1, None), (2, None), (3, 1), (2, 1), (3, 2)]),
    seed=st.integers(0, 99),
)
def test_sums_and_alphabet(T: int, low: int, high: int, kernel: tuple[int, int | None], seed: int) -> None:
    x = torch.randint(low, high + 1, (T, 2, 3, 7, 5), generator=rng(seed)).double()
    y = TallyMaxPool2d(*kernel)(x)
    assert torch.equal(y.sum(0), F.max_pool2d(x.sum(0), *kernel))
    least = -F.max_pool2d(-x.flatten(0, 1), *kernel).unflatten(0, x.shape[:2])
    assert (y >= least).all() and (y <= MaxPool2d(*kernel)(x)).all()
    assert torch.equal(y[:1], MaxPool2d(*kernel)(x[:1]))


def test_plain_pooling_is_too_large() -> None:
    x = torch.tensor([[3.0, 0.0], [0.0, 3.0]]).reshape(2, 1, 1, 1, 2).expand(2, 1, 1, 2, 2)
    assert float(MaxPool2d(2)(x).sum()) == 6.0 and float(TallyMaxPool2d(2)(x).sum()) == 3.0


def test_stream_and_fold() -> None:
    body = torch.nn.Sequential(
        Conv2d(1, 3, 3, padding=1), MultiBit(1, 1, amplitude=2.0), TallyMaxPool2d(2), Flatten(), Linear(48, 4)
    )
    net = Network(Repeat(4), body, MeanReadout()).double().eval()
    x = torch.randn(4, 5, 1, 8, 8, generator=rng(0), dtype=torch.float64) * 2
    graph = bitspike.trace(net)
    whole, _ = bitspike.stream(graph, x)
    states, found = None, None
    for part in x.split((1, 2, 1)):
        found, states = bitspike.stream(graph, part, states)
    assert found is not None and torch.equal(found, whole)
    folded = bitspike.fold(net, x[0])
    assert folded.report.forced_flips == 0 and not folded.report.gains
    synapse = next(node for node in graph.of_kind("synapse") if isinstance(node.module, Linear))
    assert graph[synapse.inputs[0]].format is not None  # spikes behind the pool are spikes


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="kernel"):
        TallyMaxPool2d(0)
