"""Learned bits of spikes in multi-bit and integer formats: gradients, widths, formats, training, folding."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike import fold
from bitspike.allocation.averages import Averages
from bitspike.allocation.config import AllocationConfig
from bitspike.allocation.widths import Allocation
from bitspike.cost import cost
from bitspike.functional import learns_bits
from bitspike.layers import BatchNorm, Linear, Refined
from bitspike.neurons import Integer, MultiBit, Neuron
from bitspike.quantizers import LearnedBits
from bitspike.testing import finite_differences
from bitspike.training.build import build_neuron
from bitspike.training.recipe import ComponentConfig
from networks import liven, rng, samples, small_cnn

KINDS: dict[str, tuple[type[Neuron], dict[str, Any]]] = {
    "multibit-integer": (MultiBit, {"m": 1, "n": 1, "learn_bits": "integer"}),
    "multibit-fraction": (MultiBit, {"m": 1, "n": 1, "learn_bits": "fraction"}),
    "integer": (Integer, {"D": 3, "learn_bits": "integer"}),
}


def make(kind: str, **options: Any) -> Any:
    cls, given = KINDS[kind]
    return cls(**{**given, **options})


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_hand(kind: str) -> None:
    """over·ln2·2^B levels for the range; ln2·(u − s) inside and ln2·Δ above it for the resolution."""
    neuron = make(kind, decay=0.0, amplitude=0.75).double()
    delta, q, fraction = neuron.stairs.spacing, 3, neuron.grows == "fraction"
    x = 3 * torch.rand(1, 6, 40, generator=rng(0), dtype=torch.float64) * delta * 2 - delta
    g = torch.randn(x.shape, generator=rng(1), dtype=torch.float64)
    neuron(x).backward(g)
    low, high = neuron.stairs.first - delta / 2, neuron.stairs.first + (q - 0.5) * delta
    wanted, kinds = 0.0, set()
    for u, grad in zip(x.flatten().tolist(), g.flatten().tolist(), strict=True):
        s = neuron(torch.full((1, 1, 1), u, dtype=torch.float64)).item()
        inside, over = low < u < high, u > high
        kinds.add((inside, over))
        if not fraction:
            wanted += grad * over * math.log(2) * 4 * 0.75 * 2.0**-neuron.format.fraction_bits
        else:
            wanted += grad * math.log(2) * ((0.75 * u if inside else 0.0) - s + over * 0.75 * delta * 4)
    assert len(kinds) == 3
    assert neuron.raw_bits.grad.item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("reset", [("soft", True), ("soft", False), ("hard", True)])
@pytest.mark.parametrize("surrogate", ["rectangle", "atan:2.0"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_differences_on_the_relaxed_network(kind: str, surrogate: str, reset: tuple[str, bool]) -> None:
    """With learned weight bits and learned T around them; currents, weights, amplitudes and bits."""
    torch.manual_seed(0)
    neuron = make(kind, surrogate=surrogate, reset=reset[0], detach_reset=reset[1], train_amplitude="channel")
    norm = BatchNorm(5)
    nn.init.constant_(norm.weight, 1.5)
    nn.init.normal_(norm.bias, 1.0, 0.3)
    weight = LearnedBits(3, scale_gradient=False)
    refined = Refined(neuron, T=3, learn_T=True).replicate(5)
    model = nn.Sequential(Linear(4, 5, bias=False, weight=weight), norm, refined, Linear(5, 2, weight=weight)).double()
    x = torch.randn(1, 12, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randn(1, 12, 2, dtype=torch.float64)
    named = {"x": x, **dict(model.named_parameters())}

    def loss() -> Tensor:
        return (model(x) - target).square().mean()

    found = torch.autograd.grad(loss(), list(named.values()))
    wanted = finite_differences(loss, named.values(), model)
    for (name, one), other in zip(zip(named, found, strict=True), wanted, strict=True):
        gap = ((one - other).abs() / (1 + other.abs())).max()
        assert gap <= 1e-6, f"{name}: autograd {one.tolist()}, differences {other.tolist()}"
    assert dict(zip(named, found, strict=True))["2.neuron.raw_bits"].abs() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_alphabet_follows_the_width(kind: str) -> None:
    neuron = make(kind)
    for raw, bits in ((2.4, 2), (2.5, 3), (-4.2, 4), (99.0, 4), (0.1, 1)):
        before = neuron.format
        neuron.raw_bits.data.fill_(raw)
        assert neuron.format == before
        neuron.refresh()
        assert neuron.format.bits == bits == int(neuron.width) and neuron.format.high == 2**bits - 1
        top = neuron(torch.full((1, 1, 1), 1e4)).item()
        step = 2.0 ** -(bits - 1) if kind == "multibit-fraction" else 0.5 if kind == "multibit-integer" else 1.0
        assert top == step * (2**bits - 1) and neuron.emission.scale() == step
        assert neuron.stairs.spacing == step and neuron.stairs.count == 2**bits - 1
    twin = make(kind)
    twin.load_state_dict(neuron.state_dict())
    assert twin.format == neuron.format and twin.stairs == neuron.stairs


def test_the_parts_that_stay_set_the_least_width() -> None:
    for options, least in (
        ({"m": 2, "n": 1, "learn_bits": "fraction"}, 2),
        ({"m": 2, "n": 1, "learn_bits": "integer"}, 1),
        ({"m": 0, "n": 3, "learn_bits": "integer"}, 3),
        ({"m": 0, "n": 3, "learn_bits": "fraction"}, 1),
    ):
        neuron = MultiBit(**options)  # type: ignore[arg-type]
        assert neuron.raw_bits is not None
        neuron.raw_bits.data.fill_(0.0)
        neuron.refresh()
        assert neuron.format.bits == least


def test_fixed_bits_stay_as_they_were() -> None:
    """No key in the state, nothing that training would take for a width, and the fused kernels."""
    for neuron in (MultiBit(1, 1), Integer(4), Integer(3)):
        assert not neuron.state_dict() and not learns_bits(neuron) and not isinstance(neuron.fused(), str)
        before = neuron.format
        neuron.refresh()
        assert neuron.format == before
    assert Integer(4).format.high == 4
    assert isinstance(Integer(3, learn_bits="integer").fused(), str)


@pytest.mark.parametrize("kind", KINDS)
def test_learned_bits_start_as_fixed_ones(kind: str) -> None:
    cls, given = KINDS[kind]
    fixed = cls(**{key: value for key, value in given.items() if key != "learn_bits"})
    x = torch.randn(3, 4, 5, generator=rng(0)) * 2
    assert torch.equal(make(kind)(x), fixed(x))


@pytest.mark.parametrize("kind", KINDS)
def test_a_pull_lowers_the_bits_and_clipping_raises_them(kind: str) -> None:
    neuron, x = make(kind, decay=0.0), torch.full((1, 4, 5), 3.7)
    model = nn.Sequential(neuron)
    optimiser = torch.optim.SGD([neuron.raw_bits], lr=0.1)
    allocation = Allocation(model, AllocationConfig(spike_target=1.0, spike_pull=1.0))
    pull = Averages(allocation, x)
    seen = []
    for lower in (True, False):
        for _ in range(20):
            optimiser.zero_grad()
            (pull() if lower else (model(x) - 3.7).square().mean()).backward()
            optimiser.step()
            allocation.settle(x, optimiser)
        seen.append(int(neuron.width))
    assert seen[0] == 1 and seen[1] > 1 and allocation.in_use()["spikes"] == {"0": float(seen[1])}


@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_learned_widths_fold(kind: str) -> None:
    """Other bits in every layer; the folded neurons have none to learn, so fused kernels run them."""
    x = samples(8)
    net = liven(small_cnn(make(kind, train_amplitude="layer"), LearnedBits(3)), x)
    for bits, neuron in enumerate(m for m in net.modules() if isinstance(m, Neuron)):
        neuron.raw_bits.data.fill_(1.0 + bits % 4)  # type: ignore[operator, union-attr]
        neuron.refresh()  # type: ignore[operator]
    folded = fold(net, x)
    assert folded.report.forced_flips == 0 and folded.report.max_logit_difference < 1e-9
    neurons = [node.module for node in folded.graph.of_kind("neuron")]
    assert [n.format.bits for n in neurons] == [1, 2, 3, 4, 1]  # type: ignore[union-attr]
    assert not any(isinstance(n.fused(), str) for n in neurons)  # type: ignore[union-attr]
    hidden = [row for row in cost(folded.graph, x).synapses if row.role == "hidden"]
    assert {row.input_bits for row in hidden} == {1, 2, 3, 4}


def test_a_recipe_names_it() -> None:
    neuron = build_neuron(ComponentConfig("multibit", {"m": 1, "n": 2, "learn_bits": "fraction", "bound": 6}))
    assert isinstance(neuron, MultiBit) and neuron.bound == 6 and learns_bits(neuron)


def test_bad_values(refuses: Any) -> None:
    with refuses("MultiBit", "learn_bits", "'none', 'integer', 'fraction'"):
        MultiBit(learn_bits="both")
    with refuses("MultiBit", "bound must lie in [2, 8]"):
        MultiBit(1, 1, learn_bits="integer", bound=9)
    with refuses("Integer", "D must be 2^B - 1 where bits are learned", "got 4"):
        Integer(4, learn_bits="integer")
    with refuses("Integer", "learn_bits", "'none', 'integer'"):
        Integer(3, learn_bits="fraction")
