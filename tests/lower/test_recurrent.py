"""Recurrent layers as programs: the network's spikes, live too, on every engine and in C; what cannot be is refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.export import export
from bitspike.layers import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Flatten,
    Linear,
    MeanReadout,
    Potential,
    Recurrent,
    Refined,
    Repeat,
)
from bitspike.lower import compare
from bitspike.neurons import LIF, NEURONS, MultiBit, Neuron, Real, Ternary
from bitspike.quantizers import Quantizer, Sign, TernaryWeight, Uniform
from bitspike.runtime import Program
from export_c import Compiled

NEURON = {
    "binary": lambda: LIF(decay=0.5),
    "soft": lambda: LIF(decay=0.5, reset="soft"),
    "ternary": lambda: Ternary(amplitude=0.75),
    "multi-bit": lambda: MultiBit(1, 1, amplitude=1.5, train_amplitude="channel"),
    "signed": lambda: NEURONS["signed"](2, decay=1.0),
}
WEIGHT = {
    "float": None,
    "4 bit": lambda: Uniform(4),
    "±1": lambda: Sign("output"),
    "ternary": lambda: TernaryWeight("input"),
}


def net(
    neuron: Neuron, weight: Quantizer | None = None, images: bool = False, steps: int = 5
) -> tuple[nn.Module, Tensor]:
    """6 numbers (or 2 × 6 × 6) → 8 neurons that hear each other → 5 classes, and samples it is folded on."""
    torch.manual_seed(3)
    own = Conv2d(8, 8, 3, padding=1, weight=weight) if images else Linear(8, 8, weight=weight)
    loop = Recurrent(neuron.replicate(8), own)
    own.weight.data *= 2
    first = Conv2d(2, 8, 3, padding=1) if images else Linear(6, 8)
    end = [AvgPool2d(2), Flatten(), Linear(72, 5)] if images else [Linear(8, 5)]
    encoder = [Repeat(steps)] if steps else []
    made = nn.Sequential(*encoder, first, BatchNorm(8), loop, *end, MeanReadout())
    lead = (48,) if steps else (5, 48)
    x = 2 * torch.randn(*lead, *((2, 6, 6) if images else (6,)))
    made.train()(x)
    return made.eval(), x


def folded(neuron: Neuron, *more: object) -> tuple[nn.Module, Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # inert amplitudes
        model, x = net(neuron, *more)  # type: ignore[arg-type]
        return bitspike.fold(model, x), x


@pytest.mark.parametrize("weight", WEIGHT)
@pytest.mark.parametrize("neuron", NEURON)
def test_with_enough_bits_spikes_are_those_of_the_network(neuron: str, weight: str) -> None:
    """And the loop is at work: without what comes back others would fire."""
    make = WEIGHT[weight]
    network, x = folded(NEURON[neuron](), make() if make else None)
    program = bitspike.compile(network, x, weight_bits=16, input_bits=16)
    found = compare(program, network, [x])
    (layer,) = found.layers.values()
    assert 0.05 < layer.fired / layer.spikes < 0.95
    assert layer.end_to_end <= layer.spikes // 500, (layer.end_to_end, layer.spikes)
    (echo,) = (op for op in program.spec.operations if op.kind == "echo")
    assert echo.attributes["of"] == "_3.spikes"
    loop = next(module for module in network.modules() if isinstance(module, Recurrent))
    loop.synapse.weight.data.zero_()
    assert compare(program, network, [x]).layers["_3"].end_to_end > layer.spikes // 50


@pytest.mark.parametrize("neuron", ["binary", "multi-bit"])
def test_images_streams_and_engines(neuron: str, tmp_path: Path) -> None:
    network, x = folded(NEURON[neuron](), Uniform(4), True)
    program = bitspike.compile(network, x)
    images = x.numpy()
    slow = Program(program.spec, "interpreter")
    expected = slow(images)
    assert np.array_equal(program(images).levels, expected.levels)
    state = None
    for step in slow.sequence(images):
        result, state = program.stream(step[None], state)
    assert np.array_equal(result.levels, expected.levels) and result.steps == expected.steps
    machine = Compiled(program, tmp_path)
    for i in range(3):
        ((rows, _),), _ = machine.run(slow.sequence(images)[0, i])
        assert np.array_equal(rows[0], expected.levels[i])


def test_sequences_without_an_encoder() -> None:
    network, x = folded(LIF(decay=0.5), None, False, 0)
    program = bitspike.compile(network, x, weight_bits=16, input_bits=16)
    assert compare(program, network, [x]).layers["_2"].end_to_end <= 3
    with torch.no_grad():
        whole, _ = bitspike.stream(network.graph, torch.cat([x, x]))
    live, _ = program.stream(torch.cat([x, x]).numpy())
    np.testing.assert_allclose(live.values, whole, atol=0.05)


def test_a_potential_of_the_current_from_outside_alone_is_refused() -> None:
    """The program's membrane holds what comes back, too: outputs once differed without a word."""

    class Shown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.loop, self.last = Linear(6, 8), Recurrent(LIF(reset="soft"), Linear(8, 8)), Linear(8, 3)
            self.shown = Potential(self.loop.neuron)

        def forward(self, x: Tensor) -> Tensor:
            current = self.first(x)
            return self.last(self.shown(current, self.loop(current)))  # type: ignore[no-any-return]

    x = 2 * torch.randn(7, 24, 6)
    with pytest.raises(ValueError, match="is also charged by what comes back"):
        bitspike.compile(bitspike.fold(Shown().eval(), x), x)


def test_what_cannot_come_back_is_refused(tmp_path: Path) -> None:
    network, x = folded(Real())
    with pytest.raises(ValueError, match=r"_3 \(Recurrent\): what a real spike is worth is found out behind it"):
        bitspike.compile(network, x)
    torch.manual_seed(0)
    loop = Recurrent(LIF().replicate(8), Linear(8, 8))
    late = nn.Sequential(Repeat(4), Linear(6, 8), Refined(LIF(), T=2), Linear(8, 8), loop, Linear(8, 3), MeanReadout())
    network = bitspike.fold(late.eval(), x)
    with pytest.raises(ValueError, match=r"\(Recurrent\): its input has other steps than the network's"):
        bitspike.compile(network, x)
    network, x = folded(LIF())
    program = bitspike.compile(network, x)
    for form in ("unrolled", "scan", "step"):
        with pytest.raises(ValueError, match=r"echo _3\.before: spikes come back a step later"):
            export(program, "onnx", tmp_path / "m.onnx", form=form)
    with pytest.raises(ValueError, match="QONNX"):
        export(program, "qonnx", tmp_path / "m.onnx")
