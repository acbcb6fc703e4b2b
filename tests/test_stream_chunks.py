"""A stream in any chunks has the bits of the stream in one, whatever the neuron, wiring, read-out, folded or not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike import fold, stream, trace
from bitspike.graph import Graph
from bitspike.layers import Gain, Linear, MeanReadout, Refined, Restimulate, Windows
from bitspike.models import Network, mlp
from bitspike.neurons import LIF
from builders import KINDS, residual
from networks import SHAPE, dyadic, liven, rng, samples

T = 4


def chunkings(steps: int) -> Iterator[list[int]]:
    """All ways to cut so many steps."""
    for cuts in itertools.product((False, True), repeat=steps - 1):
        ends = [t + 1 for t, cut in enumerate(cuts) if cut] + [steps]
        yield [end - start for start, end in zip([0, *ends], ends, strict=False)]


def streamed(net: nn.Module | Graph, x_seq: Tensor, sizes: list[int], each: bool) -> Tensor:
    """What a stream in chunks has sent: all steps, or the mean so far."""
    outputs, states = [], None
    for chunk in x_seq.split(sizes):
        y, states = stream(net, chunk, states)
        outputs.append(y)
    return torch.cat(outputs) if each else outputs[-1]


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("readout", ["mean", "steps"])
@pytest.mark.parametrize("wiring", ["spike", "input"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_any_chunks_equal_the_whole_run(kind: str, wiring: str, readout: str, folded: bool) -> None:
    """Sums are exact here, so the whole run is that of the network itself."""
    x = dyadic(samples(4), 8)
    net = liven(residual(KINDS[kind](), wiring, readout), x, grid=16)
    x_seq = dyadic(torch.randn(T, 4, *SHAPE, generator=rng(1), dtype=x.dtype), 8)
    graph = fold(net, x).graph if folded else trace(net)
    whole = graph.run(x_seq, handler=lambda node, call, args: args[0] if node.name == "encoder" else call())
    assert whole.std() > 0
    for sizes in chunkings(T):
        assert torch.equal(streamed(graph, x_seq, sizes, readout == "steps"), whole), sizes


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_chunks_round_alike(kind: str, folded: bool) -> None:
    """One sample in float32: few rows, where BLAS takes other ways for other numbers of rows."""
    x = samples(4, dtype=torch.float32)
    net = liven(residual(KINDS[kind](), "input", "steps"), x)
    x_seq = torch.randn(T, 1, *SHAPE, generator=rng(1))
    graph = fold(net, x).graph if folded else trace(net)
    whole = stream(graph, x_seq)[0]
    for sizes in chunkings(T):
        assert torch.equal(streamed(graph, x_seq, sizes, True), whole), sizes


class Attending(nn.Module):
    """Wide linear maps and an attention: what rounds by the number of rows it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.attention, self.last = Linear(100, 37), Restimulate(37), Linear(37, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.attention(self.first(x)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 3, 5])
@torch.no_grad()
def test_layers_round_alike(batch: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net, x_seq = Attending().to(dtype).eval(), torch.randn(6, batch, 100, dtype=dtype)
    whole = stream(net, x_seq)[0]
    assert torch.allclose(whole, net(x_seq), rtol=0, atol=16 * torch.finfo(dtype).eps)
    for sizes in chunkings(6):
        assert torch.equal(streamed(net, x_seq, sizes, True), whole), sizes


@torch.no_grad()
def test_layouts_round_alike() -> None:
    """Weights and frames with channels last, and frames cut out of something larger."""
    x = samples(4, dtype=torch.float32)
    net = liven(residual(LIF(decay=0.5), "input", "steps"), x)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x_seq = torch.randn(T, 1, *SHAPE, generator=rng(1))
    whole = stream(net, x_seq)[0]
    last = x_seq.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    part = torch.cat([x_seq[..., :1], x_seq], 4)[..., 1:]
    for given, sizes in itertools.product((last, part), ([T], [1] * T, [3, 1])):
        assert torch.equal(streamed(net, given, sizes, True), whole), sizes


@torch.no_grad()
def test_a_gain_by_step_goes_on() -> None:
    """Beyond its last row it stays there; the state is the steps so far."""
    gain = nn.Sequential(Gain(torch.tensor([[1.0], [2.0], [4.0]])))
    x = torch.ones(5, 1, 1)
    for sizes in chunkings(5):
        assert streamed(gain, x, sizes, True).flatten().tolist() == [1.0, 2.0, 4.0, 4.0, 4.0]
    assert stream(gain, x[:2])[1] == {"_0": 2}
    assert not stream(nn.Sequential(Gain(torch.tensor(2.0))), x)[1]


@torch.no_grad()
def test_a_mean_that_waits_leaves_out_what_it_leaves_out() -> None:
    """Three windows of two frames: the first does not count, also while the third is awaited."""
    readout = MeanReadout(2)
    readout.keep[0] = 0  # type: ignore[index]
    net, x = nn.Sequential(Windows(3, frames=6), readout), torch.arange(6.0).reshape(6, 1, 1)
    means, states = [], None
    for frame in x:
        y, states = stream(net, frame[None], states)
        means.append(float(y))
    assert means == [0.0, 0.0, 0.0, 2.5, 2.5, 3.5]
    half, _ = stream(net.half(), x[:1].half())
    assert half.dtype == torch.float16


class Held(nn.Module):
    """The mean of a neuron is held over the steps of its current."""

    def __init__(self, how: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.neuron, self.how = Refined(LIF(decay=0.5), T=2), how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(x, self.neuron(x))


def held(how: Callable[[Tensor, Tensor], Any]) -> Network:
    net = mlp(LIF(), T=T, hidden=(3,), shape=(2,), classes=2, readout="steps")
    net.body = nn.Sequential(net.body, Held(how))
    return net.double().eval()


@pytest.mark.parametrize(
    "how",
    [lambda a, b: a + b, lambda a, b: b + a, lambda a, b: a.add(b), lambda a, b: torch.add(a, b, alpha=0.5)],
    ids=["+", "+ of the mean", "add", "alpha"],
)
@torch.no_grad()
def test_a_mean_is_held_for_all_steps_of_the_other_branch(how: Callable[[Tensor, Tensor], Any]) -> None:
    net, x_seq = held(how), 4 * torch.rand(T, 3, 2, generator=rng(0), dtype=torch.float64)
    whole = net.readout(net.body(x_seq))
    assert whole.shape == (T, 3, 2)
    for sizes in chunkings(T):
        assert torch.allclose(streamed(net, x_seq, sizes, True), whole, rtol=0, atol=1e-14), sizes


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (lambda a, b: torch.cat([a, b], 2), "its branches have 1 and 4 steps"),
        (lambda a, b: torch.add(a, other=b), "arguments by name"),
    ],
)
def test_what_cannot_be_held_is_refused(how: Callable[[Tensor, Tensor], Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^stream: .*{reason}"):
        stream(held(how), torch.zeros(1, 3, 2, dtype=torch.float64))
