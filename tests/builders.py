"""Tiny versions of the deep networks, and counts of the full ones without allocating them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import bitspike
from bitspike.fold import Folded
from bitspike.graph import Node, trace
from bitspike.layers import Refined, Synapse
from bitspike.models import MODELS, Network
from bitspike.models.builder import new_network
from bitspike.models.network import finish
from bitspike.models.options import Options
from bitspike.models.residual import Plan, residual_body
from bitspike.neurons import LIF, NEURONS, Adaptive, MultiBit, Neuron
from networks import SHAPE, liven, make_neuron, rng

RESNETS: dict[str, dict[str, Any]] = {
    "resnet19": {"shape": (3, 8, 8)},
    "resnet20": {"shape": (3, 16, 16)},
    "wide_resnet20": {"shape": (3, 8, 8)},
    "resnet18_cifar": {"shape": (3, 8, 8)},
    "he_resnet20": {"shape": (3, 8, 8)},
    "he_resnet32": {"shape": (3, 8, 8), "shortcut": "stride"},
    "resnet18": {"shape": (3, 32, 32), "classes": 10},
    "resnet34": {"shape": (3, 32, 32), "classes": 10, "sew": True},
}
VGGS: dict[str, dict[str, Any]] = {
    "vgg11": {"shape": (3, 32, 32), "pool": "max"},
    "vggsnn": {"shape": (2, 16, 16)},
}
FORMERS: dict[str, dict[str, Any]] = {
    "spike_driven_transformer": {"shape": (3, 8, 8), "width": 32, "wiring": "input"},
    "qkformer": {"shape": (3, 8, 8), "width": 32, "wiring": "spike"},
    "e_spikeformer": {
        **{"shape": (3, 8, 8), "width": 8, "last_width": 24, "depths": (1, 1), "heads": 2, "patch": 4},
        **{"classes": 10, "wiring": "input"},
    },
    "maxformer": {"shape": (3, 8, 8), "width": 32, "wiring": "input"},
}
TINY = RESNETS | VGGS
SMALL = TINY | FORMERS
WIRINGS = ("spike", "input")
KINDS: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda name=name: make_neuron(name, amplitude=2.0, decay=0.5) for name in sorted(NEURONS)},  # type: ignore[misc]
    "adaptive, steps of their own": lambda: Adaptive(2, steps=3, decay=0.5),
    "adaptive, steps and channels": lambda: Adaptive(2, steps=6, sharing="channel", decay=0.5),
    "refined": lambda: Refined(LIF(decay=0.5), T=2),
    "refined with steps": lambda: Refined(Adaptive(2, steps=2), T=2),
    "refined, differs": lambda: Refined(MultiBit(1, 1), T=2, squeeze="differs"),
    "refined, windows": lambda: Refined(MultiBit(1, 1), T=2, squeeze="windows"),
}


def residual(neuron: nn.Module, wiring: str, readout: str) -> Network:
    """Two residual blocks, T = 4; shortcuts carry spikes or, wired at the input, currents."""
    options = Options(neuron, T=4, shape=SHAPE, width=4, classes=5, wiring=wiring, readout=readout)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)
        torch.manual_seed(0)
        body = residual_body("residual", Plan((1, 1)), options)
        return finish(new_network(body, options.encoder, 4, readout), None, None)


def images(count: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal inputs [count, C, H, W], the same at every call."""
    return torch.randn(count, *shape, generator=rng(0), dtype=dtype)


def tiny(name: str, neuron: nn.Module, **options: Any) -> Network:
    """A network 4 channels wide from seed 0, silent about inert factors."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)
        torch.manual_seed(0)
        return MODELS[name](neuron, **{"T": 2, "width": 4, **SMALL.get(name, {}), **options})


@dataclass(frozen=True)
class Count:
    """Parameters of all kinds; per synapse its role, weights, MACs, input values; output values of all neurons."""

    parameters: int
    rows: list[tuple[str, int, int, int]]
    neurons: int

    def total(self, column: int, stem: bool = True) -> int:
        return sum(row[column] for row in self.rows if stem or row[0] != "first")

    @property
    def stem_macs(self) -> int:
        return next(row[2] for row in self.rows if row[0] == "first")


def count(name: str, shape: tuple[int, int, int], **options: Any) -> Count:
    """Counts of a full network at T = 1, B = 1, on the meta device."""
    with torch.device("meta"):
        net = MODELS[name](MultiBit(2, 2), shape=shape, T=1, **options).eval()
        x = torch.zeros(1, *shape)
    rows, neurons = [], 0

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        nonlocal neurons
        value = call()
        if isinstance(node.module, Synapse):
            macs = node.module.macs(tuple(value.shape))
            rows.append((node.module.role, node.module.weight.numel(), macs, args[0].numel()))
        neurons += value.numel() if isinstance(node.module, Neuron) else 0
        return value

    with torch.no_grad():
        trace(net).run(x, handler=note)
    return Count(sum(p.numel() for p in net.parameters()), rows, neurons)


def expect_shapes(name: str, wiring: str) -> None:
    """Logits [B, K] at T = 1 and 2, or [T, B, K], with a gradient for every parameter; the trace agrees."""
    x = images(2, SMALL[name]["shape"], torch.float32)
    for steps in (1, 2):
        net = tiny(name, MultiBit(1, 1), T=steps, wiring=wiring)
        assert net(x).shape == (2, 10)
        assert trace(net).run(x).shape == (2, 10)
    net = tiny(name, MultiBit(1, 1), wiring=wiring, readout="steps")
    logits = net(x)
    assert logits.shape == (2, 2, 10)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def expect_stream(name: str, wiring: str) -> None:
    """Chunks of 1 and 2 steps give the result of 3 steps."""
    x = images(2, SMALL[name]["shape"])
    net = liven(tiny(name, MultiBit(1, 1), T=3, wiring=wiring), x)
    sequence = net.encoder(x)
    with torch.no_grad():
        _, states = bitspike.stream(net, sequence[:1])
        got, _ = bitspike.stream(net, sequence[1:], states)
        torch.testing.assert_close(got, net(x), rtol=1e-10, atol=1e-10)


def expect_fold(model: nn.Module, x: Tensor) -> Folded:
    """Folding in float64 flips nothing away from a threshold, and every layer fires between 2 and 98 %."""
    liven(model, x)
    if any(isinstance(module, nn.ReLU) for module in model.modules()):
        for name, module in model.named_modules():  # sums of rectified values only grow: lower what is added
            if name.endswith("norm2"):
                module.bias.data -= next(m for m in model.modules() if isinstance(m, Neuron)).stairs.first
    folded = bitspike.fold(model, x)
    rates = {name: layer.rate for name, layer in folded.report.layers.items()}
    assert rates and not [name for name, rate in rates.items() if not 0.02 <= rate <= 0.98], rates
    assert folded.report.forced_flips == 0 and folded.report.agreement == 1.0
    return folded
