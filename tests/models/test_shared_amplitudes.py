"""Neurons whose spikes are added train one amplitude: sums are integers, and what reads them shifts and adds."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.layers import Conv2d, MaxPool2d
from bitspike.models import he_resnet20, resnet18, share_amplitudes, spikformer
from bitspike.neurons import LIF, Adaptive, MultiBit, Neuron, Ternary
from bitspike.training.weights import read_weights, save_weights

SHAPE = (3, 8, 8)


def former(neuron: Neuron) -> nn.Module:
    torch.manual_seed(0)
    net = spikformer(neuron, T=2, width=16, heads=2, depth=2, patch=2, shape=SHAPE)
    for module in net.modules():
        if isinstance(module, Neuron) and module.emission.raw_amplitude is not None:
            module.emission.raw_amplitude.data.uniform_(-0.5, 0.5)
    return net.eval()


def images() -> Tensor:
    return torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["ternary", "graded"])
@pytest.mark.parametrize("sharing", ["layer", "channel"])
def test_sums_of_spikes_become_integers(kind: str, sharing: str) -> None:
    options: dict[str, Any] = {"train_amplitude": sharing, "threshold": 0.5}
    net = former(Ternary(**options) if kind == "ternary" else MultiBit(1, 1, **options))
    x = images()
    apart = bitspike.cost(bitspike.fold(copy.deepcopy(net), x), x)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    (group,) = share_amplitudes(net)
    assert len(group) == 2 + 2 * 2  # patches, position, and two of each block
    first = net.get_submodule(group[0]).emission.raw_amplitude  # type: ignore[union-attr]
    assert all(net.get_submodule(name).emission.raw_amplitude is first for name in group)  # type: ignore[union-attr]
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{name}.emission.raw_amplitude" for name in group[1:]}
    folded = bitspike.fold(net, x)
    assert torch.allclose(folded(x), net(x), atol=1e-4) and folded.report.forced_flips == 0
    together = bitspike.cost(folded, x)
    readers = [row.name for row in apart.synapses if row.input_bits == 32 and row.role == "hidden"]
    assert len(readers) == 2 * 4  # queries, keys, values, the perceptron's first map
    left = [row.name for row in together.synapses if row.input_bits == 32 and row.role == "hidden"]
    assert left == []
    assert together.total("multiplications", ["first"]) < apart.total("multiplications", ["first"])
    assert together.total("s_ace") < 0.6 * apart.total("s_ace")


def test_the_parameter_gets_the_gradients_of_all() -> None:
    net = former(MultiBit(1, 1, train_amplitude="layer", threshold=0.5)).double()
    (group,) = share_amplitudes(net)
    apart = copy.deepcopy(net)
    for name in group:
        emission = apart.get_submodule(name).emission
        emission.raw_amplitude = nn.Parameter(emission.raw_amplitude.detach().clone())  # type: ignore[union-attr]
    for one in (net, apart):
        one(images().double()).square().sum().backward()
    whole = net.get_submodule(group[0]).emission.raw_amplitude.grad  # type: ignore[union-attr]
    parts = [apart.get_submodule(name).emission.raw_amplitude.grad for name in group]  # type: ignore[union-attr]
    torch.testing.assert_close(whole, sum(parts))
    assert len(list(net.parameters())) == len(list(apart.parameters())) - len(group) + 1


class Pooled(nn.Module):
    """Sums of spikes with pooled spikes, of currents, and of a spike with a current."""

    def __init__(self, *neurons: Neuron) -> None:
        super().__init__()
        self.a, self.b, self.c = (Conv2d(2, 2, 1) for _ in range(3))
        self.one, self.two, self.three = neurons
        self.pool = MaxPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        s = self.pool(self.one(self.a(x)))
        t = s + self.two(self.b(x) + x)
        return t + self.three(self.c(t)) + self.c(x)


def test_only_spikes_with_spikes_are_looked_at() -> None:
    neurons = [LIF(train_amplitude="layer") for _ in range(3)]
    assert share_amplitudes(Pooled(*neurons)) == [["one", "two", "three"]]
    assert share_amplitudes(nn.Sequential(Conv2d(2, 2, 1), LIF(train_amplitude="layer"))) == []
    plain = [LIF(), LIF(), LIF(amplitude=2.0)]  # fixed ones stay
    assert share_amplitudes(Pooled(*plain)) and plain[2].emission.initial == 2.0
    net = he_resnet20(LIF(train_amplitude="layer"), width=4, shape=SHAPE)
    assert share_amplitudes(net) == []  # spikes are added to currents
    sew = resnet18(LIF(train_amplitude="layer"), width=4, shape=(3, 32, 32), sew=True)
    assert [len(group) for group in share_amplitudes(sew)] and all(map(len, share_amplitudes(sew)))


@pytest.mark.parametrize(
    ("neurons", "said"),
    [
        ((LIF(train_amplitude="layer"), LIF(), LIF()), r"one and two are added.* and a fixed one of 1; give both"),
        ((LIF(train_amplitude="layer"), MultiBit(1, 1, train_amplitude="layer"), LIF()), "with 1 fractional bits"),
        ((Adaptive(2), Adaptive(2), Adaptive(2)), "the step size of one must not be renewed by its own bits"),
    ],
)
def test_what_cannot_share_is_named(neurons: tuple[Neuron, ...], said: str) -> None:
    with pytest.raises(ValueError, match=f"share_amplitudes: .*{said}"):
        share_amplitudes(Pooled(*neurons))


def test_weights_are_kept_and_loaded(tmp_path: Path) -> None:
    net, other = (former(MultiBit(1, 1, train_amplitude="layer")) for _ in range(2))
    for one in (net, other):
        share_amplitudes(one)
    for parameter in net.parameters():
        parameter.data.mul_(0.7)
    save_weights(tmp_path / "net.safetensors", net.state_dict(), {"name": "shared"})
    other.load_state_dict(read_weights(tmp_path / "net.safetensors", "try again", hashed=True))
    assert torch.equal(net(images()), other(images()))
