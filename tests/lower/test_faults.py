"""Faults that random networks found, each in a small network that had it."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.layers import Affine, AvgPool2d, Conv2d, Flatten, Linear, MeanReadout, Repeat, Squeeze
from bitspike.lower import compare
from bitspike.neurons import LIF, Adaptive, Real
from bitspike.runtime import Program
from bitspike.testing import check_program
from bitspike.upgrade.layers import Merged
from lower_nets import WIDE, folded_on_grid, on_grid
from networks import dyadic, rng, samples


def chain(*layers: nn.Module) -> nn.Module:
    """Layers in float64, their weights on the grid."""
    net = nn.Sequential(*layers).double().eval()
    for module in net.modules():
        if isinstance(module, (Conv2d, Linear)):
            module.weight.data.copy_(dyadic(2 * module.weight.data))
    return net


@pytest.mark.parametrize("learned", ["layer", "channel"])
def test_learned_decays_that_are_one_number(learned: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Converting a tensor with requires_grad")
        check_program(*folded_on_grid("study_cnn", LIF(decay=0.5, learn_decay=learned), "sign-layer", 3), **WIDE)


def test_decays_by_channel_are_refused_by_name() -> None:
    folded, x = folded_on_grid("study_cnn", LIF(decay=0.5, learn_decay="channel"), "sign-layer", 3)
    neuron = next(module for module in folded.modules() if isinstance(module, LIF))
    neuron.membrane.raw_decay.data[0] = 1.0  # type: ignore[union-attr, index]
    with pytest.raises(
        ValueError, match=r"got 1 without: .*\(LIF\): its channels have decays of their own, 0.5 to 0.73"
    ):
        bitspike.compile(folded, x)


def test_one_step_with_factors_by_step_is_held_with_its_own() -> None:
    torch.manual_seed(0)
    neuron = Adaptive(2, steps=3, decay=0.5).replicate(4)
    neuron.emission.raw_amplitude.data.copy_(torch.tensor([[1.0], [0.25], [4.0]]))  # type: ignore[union-attr]
    net = chain(
        Repeat(1), Conv2d(2, 4, 3), neuron, Squeeze(4), Conv2d(4, 4, 3), LIF(), Flatten(), Linear(64, 3), MeanReadout()
    )
    x = dyadic(2 * samples(6))
    _, found = check_program(bitspike.fold(net, x), x, **WIDE)
    assert all(0.02 < layer.fired / layer.spikes < 0.98 for layer in found.layers.values())


class Halves(nn.Module):
    """A linear map of one half of the features, beside the other half."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.first, self.fire = Repeat(2), Linear(6, 4), LIF(amplitude=2.0)
        self.small, self.again, self.last, self.readout = Linear(2, 2), LIF(), Linear(4, 3), MeanReadout()

    def forward(self, x: Tensor) -> Tensor:
        """[B, 6] → [B, 3]."""
        a, b = self.fire(self.first(self.encoder(x))).chunk(2, 2)
        return self.readout(self.last(torch.cat([self.again(self.small(a)), b], 2)))


def test_features_are_split() -> None:
    x = dyadic(torch.randn(6, 6, generator=rng(0), dtype=torch.float64))
    check_program(bitspike.fold(on_grid(Halves(), x), x), x, **WIDE)


def cancelling() -> tuple[Conv2d, Tensor]:
    """A convolution and inputs whose first two channels cancel, so that far more is proved of the sums than occurs."""
    torch.manual_seed(0)
    conv = chain(Conv2d(3, 4, 3, bias=True))[0]  # type: ignore[index]
    conv.bias.data.copy_(torch.tensor([0.25, -0.5, 0.125, 1.0]))
    conv.weight.data[:, 0] = 1024
    conv.weight.data[:, 1] = -1024
    x = dyadic(samples(6))
    large = (x[:, :1] * 512).round().clamp(-2047, 2047)
    return conv, torch.cat([large, large, x[:, 1:]], 1)


@pytest.mark.parametrize("kernel", [2, 4])
def test_currents_of_all_32_bits_are_pooled(kernel: int) -> None:
    conv, x = cancelling()
    pool = Merged(nn.AvgPool2d(kernel, 1), "pool", "linear")
    last = chain(Linear(4 * (7 - kernel) ** 2, 3))
    net = nn.Sequential(Repeat(2), conv, pool, LIF(), Flatten(), last, MeanReadout())
    _, found = check_program(bitspike.fold(net, x), x, **WIDE)
    assert all(0.02 < layer.fired / layer.spikes < 0.98 for layer in found.layers.values())


def test_currents_far_below_a_floor_are_not_clamped() -> None:
    conv, x = cancelling()
    conv.bias.data[0] = -100  # type: ignore[union-attr]
    net = nn.Sequential(Repeat(3), conv, LIF(floor=-0.5), Flatten(), chain(Linear(144, 3)), MeanReadout())
    _, found = check_program(bitspike.fold(net, x), x, **WIDE)
    assert not found.clamped and all(0.02 < layer.fired / layer.spikes < 0.98 for layer in found.layers.values())


