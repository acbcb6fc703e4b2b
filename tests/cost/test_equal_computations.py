"""Networks that compute the same, written in different ways, cost the same: macs, S-ACE, NS-ACE, operations by kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bitspike.cost import cost
from bitspike.layers import AvgPool2d, Conv2d, Flatten, Linear, MeanReadout, Repeat, SumPool2d, Synapse
from bitspike.models import Network
from bitspike.neurons import LIF, Integer, MultiBit, Neuron, Signed, Ternary
from bitspike.quantizers import Float, Quantizer, Sign
from bitspike.upgrade.layers import Convolution

NEURONS: dict[str, Callable[[], Neuron]] = {
    "lif": lambda: LIF(threshold=0.3),
    "ternary": lambda: Ternary(threshold=0.3),
    "multibit": lambda: MultiBit(1, 1, threshold=0.3),
    "integer": lambda: Integer(D=3, threshold=0.2),
    "signed": lambda: Signed(D=2, threshold=0.2),
}
WEIGHTS: dict[str, Callable[[], Quantizer]] = {"float": Float, "sign": lambda: Sign("layer")}
COUNTED = ("macs", "s_ace", "ns_ace", "adds", "shift_adds", "multiplications")


def made(layer: Synapse, weight: Tensor, quantizer: Quantizer) -> Synapse:
    """The layer with these weights; factors of quantizers are all alike."""
    layer.weight = nn.Parameter(weight.clone())
    layer.quantize_with(quantizer)
    for value in layer.quantizer.parameters():
        value.data.fill_(0.3)
    return layer


class Two(nn.Module):
    """Two branches of spikes from one input; ``end`` says how the last layer reads them."""

    def __init__(
        self, neuron: Callable[[], Neuron], weight: Tensor, quantizer: Callable[[], Quantizer], end: str
    ) -> None:
        super().__init__()
        self.a, self.b, self.end = neuron(), neuron(), end
        half = weight.shape[1] // 2
        joined, split = Linear(2 * half, len(weight), bias=False), [Linear(half, len(weight), bias=False) for _ in "ab"]
        if end == "joined":
            self.last = made(joined, weight, quantizer())
        else:
            self.left = made(split[0], weight[:, :half], quantizer())
            self.right = made(split[1], weight[:, half:], quantizer())

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(-0.5 * x)
        if self.end == "joined":
            return self.last(torch.cat([a, b], 2))  # type: ignore[no-any-return]
        return self.left(a) + self.right(b)  # type: ignore[no-any-return]


def figures(body: nn.Module, x: Tensor, T: int) -> tuple[Tensor, dict[str, float]]:
    net = Network(Repeat(T), body, MeanReadout()).double().eval()
    with torch.no_grad():
        rows = [row for row in cost(net, x).layers if row.kind == "synapse"]
        return net(x), {name: float(sum(getattr(row, name) for row in rows)) for name in COUNTED}


def same(one: nn.Module, other: nn.Module, x: Tensor, T: int) -> None:
    (first, ours), (second, theirs) = figures(one, x, T), figures(other, x, T)
    assert torch.allclose(first, second, atol=1e-12) and first.abs().max() > 0
    assert ours == pytest.approx(theirs, rel=1e-9), (ours, theirs)


CASES = st.tuples(
    st.sampled_from(sorted(NEURONS)), st.sampled_from(sorted(WEIGHTS)), st.integers(1, 3), st.integers(0, 99)
)


@settings(max_examples=25, deadline=None)
@given(CASES)
def test_a_layer_on_a_concatenation_is_a_sum_of_layers(case: tuple[str, str, int, int]) -> None:
    neuron, weight, T, seed = case
    torch.manual_seed(seed)
    values, x = torch.randn(3, 10, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    same(*(Two(NEURONS[neuron], values, WEIGHTS[weight], end) for end in ("joined", "split")), x, T)


@settings(max_examples=25, deadline=None)
@given(CASES)
def test_a_mean_over_places_is_their_sum_with_smaller_weights(case: tuple[str, str, int, int]) -> None:
    neuron, _, T, seed = case
    torch.manual_seed(seed)
    values, x = torch.randn(4, 3, 1, 1, dtype=torch.float64), torch.randn(5, 3, 6, 6, dtype=torch.float64)
    layers = [made(Conv2d(3, 4, 1), w, Float()) for w in (values, values / 4)]
    pools = AvgPool2d(2), SumPool2d(2)
    same(*(nn.Sequential(NEURONS[neuron](), p, c, Flatten()) for p, c in zip(pools, layers, strict=True)), x, T)


@settings(max_examples=25, deadline=None)
@given(CASES)
def test_groups_are_layers_on_pieces(case: tuple[str, str, int, int]) -> None:
    neuron, weight, T, seed = case
    torch.manual_seed(seed)
    values, x = torch.randn(4, 2, 3, 3, dtype=torch.float64), torch.randn(5, 4, 5, 5, dtype=torch.float64)
    grouped = made(Convolution(nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)), values, WEIGHTS[weight]())

    class Pieces(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = NEURONS[neuron]()
            self.one, self.two = (made(Conv2d(2, 2, 3, 1, 1), w, WEIGHTS[weight]()) for w in values.chunk(2))
            self.flat = Flatten()

        def forward(self, x: Tensor) -> Tensor:
            one, two = self.neuron(x).chunk(2, 2)
            return self.flat(torch.cat([self.one(one), self.two(two)], 2))  # type: ignore[no-any-return]

    same(nn.Sequential(NEURONS[neuron](), grouped, Flatten()), Pieces(), x, T)


@settings(max_examples=25, deadline=None)
@given(CASES)
def test_a_linear_map_is_a_convolution_of_one_place_and_pieces_put_together_are_the_whole(
    case: tuple[str, str, int, int],
) -> None:
    neuron, weight, T, seed = case
    torch.manual_seed(seed)
    values, x = torch.randn(3, 8, dtype=torch.float64), torch.randn(6, 8, 1, 1, dtype=torch.float64)
    linear = made(Linear(8, 3, bias=False), values, WEIGHTS[weight]())
    convolution = made(Conv2d(8, 3, 1), values[:, :, None, None], WEIGHTS[weight]())
    plain = nn.Sequential(NEURONS[neuron](), Flatten(), linear)
    same(plain, nn.Sequential(NEURONS[neuron](), convolution, Flatten()), x, T)

    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron, self.flat, self.last = NEURONS[neuron](), Flatten(), linear

        def forward(self, x: Tensor) -> Tensor:
            s = self.neuron(x)
            return self.last(self.flat(torch.cat([s[:, :, :3], s[:, :, 3:]], 2)))  # type: ignore[no-any-return]

    same(plain, Cut(), x, T)
