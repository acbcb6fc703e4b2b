"""Plain networks: widths, counts, both wirings, folding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bitspike.graph import trace
from bitspike.layers import AvgPool2d, BatchNorm, Conv2d, Linear, MaxPool2d, Synapse
from bitspike.models import Policy, inert_parameters, vgg11, vggsnn
from bitspike.neurons import LIF, MultiBit, Ternary
from bitspike.quantizers import Float, Sign, Uniform
from builders import VGGS, WIRINGS, count, expect_fold, expect_shapes, expect_stream, images, tiny


@pytest.mark.parametrize(
    ("name", "shape", "widths", "features"),
    [
        ("vgg11", (3, 32, 32), "64 P 128 P 256 256 P 512 512 P 512 512 P", 512),
        ("vggsnn", (2, 48, 48), "64 128 P 256 256 P 512 512 P 512 512 P", 512 * 9),
    ],
)
def test_widths_and_counts(name: str, shape: tuple[int, int, int], widths: str, features: int) -> None:
    """The VGGSNN of TET and configuration A of Simonyan and Zisserman, each layer counted by hand."""
    with torch.device("meta"):
        net = {"vgg11": vgg11, "vggsnn": vggsnn}[name](LIF(), shape=shape)
    layers = [m for m in net.modules() if isinstance(m, (Conv2d, AvgPool2d, Linear))]
    found = [str(m.weight.shape[0]) if isinstance(m, Synapse) else "P" for m in layers]
    assert " ".join(found) == widths + " 10"
    inputs, side, weights, macs, norms = shape[0], shape[1], 0, 0, 0
    for word in widths.split():
        if word == "P":
            side //= 2
            continue
        weights += 9 * inputs * int(word)
        macs += 9 * inputs * int(word) * side * side
        norms += 2 * int(word)
        inputs = int(word)
    got = count(name, shape)
    assert got.total(1) == weights + 10 * features and got.total(2) == macs + 10 * features
    assert got.parameters == got.total(1) + norms + 10


def test_counts_as_documented() -> None:
    assert f"{count('vgg11', (3, 32, 32)).total(1) / 1e6:.3f}" == "9.223"
    assert f"{count('vgg11', (3, 32, 32)).total(2) / 1e6:.1f}" == "152.8"
    assert f"{count('vggsnn', (2, 48, 48)).total(1) / 1e6:.3f}" == "9.263"


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("name", VGGS)
def test_shapes_and_streams(name: str, wiring: str) -> None:
    expect_shapes(name, wiring)
    expect_stream(name, wiring)


@pytest.mark.parametrize("pool", ["average", "max"])
@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("name", VGGS)
def test_folds(name: str, wiring: str, pool: str) -> None:
    for steps, neuron, weight in (
        (1, MultiBit(1, 1, train_amplitude="channel"), None),
        (2, Ternary(train_amplitude="layer"), Sign("output")),
    ):
        net = tiny(name, neuron, weight=weight, wiring=wiring, pool=pool, T=steps)
        folded = expect_fold(net, images(6, VGGS[name]["shape"]))
        assert not [m for m in folded.modules() if isinstance(m, BatchNorm)]


@pytest.mark.parametrize("pool", ["average", "max"])
@pytest.mark.parametrize("name", VGGS)
def test_neurons_stand_behind_norms_or_in_front_of_synapses(name: str, pool: str) -> None:
    graph = trace(tiny(name, LIF(), pool=pool))
    assert all(isinstance(graph[n.inputs[0]].module, BatchNorm) for n in graph.of_kind("neuron"))
    pools = [n for n in graph if isinstance(n.module, (AvgPool2d, MaxPool2d))]
    assert {type(n.module) for n in pools} == {AvgPool2d if pool == "average" else MaxPool2d}
    assert all(graph[n.inputs[0]].kind == "neuron" for n in pools)
    graph = trace(tiny(name, LIF(), pool=pool, wiring="input", input_neuron=True))
    for node in graph.of_kind("synapse"):
        before = graph[node.inputs[0]]
        assert before.kind == "neuron" and before.consumers == (node.name,)


@pytest.mark.parametrize("name", VGGS)
def test_only_the_amplitude_in_front_of_the_classifier_acts(name: str) -> None:
    for wiring, acting in (("spike", r"body\.conv8\.neuron"), ("input", r"body\.neuron")):
        kinds = {"vgg11": 8, "vggsnn": 8}
        net = tiny(name, MultiBit(train_amplitude="layer"), wiring=wiring)
        every = {n.removesuffix(".emission.raw_amplitude") for n, _ in net.named_parameters() if "amplitude" in n}
        inert = {n.removesuffix(".emission.raw_amplitude") for n in inert_parameters(net)}
        assert len(every) == kinds[name] and every - inert == {acting.replace("\\", "")}


def test_policies_apply_by_role() -> None:
    net = tiny("vggsnn", LIF(), weight=Sign(), policy=Policy(first=Uniform(8), last=Float()))
    found = [type(m.quantizer) for m in net.modules() if isinstance(m, Synapse)]
    assert found == [Uniform, *[Sign] * 7, Float]


def test_the_warning_names_the_line_that_builds() -> None:
    with pytest.warns(UserWarning, match="inert") as caught:
        vggsnn(Ternary(train_amplitude="layer"), width=2, shape=(2, 16, 16))
    assert [w.filename for w in caught] == [__file__]


def test_an_analog_network_and_bad_values() -> None:
    net = tiny("vgg11", nn.ReLU(), T=1, shape=(1, 64, 32))
    assert net(torch.zeros(3, 1, 64, 32)).shape == (3, 10)
    for build, words in (
        (lambda: vgg11(LIF(), shape=(3, 48, 48)), r"vgg11: .*multiples of 32, got \(3, 48, 48\)"),
        (lambda: vggsnn(LIF(), shape=(2, 34, 34)), "vggsnn: .*multiples of 16"),
        (lambda: vgg11(LIF(), pool="avg"), "vgg11: pool must be one of 'average', 'max', got 'avg'"),
        (lambda: vgg11(LIF(), wiring="spikes"), r"did you mean 'spike'\?"),
        (lambda: vgg11(LIF(), width=0), "width must lie in"),
        (lambda: vgg11(LIF(), classes=0), "classes must lie in"),
    ):
        with pytest.raises(ValueError, match=words):
            build()