def test_a_bias_that_cancels_a_large_sum_fits() -> None:
    conv, x = cancelling()
    x[:, 0] = 512
    conv.weight.data[:, 1] = 0
    conv.bias.data -= 9 * 1024 * 512  # type: ignore[union-attr, operator]
    net = nn.Sequential(Repeat(3), conv, LIF(), Flatten(), chain(Linear(144, 3)), MeanReadout())
    _, found = check_program(bitspike.fold(net, x), x, **WIDE)
    assert all(0.02 < layer.fired / layer.spikes < 0.98 for layer in found.layers.values())


def test_a_factor_that_the_data_hides_fits() -> None:
    """Spikes that never come on the data are worth 2^20 thresholds, so nothing of their size is measured."""
    torch.manual_seed(0)
    x = dyadic(samples(6))
    hidden, conv = LIF(threshold=2.0**10), chain(Conv2d(2, 4, 3))
    gain = Affine(torch.full((4,), 2.0**20).double(), torch.full((4,), 0.5).double())
    net = nn.Sequential(Repeat(3), conv, hidden, gain, LIF(decay=1.0), Flatten(), chain(Linear(144, 3)), MeanReadout())
    _, found = check_program(bitspike.fold(net, x), x, **WIDE)
    assert [layer.fired > 0 for layer in found.layers.values()] == [False, True]


class Beside(nn.Module):
    """Real spikes beside binary ones."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.first, self.fire = Repeat(2), Conv2d(2, 4, 3, padding=1), LIF()
        self.second, self.graded, self.flatten = Conv2d(4, 4, 3, padding=1), Real(), Flatten()
        self.last, self.readout = Linear(8 * 64, 3), MeanReadout()

    def forward(self, x: Tensor) -> Tensor:
        """[B, 2, 8, 8] → [B, 3]."""
        s = self.fire(self.first(self.encoder(x)))
        return self.readout(self.last(self.flatten(torch.cat([self.graded(self.second(s)), s], 2))))


@pytest.mark.parametrize("bits", [8, 16])
def test_weights_of_real_spikes_beside_binary_ones_are_not_lost(bits: int) -> None:
    torch.manual_seed(0)
    x = dyadic(2 * samples(6))
    net = chain(Beside())
    found = compare(
        bitspike.compile(f := bitspike.fold(net, x), x, **{**WIDE, "spike_bits": bits, "weight_bits": bits}), f, [x]
    )
    assert all(0.02 < layer.fired / layer.spikes < 0.98 for layer in found.layers.values())
    assert found.max_logit_difference_forced <= 2.0 ** (2 - bits) * found.largest_logit


def test_an_average_over_less_than_a_window() -> None:
    """One row: windows of two rows hold two pixels, never four."""
    torch.manual_seed(0)
    net = chain(Repeat(2), Conv2d(2, 4, 3), LIF(), AvgPool2d(2, ceil=True), Flatten(), Linear(12, 3), MeanReadout())
    x = dyadic(2 * samples(6)[:, :, :3])
    check_program(bitspike.fold(net, x), x, **WIDE)


def test_margins_of_flips_are_measured() -> None:
    folded, x = folded_on_grid("study_cnn", LIF(decay=0.3), "sign-layer", 3)
    program = bitspike.compile(folded, x, **WIDE)
    same = compare(program, folded, [x])
    assert all(layer.worst_margin == 0 == layer.largest for layer in same.layers.values())
    constants = next(op for op in program.spec.operations if op.kind == "fire").tensors
    first = program.spec.constants[constants["first"]].array
    first[:] = first * 1.25  # fires a quarter later than the network
    found = compare(Program(program.spec), folded, [x])
    layer = next(iter(found.layers.values()))
    assert layer.forced and 0 < layer.worst_margin < 0.25 < layer.largest


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (lambda net, x: (x > 0.5).float(), r"gt: gt"),
        (lambda net, x: torch.where(x > 0, x, 2 * x), r"where: where"),
        (lambda net, x: x.flatten(2) @ x.flatten(2).transpose(1, 2), r"matmul: matmul of signals \[\d+\]"),
        (lambda net, x: net.conv(x.flatten(0, 1)).unflatten(0, (2, -1)), r"conv \(Conv2d\): Conv2d of torch works on"),
    ],
)
def test_code_that_no_rule_takes_is_refused_by_name(code: Any, words: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.first, self.fire = Repeat(2), Conv2d(1, 4, 3, padding=1), LIF()
            self.conv, self.readout = nn.Conv2d(4, 4, 3), MeanReadout()

        def forward(self, x: Tensor) -> Tensor:
            return self.readout(code(self, self.fire(self.first(self.encoder(x)))))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    x = 2 * torch.randn(4, 1, 5, 5)
    with pytest.raises(ValueError, match=rf"^compile: every layer must have an integer operation.*{words}"):
        bitspike.compile(bitspike.fold(Net().eval(), x), x)
