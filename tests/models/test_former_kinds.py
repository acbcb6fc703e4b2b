"""Every transformer with every kind of spikes: gradients, fold, streams, counts and programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.lower import compare
from bitspike.neurons import LIF, Adaptive, Integer, MultiBit, Real, Ternary
from bitspike.quantizers import Quantizer, Sign, TernaryWeight, Uniform
from bitspike.runtime import Program
from bitspike.runtime.engine import why_missing
from builders import FORMERS, images, tiny
from networks import liven, rng

SHAPE = (3, 8, 8)
OWN: dict[str, dict[str, Any]] = {
    "spikformer": {"shape": SHAPE, "width": 32, "heads": 2, "depth": 1},
    "qkformer": {"heads": 2},
}
NETS = ["spikformer", *FORMERS]
KINDS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Quantizer | None]]] = {
    "binary": (lambda: LIF(decay=0.5, train_amplitude="channel"), lambda: None),
    "ternary": (lambda: Ternary(decay=0.5, train_amplitude="channel"), TernaryWeight),
    "multibit": (lambda: MultiBit(2, 1, train_amplitude="layer"), lambda: Uniform(4)),
    "reverb": (Real, lambda: Sign("input")),
    "integer": (lambda: Integer(4), lambda: Uniform(4)),
    "adaptive": (lambda: Adaptive(2, decay=0.5), lambda: Uniform(8)),
}


def live(name: str, kind: str) -> tuple[nn.Module, Tensor]:
    neuron, weight = KINDS[kind]
    x = images(6, SHAPE)
    return liven(tiny(name, neuron(), weight=weight(), **OWN.get(name, {})), x), x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETS)
def test_every_parameter_has_a_gradient(name: str, kind: str) -> None:
    net, x = live(name, kind)
    y = net(x)
    (y * torch.randn(y.shape, generator=rng(5), dtype=y.dtype)).sum().backward()
    without = [key for key, p in net.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert not without
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)


def test_a_mask_over_one_channel_does_not_hear_its_amplitude() -> None:
    """Eight heads of 8 channels: a gate of signs sees one q, ±1.2 against a threshold of 0.5, and sends its sign.

    The gradient of that amplitude is 0 because the network does not depend on it, and not that of two channels a head.
    """
    x = images(6, SHAPE)
    net = liven(tiny("qkformer", Ternary(train_amplitude="layer"), heads=8), x)
    wanted = net(x)
    (wanted * torch.randn(wanted.shape, generator=rng(5), dtype=wanted.dtype)).sum().backward()
    deaf, hears = (net.get_submodule(f"body.block{stage}_1.attention.q.2").emission.raw_amplitude for stage in (1, 2))
    assert not deaf.grad.any() and hears.grad.any()
    with torch.no_grad():
        deaf += 0.25
        assert torch.equal(net(x), wanted)
        hears -= 2  # below the threshold
        assert not torch.equal(net(x), wanted)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETS)
def test_folded_streamed_counted(name: str, kind: str) -> None:
    net, x = live(name, kind)
    folded = bitspike.fold(net, x)
    assert folded.report.forced_flips == 0 and folded.report.max_logit_difference < 1e-9
    assert not bitspike.cost(folded, x).uncounted
    sequence, state = net.encoder(x), None
    with torch.no_grad():
        whole = net(x)
        for step in sequence.split(1):
            y, state = bitspike.stream(net, step, state)
    torch.testing.assert_close(y, whole, rtol=1e-10, atol=1e-10)
    assert whole.unique().numel() > 10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETS)
def test_program(name: str, kind: str) -> None:
    """Calibrated on random data, 16 bits: what is sent is nearly the same, and the engine is the interpreter."""
    net, x = live(name, kind)
    folded = bitspike.fold(net, x)
    program = bitspike.compile(folded, x, weight_bits=16, spike_bits=16, input_bits=16)
    layers = compare(program, folded, [x]).layers.values()
    assert sum(layer.forced for layer in layers) <= 1e-2 * sum(layer.spikes for layer in layers)
    if why_missing():
        pytest.skip(f"not run: {why_missing()}")
    native, plain = (Program(program.spec, engine=engine)(x.numpy()) for engine in ("native", "interpreter"))
    assert np.array_equal(native.levels, plain.levels) and np.abs(plain.levels).max() > 0
