"""Activations in memory, counted by hand: chains, residual branches, wiring "input", trains of several steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bitspike.cost import activations
from bitspike.fold import fold
from bitspike.layers import AvgPool2d, Conv2d, Flatten, Join, Linear, Poisson, Refined
from bitspike.models import resnet18_cifar, study_cnn
from bitspike.neurons import LIF, Adaptive, MultiBit, Ternary


def moments(net: nn.Module, x: torch.Tensor, **options: int) -> dict[str, int]:
    held = activations(net, x, **options)
    return {moment.node: held.bits(moment) for moment in held.moments}


def test_a_chain_by_hand() -> None:
    """[2, B, 1, 4, 4] → conv to 3 channels → 2-bit spikes → pool → classifier: what is read last goes first."""
    net = nn.Sequential(
        Conv2d(1, 3, 3, padding=1), MultiBit(1, 1), AvgPool2d(2), Flatten(), Linear(12, 5), Ternary(), Linear(5, 2)
    )
    found = moments(net, torch.zeros(2, 7, 1, 4, 4), membrane_bits=16, input_bits=8)
    image, first, second, logits = 2 * 16 * 8, 2 * 48 * 2, 2 * 5 * 2, 2 * 2 * 32
    assert list(found.values()) == [
        image,
        image + first + 48 * 16,
        first + second + 5 * 16,
        second + logits,
    ]


def test_one_step_has_no_membranes() -> None:
    net = nn.Sequential(Linear(4, 8), LIF(), Linear(8, 2))
    assert list(moments(net, torch.zeros(1, 1, 4)).values()) == [128, 128 + 8, 8 + 64]
    assert activations(net, torch.zeros(1, 1, 4)).peak_bytes == 17


def test_a_shortcut_keeps_its_spikes_until_the_block_has_fired() -> None:
    net = study_cnn(LIF(), T=2, shape=(1, 8, 8), width=4, stem_stride=1).eval()
    found = moments(net, torch.zeros(1, 1, 8, 8))
    train, half, membranes = 2 * 4 * 64, 2 * 8 * 16, 32 * 4 * 64
    assert found["body_3_neuron1"] == 2 * train + membranes
    assert found["body_3_neuron2"] == 3 * train + membranes
    assert found["body_4_neuron2"] == train + 2 * half + membranes // 2
    assert found["readout"] == half + 10 * 32


def test_sums_that_two_layers_read_are_stored_as_real_values() -> None:
    """Wiring "input": the analog sum of a block is read by the next neuron and by the next shortcut."""
    net = resnet18_cifar(Adaptive(2), T=1, shape=(1, 8, 8), width=2, wiring="input").eval()
    held = activations(net, torch.zeros(1, 1, 8, 8))
    sums = [moment for moment in held.moments if moment.node not in held.steps and moment.node != "x"]
    assert len(sums) > 8 and all(moment.other_bits >= 10 * 32 for moment in sums)
    stem = sums[0]
    assert stem.other_bits == 64 * 32 + 2 * 64 * 32  # the image and what the stem makes of it


@pytest.mark.parametrize("T", [1, 3])
def test_folding_changes_nothing(T: int) -> None:
    net = study_cnn(Refined(Adaptive(3), T=T), T=1, shape=(1, 8, 8), width=4, stem_stride=1).eval()
    x = torch.randn(4, 1, 8, 8)
    before, after = activations(net, x), activations(fold(net, x).graph, x)
    assert [before.bits(m) for m in before.moments] == [after.bits(m) for m in after.moments]
    assert before.peak_bytes == after.peak_bytes > 0


def test_spikes_of_an_encoder_are_a_train() -> None:
    net = nn.Sequential(Poisson(3), Linear(4, 2))
    assert list(moments(net, torch.rand(5, 4)).values()) == [128, 128 + 12, 12 + 3 * 2 * 32]


class Add(nn.Module):
    """Spikes of two layers, added by an operator or by a layer, into a third one."""

    def __init__(self, layer: bool) -> None:
        super().__init__()
        self.first, self.second, self.third = LIF(0.5), Linear(8, 8), Linear(8, 4)
        self.neuron, self.join = LIF(0.5), Join() if layer else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        z = self.neuron(self.second(y))
        return self.third(y + z if self.join is None else self.join(y, z))  # type: ignore[no-any-return]


def test_a_sum_is_a_sum_whoever_adds() -> None:
    plain, joined = (list(moments(Add(layer), torch.rand(2, 1, 8)).values()) for layer in (False, True))
    assert plain == joined and plain[-1] == 2 * 2 * 8 + 2 * 4 * 32  # formed where it is read
