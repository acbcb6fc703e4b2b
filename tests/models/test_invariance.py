"""A sample's spikes do not depend on its batch: exactly in float64; in float32 flips are counted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bitspike import fold, trace
from bitspike.graph import Graph
from networks import NETS, SPIKING, WEIGHTS, flipped_samples, flips_between, liven, make_neuron, samples, spikes_of


def in_batches(net: nn.Module | Graph, x: Tensor, size: int) -> tuple[Tensor, dict[str, Tensor]]:
    parts = [spikes_of(net, chunk) for chunk in x.split(size)]
    return torch.cat([y for y, _ in parts]), {n: torch.cat([levels[n] for _, levels in parts], 1) for n in parts[0][1]}


def build(spiking: str, weight: str, net: str, x: Tensor, **options: object) -> nn.Module:
    neuron = make_neuron(spiking, amplitude=1.37, train_amplitude="channel", learn_decay=True)
    return liven(NETS[net](neuron, WEIGHTS[weight](), T=3, **options), x)


@pytest.mark.parametrize(("net", "weight"), [("pool_net", "float"), ("study_cnn", "sign-input")])
@pytest.mark.parametrize("spiking", SPIKING)
def test_float64_spikes_are_identical(spiking: str, weight: str, net: str) -> None:
    x = samples(64)
    model = build(spiking, weight, net, x)
    for graph in (trace(model), fold(model, x[:16]).graph):
        wanted, whole = in_batches(graph, x, 64)
        for size in (1, 7):
            got, levels = in_batches(graph, x, size)
            flips = flips_between(whole, levels, spiking == "real")
            assert sum(int(f.sum()) for f in flips.values()) == 0
            assert (wanted - got).abs().max() <= 1e-9


@pytest.mark.parametrize("weight", ["float", "sign-input"])
@pytest.mark.parametrize("spiking", SPIKING)
def test_float32_flips_are_counted(spiking: str, weight: str, record_property: pytest.RecordProperty) -> None:
    x = samples(64, dtype=torch.float32)
    model = build(spiking, weight, "study_cnn", x)
    wanted, whole = in_batches(model, x, 64)
    for size in (1, 7):
        got, levels = in_batches(model, x, size)
        flips = flips_between(whole, levels, spiking == "real")
        count, total = (sum(v) for v in zip(*((int(f.sum()), f.numel()) for f in flips.values()), strict=True))
        record_property(f"flips_batch_{size}", f"{count} of {total}")
        flipped = flipped_samples(flips)
        assert int(flipped.sum()) <= 3 and count <= 1e-3 * total
        assert (wanted - got)[~flipped].abs().max() <= 1e-4 * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize("encoder", ["poisson", "latency"])
def test_encoded_noise_belongs_to_the_sample(encoder: str) -> None:
    x = samples(16).sigmoid()
    model = build("lif", "float", "study_cnn", x, encoder=encoder)
    _, whole = in_batches(model, x, 16)
    _, single = in_batches(model, x, 1)
    order = torch.arange(16).flip(0)
    _, turned = in_batches(model, x[order], 16)
    assert all(torch.equal(whole[name], single[name]) for name in whole)
    assert all(torch.equal(whole[name][:, order], turned[name]) for name in whole)


def test_a_flip_would_be_seen() -> None:
    x = samples(16)
    model = build("lif", "float", "study_cnn", x)
    _, before = in_batches(model, x, 16)
    _, after = in_batches(model, x * 1.1, 16)
    assert flipped_samples(flips_between(before, after, real=False)).all()
