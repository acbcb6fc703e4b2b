"""Attention layers through fold, streams and programs: on a dyadic grid exactly, elsewhere within rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bitspike
from attention_nets import TokenNet, token_net, tokens
from bitspike.layers import ATTENTION, Gain
from bitspike.lower import compare
from bitspike.neurons import LIF, MultiBit, Ternary
from bitspike.runtime import Program
from bitspike.runtime.engine import why_missing
from bitspike.testing import check_program
from lower_nets import WIDE, on_grid
from networks import SPIKING, WEIGHTS, liven, make_neuron

KINDS = [
    ("lif", "none", "float"),
    ("lif", "none", "sign-output"),
    ("ternary", "layer", "ternary-layer"),
    ("ternary", "channel", "float"),
    ("multibit", "layer", "uniform4-layer"),
    ("multibit", "channel", "uniform3-output"),
    ("integer", "none", "uniform4-layer"),
    ("integer", "layer", "float"),
    ("adaptive", "layer", "float"),
    ("real", "layer", "sign-input"),
]


def live(name: str, neuron: str, train: str, weight: str, **options: Any) -> tuple[TokenNet, torch.Tensor]:
    """A network whose norms, factors and shifts are random, and inputs."""
    x = tokens(24)
    net = token_net(name, make_neuron(neuron, train_amplitude=train), WEIGHTS[weight](), **options)
    return liven(net, x), x  # type: ignore[return-value]


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
@pytest.mark.parametrize("name", list(ATTENTION))
def test_folded_is_the_network(name: str, kind: tuple[str, str, str]) -> None:
    net, x = live(name, *kind)
    folded = bitspike.fold(net, x)
    report = folded.report
    assert report.forced_flips == 0 and report.max_logit_difference < 1e-9
    with torch.no_grad():
        torch.testing.assert_close(folded(x), net(x), rtol=0, atol=1e-9)
    inner = [layer.rate for key, layer in report.layers.items() if key != "first"]
    assert min(inner) > 0.01 and len(inner) == {"ssa": 5, "sdsa": 5}.get(name, 4)


@pytest.mark.parametrize("name", list(ATTENTION))
def test_amplitudes_move_through_products(name: str) -> None:
    """One factor a layer needs no gain but in front of a neuron: sums of q (and of q ⊙ k), and scores."""
    net, x = live(name, "ternary", "layer", "float")
    folded = bitspike.fold(net, x)
    gains = [node for node in folded.graph if isinstance(node.module, Gain)]
    assert len(gains) == 1
    assert all(folded.graph[user].kind in ("neuron", "layer") for user in gains[0].consumers)
    products = [node.name for node in folded.graph if getattr(node.module, "scaling", "") == "product"]
    edges = folded.graph.edges(x)
    for product in products:
        spikes = edges.spikes[product]
        assert spikes is not None and spikes.format is not None and not spikes.format.real
        assert float(spikes.scale) == 1.0


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1], [2, 2], [3, 1]])
@pytest.mark.parametrize("neuron", ["lif", "ternary", "multibit", "real", "adaptive"])
@pytest.mark.parametrize("name", list(ATTENTION))
def test_streams_are_whole_runs(name: str, neuron: str, sizes: list[int]) -> None:
    net, x = live(name, neuron, "layer", "uniform4-layer", T=4)
    x_seq = net.encoder(x[:5]) * torch.tensor([1.0, 0.5, 2.0, 0.0], dtype=x.dtype).reshape(4, 1, 1, 1)
    whole, states = bitspike.stream(net, x_seq)[0], None
    for chunk in x_seq.split(sizes):
        y, states = bitspike.stream(net, chunk, states)
    assert torch.equal(y, whole) and whole.unique().numel() > 5


@pytest.mark.parametrize(
    "kind",
    [
        ("lif", "none", "sign-layer"),
        ("ternary", "layer", "ternary-layer"),
        ("multibit", "layer", "float"),
        ("integer", "none", "uniform4-layer"),
    ],
    ids="-".join,
)
@pytest.mark.parametrize("name", list(ATTENTION))
def test_programs_on_a_grid_are_exact(name: str, kind: tuple[str, str, str]) -> None:
    neuron, train, weight = kind
    x = torch.round(tokens(12) * 16) / 16
    net = token_net(name, make_neuron(neuron, train_amplitude=train, decay=0.5), WEIGHTS[weight]())
    folded = bitspike.fold(on_grid(net, x), x)
    program, found = check_program(folded, x, **WIDE)
    assert found.max_logit_difference == 0
    if why_missing():
        pytest.skip(f"not run: {why_missing()}")
    numbers = x.numpy()
    native, plain = (Program(program.spec, engine=engine)(numbers) for engine in ("native", "interpreter"))
    assert np.array_equal(native.levels, plain.levels) and np.abs(plain.levels).max() > 0


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
@pytest.mark.parametrize("name", list(ATTENTION))
def test_programs_on_random_data(name: str, kind: tuple[str, str, str]) -> None:
    net, x = live(name, *kind)
    folded = bitspike.fold(net, x)
    program = bitspike.compile(folded, x, weight_bits=16, spike_bits=16, input_bits=16)
    found = compare(program, folded, [x])
    neurons = sum(layer.spikes for layer in found.layers.values())
    assert sum(layer.forced for layer in found.layers.values()) <= 1e-2 * neurons
    assert found.agreement is None or found.agreement > 0.9


def test_a_network_of_layers_that_add_currents() -> None:
    """A shortcut around attention that ends in currents, as in the spike-driven transformer."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fire = Ternary()
            self.attend = ATTENTION["sdsa"](6, 5, LIF(), heads=2, output="current")
            self.last = nn.Sequential(MultiBit(2), bitspike.layers.Flatten(), bitspike.layers.Linear(30, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(x + self.attend(self.fire(x)))

    torch.manual_seed(0)
    x = torch.stack([tokens(8, seed) for seed in (1, 2)])
    net = Block().double().eval()
    folded = bitspike.fold(net, x)
    assert folded.report.forced_flips == 0 and not bitspike.cost(folded, x).uncounted
    assert compare(bitspike.compile(folded, x), folded, [x]).samples == 8


def test_every_kind_of_neuron_is_tried() -> None:
    assert {kind[0] for kind in KINDS} == set(SPIKING)
