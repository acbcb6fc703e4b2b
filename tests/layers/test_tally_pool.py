"""Max pooling of what was sent so far: sums, formats, streams, folding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import bitspike
from bitspike.cost import cost
from bitspike.layers import Conv2d, Flatten, Linear, MaxPool2d, MeanReadout, Repeat, TallyMaxPool2d, TallyPool
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


POOLS = {
    "padded": (torch.nn.MaxPool2d(3, 2, padding=1), (9, 8)),
    "dilated": (torch.nn.MaxPool2d(2, 1, dilation=2), (9, 8)),
    "rectangle": (torch.nn.MaxPool2d((3, 1), ceil_mode=True), (9, 8)),
    "adaptive": (torch.nn.AdaptiveMaxPool2d((2, 3)), (9, 8)),
    "line": (torch.nn.MaxPool1d(3, 2, 1), (11,)),
    "volume": (torch.nn.MaxPool3d(2), (4, 5, 6)),
}


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("low", [0, -1])
def test_any_pool(name: str, low: int) -> None:
    """Sums are pooled as the ANN pools; every output lies within its window's spikes; pieces equal the whole."""
    pool, shape = POOLS[name]
    x = torch.randint(low, 4, (5, 2, 3, *shape), generator=rng(3)).double()
    tally = TallyPool(pool)
    y = tally(x)
    assert torch.equal(y.sum(0), pool(x.sum(0)))
    frames = x.flatten(0, 1)
    most, least = pool(frames).unflatten(0, (5, 2)), -pool(-frames).unflatten(0, (5, 2))
    assert (y <= most).all() and (y >= least).all()
    first, state = tally.stream_step(x[:2], None)
    rest, _ = tally.stream_step(x[2:], state)
    assert torch.equal(torch.cat([first, rest]), y)


def test_cost_by_hand() -> None:
    """4×4 values in 2×2 windows, two steps: 3 comparisons for each of 8 outputs; 4 subtractions; 1 spike to add."""
    x = torch.zeros(2, 1, 1, 4, 4)
    x[0, 0, 0, 0, :3] = 2.0
    x[1, 0, 0, 3, 3] = 2.0
    for pool in (TallyMaxPool2d(2), TallyPool(torch.nn.MaxPool2d(2)), TallyPool(torch.nn.AdaptiveMaxPool2d(2))):
        [row] = [row for row in cost(torch.nn.Sequential(MultiBit(1, 0), pool), x).elements if row.kind == "pool"]
        assert (row.comparisons, row.fixed_adds, row.side_adds) == (24.0, 4.0, 5.0)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="kernel"):
        TallyMaxPool2d(0)
    with pytest.raises(ValueError, match="the pool must return values only"):
        TallyPool(torch.nn.MaxPool2d(2, return_indices=True))
