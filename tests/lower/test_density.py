"""Densities that `compile` notes: the share of what a synapse reads that is not 0, counted in the network itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import bitspike
from bitspike.graph import trace
from bitspike.layers import Encoder, Latency, Linear, MeanReadout, Repeat
from bitspike.lower import Pixels
from bitspike.lower.density import SAMPLES
from bitspike.runtime.density import densities


def network(encoder: Encoder | None) -> nn.Module:
    torch.manual_seed(0)
    layers = [Linear(6, 40), bitspike.neurons.LIF(), Linear(40, 3), MeanReadout()]
    return nn.Sequential(encoder or nn.Identity(), *layers).eval()


def shares(model: nn.Module, x: torch.Tensor) -> list[float]:
    """What the two linear maps read of the first samples, in the network."""
    read: list[float] = []

    def note(node: Any, call: Any, args: Any) -> Any:
        if isinstance(node.module, Linear):
            read.append(float((args[0] != 0).double().mean()))
        return call()

    graph = trace(model)
    graph.run(x.narrow(graph.batch_axis, 0, SAMPLES), handler=note)
    return read


def check(model: nn.Module, x: torch.Tensor, **options: Any) -> Any:
    program = bitspike.compile(model, x, input_bits=16, weight_bits=16, **options)
    found = program.spec.info["density"]
    assert list(found) == [made.op.name for made in program.operations if "weight" in made.constants]
    assert list(found.values()) == pytest.approx(shares(model, x), abs=0.02)
    assert all(0.01 < share < 1 for share in found.values())
    return program


def test_real_inputs_and_spikes() -> None:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    x[:, :3] = 0
    program = check(network(Repeat(4)), x)
    assert program.spec.info["density"] == densities(program, x[:SAMPLES].numpy())


def test_spikes_of_an_encoder() -> None:
    check(network(Latency(4)), torch.rand(40, 6, generator=torch.Generator().manual_seed(0)))


def test_sequences() -> None:
    check(network(None), torch.randint(0, 2, (5, 40, 6), generator=torch.Generator().manual_seed(0)).float())


def test_raw_images() -> None:
    """What the table makes of pixels that stand for 0 is 0."""
    images = torch.randint(0, 17, (40, 6, 1, 1), generator=torch.Generator().manual_seed(0))
    images[:, :3] = 8
    torch.manual_seed(0)
    net = nn.Sequential(
        Repeat(2),
        bitspike.layers.Conv2d(6, 40, 1),
        bitspike.neurons.LIF(),
        bitspike.layers.Conv2d(40, 3, 1),
        MeanReadout(),
    )
    x = (images / 16 - 0.5) / 0.25
    pixels = Pixels(16, (0.5,) * 6, (0.25,) * 6)
    program = bitspike.compile(net.eval(), x, input_bits=16, weight_bits=16, pixels=pixels)
    first, second = program.spec.info["density"].values()
    assert first == float((images[:SAMPLES] != 8).double().mean().round(decimals=4))
    assert 0.01 < second < 1
