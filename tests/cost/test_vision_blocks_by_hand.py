"""Blocks of vision networks, upgraded, counted by hand: where spikes of known levels meet the block's synapse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitspike
from bitspike.cost import Cost, LayerCost
from bitspike.neurons import MultiBit, Neuron, Ternary

T = 2
MANY = MultiBit(2, 0, decay=0.0)
"""2 bits: the levels 0..3 of what comes in, at every step anew."""


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.many, self.few, self.conv = nn.ReLU(), nn.ReLU(), nn.Conv2d(4, 3, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.cat([self.many(x), self.few(x)], 1))


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.many, self.gate, self.conv = nn.ReLU(), nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False)
        self.less = nn.Conv2d(2, 2, 1)  # the mean less 1
        nn.init.dirac_(self.less.weight)
        nn.init.constant_(self.less.bias, -1.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.many(x) * self.gate(self.less(F.adaptive_avg_pool2d(x, 1))))


class Enlarged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.many, self.conv = nn.ReLU(), nn.Conv2d(2, 3, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(self.many(x), scale_factor=2, mode="nearest"))


def levels(*of: float, side: int = 2) -> Tensor:
    """One sample [1, C, side, side] whose channels are filled with these values."""
    return torch.tensor(of).reshape(1, -1, 1, 1).repeat(1, 1, side, side)


def upgraded(model: nn.Module, x: Tensor, mapping: Any = None) -> nn.Module:
    net: nn.Module = bitspike.upgrade(model.eval(), mapping or {nn.ReLU: MANY}, x, T=T).eval()
    return net


def synapses(counted: Cost) -> list[LayerCost]:
    assert not counted.uncounted
    return [row for row in counted.layers if row.kind == "synapse"]


def test_a_concat_keeps_the_bits_of_both_sides() -> None:
    """Levels 6 (3 bits, 2 of them set) and 0; beside them signs + and 0 (2 bits): 16 inputs into 3 channels."""
    x = levels(3.0, 0.0)
    mapping = {"many": MultiBit(2, 1, decay=0.0), "few": Ternary(decay=0.0)}
    (row,) = synapses(bitspike.cost(upgraded(Concat(), x, mapping), x))
    assert (row.macs, row.inputs, row.rate, row.set_bits) == (48, 16, 8 / 16, (4 * 2 + 4) / 16)
    assert (row.adds, row.shift_adds, row.multiplications) == (4 * 3 * T, 8 * 3 * T, 0)
    assert row.parts == ((8, (3, 3)), (8, (2, 2))) and row.step_bits == (3, 3)
    assert row.spike_bytes == (8 * 3 + 8 * 2) * T / 8 and row.payload_bits == (4 * 3 + 4 * 2) * T
    assert row.s_ace == (24 * 3 + 24 * 2) * 32 * T


def test_a_depthwise_separable_convolution() -> None:
    """3×3 a channel at 4·4 places, then 2 → 5 channels; one of two channels is all 3 (2 set bits), on both sides."""
    wide = nn.Conv2d(2, 2, 3, 1, 1, groups=2, bias=False)
    nn.init.dirac_(wide.weight, groups=2)
    x = levels(3.0, 0.0, side=4)
    model = nn.Sequential(nn.ReLU(), wide, nn.ReLU(), nn.Conv2d(2, 5, 1, bias=False))
    depth, point = synapses(bitspike.cost(upgraded(model, x), x))
    assert (depth.macs, depth.weights, depth.shift_adds) == (2 * 9 * 16, 18, 2 * 9 * 16 // 2 * 2 * T)
    assert (point.macs, point.weights, point.shift_adds) == (2 * 5 * 16, 10, 2 * 5 * 16 // 2 * 2 * T)
    assert depth.adds == point.adds == depth.multiplications == point.multiplications == 0


def test_enlarging_is_free_and_what_reads_it_reads_more() -> None:
    """2·2 places become 4·4: 32 inputs into 3 channels, half of them at level 3."""
    x = levels(3.0, 0.0)
    counted = bitspike.cost(upgraded(Enlarged(), x), x)
    (row,) = synapses(counted)
    assert (row.macs, row.inputs, row.step_bits, row.spike_bytes) == (96, 32, (2, 2), 32 * 2 * T / 8)
    assert (row.adds, row.shift_adds, row.multiplications) == (0, 16 * 2 * 3 * T, 0)
    assert [r.kind for r in counted.rows] == ["synapse", "neuron", "readout"]


@pytest.mark.parametrize(("groups", "macs"), [(1, 4 * 2 * 6 * 9), (2, 4 * 6 * 9)])
def test_a_transposed_convolution_is_counted_at_its_inputs(groups: int, macs: int) -> None:
    """4 places of 2 channels, each into 6 (or 3 of them) of 3 × 3; 5 × 5 come out."""
    x = levels(3.0, 0.0)
    model = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(2, 6, 3, stride=2, groups=groups, bias=False))
    (row,) = synapses(bitspike.cost(upgraded(model, x), x))
    assert (row.macs, row.inputs, row.outputs, row.rate) == (macs, 8, 6 * 25, 0.5)
    assert (row.adds, row.shift_adds, row.multiplications) == (0, macs // 2 * 2 * T, 0)


def test_a_gate_of_graded_spikes() -> None:
    """Levels 3 and 2 at 4 places by gates 2 and 1: one set bit a pair in the gates (2 + 1 in the levels).

    Products 6 and 2 of 0..9, 4 bits: 2 and 1 set bits at 4 places each into one channel.
    """
    x = levels(3.0, 2.0)
    net = upgraded(Gate(), x)
    counted = bitspike.cost(net, x)
    (row,) = (row for row in counted.layers if row.kind == "product")
    assert (row.macs, row.rate, row.adds, row.shift_adds, row.multiplications) == (8, 1.0, 0, 8 * T, 0)
    assert (row.step_bits, row.weight_bits, row.spike_bytes) == ((2, 2), 2, (8 + 2) * 2 * T / 8)
    _, behind = synapses(counted)
    assert (behind.step_bits, behind.set_bits, behind.shift_adds) == ((4, 4), 12 / 8, 12 * T)
    weight = net.get_parameter("body.conv.weight").flatten()
    assert torch.allclose(net(x), (6 * weight[0] + 2 * weight[1]).expand(1, 1, 2, 2))


class Places(nn.Module):
    """Channels by a gate of places: that of the first channel, if above 1."""

    def __init__(self) -> None:
        super().__init__()
        self.many, self.gate, self.conv = nn.ReLU(), nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False)
        self.look = nn.Conv2d(2, 1, 1)
        self.look.weight.data = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
        nn.init.constant_(self.look.bias, -1.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.many(x) * self.gate(self.look(x)))


def product(counted: Cost) -> LayerCost:
    (row,) = (row for row in counted.layers if row.kind == "product")
    return row


def test_a_gate_of_places() -> None:
    """Levels 3 and 1 by a gate of 2 at 2 of 4 places: one set bit a pair, in the gate; 8 + 4 values of 2 bits are read.

    Products 6 and 2 at 2 places: 2 + 1 set bits each.
    """
    x = levels(3.0, 1.0)
    x[0, 0, 0] = 0.0
    counted = bitspike.cost(upgraded(Places(), x), x)
    row = product(counted)
    assert (row.macs, row.rate, row.adds, row.shift_adds, row.multiplications) == (8, 0.5, 0, 4 * T, 0)
    assert (row.inputs, row.spike_bytes) == (12, 12 * 2 * T / 8)
    _, behind = synapses(counted)
    assert (behind.step_bits, behind.shift_adds, behind.multiplications) == ((4, 4), 6 * T, 0)


class Square(nn.Module):
    def __init__(self, square: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.many, self.conv, self.square = nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False), square

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.square(self.many(x)))


@pytest.mark.parametrize("square", [lambda x: x * x, lambda x: x**2, torch.square, lambda x: x.pow(2)])
def test_a_square(square: Callable[[Tensor], Tensor]) -> None:
    """Levels 3 and 2 at 4 places: a shift-addition a set bit of the level, 2 + 1; the signal is read once.

    Squares 9 and 4 of 0..9, 4 bits: 2 + 1 set bits at 4 places.
    """
    x = levels(3.0, 2.0)
    net = upgraded(Square(square), x)
    counted = bitspike.cost(net, x)
    row = product(counted)
    assert (row.macs, row.rate, row.adds, row.shift_adds, row.multiplications) == (8, 1.0, 0, 12 * T, 0)
    assert (row.inputs, row.outputs, row.spike_bytes) == (8, 8, 8 * 2 * T / 8)
    (behind,) = synapses(counted)
    assert (behind.step_bits, behind.shift_adds) == ((4, 4), 12 * T)
    assert bitspike.trace(net)["body_conv"].inputs  # the product is in front of it
    signs = bitspike.cost(upgraded(Square(square), x, {nn.ReLU: Ternary(decay=0.0)}), x)
    assert (product(signs).adds, product(signs).shift_adds, synapses(signs)[0].step_bits) == (8 * T, 0, (1, 1))


class TwoAlphabets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.many, self.few, self.gate = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.conv = nn.Conv2d(4, 3, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.cat([self.many(x), self.few(x)], 1) * self.gate(torch.cat([x, x], 1)))


def test_a_product_behind_two_alphabets_is_counted_by_channel() -> None:
    """Levels 3 and 0, and signs + and 0, by gates 3 and 0, all of 2 bits, at 4 places: 2 set bits, or an addition.

    Products 9 of 0..9 (4 bits) and 3 of −3..3 (3 bits), 2 set bits each, into 3 channels.
    """
    x = levels(3.0, 0.0)
    mapping = {"many": MANY, "few": Ternary(decay=0.0), "gate": MANY}
    counted = bitspike.cost(upgraded(TwoAlphabets(), x, mapping), x)
    row = product(counted)
    assert (row.macs, row.rate, row.adds, row.shift_adds, row.multiplications) == (16, 0.5, 4 * T, 8 * T, 0)
    assert (row.inputs, row.step_bits, row.spike_bytes) == (32, (2, 2), 32 * 2 * T / 8)
    (behind,) = synapses(counted)
    assert behind.parts == ((8, (4, 4)), (8, (3, 3))) and behind.multiplications == behind.adds == 0
    assert behind.shift_adds == (4 * 2 + 4 * 2) * 3 * T
    assert behind.s_ace == 3 * 8 * (4 + 3) * 32 * T


@pytest.mark.parametrize(
    "make", [lambda: nn.PixelShuffle(2), lambda: nn.Sequential(nn.ChannelShuffle(2), nn.PixelShuffle(2))]
)
def test_a_pixel_shuffle_only_moves(make: Callable[[], nn.Module]) -> None:
    """Levels 3, 0, 1, 2 at 4 places: 2 + 0 + 1 + 1 set bits each into 3 channels, wherever they lie."""
    x = levels(3.0, 0.0, 1.0, 2.0)
    (row,) = synapses(bitspike.cost(upgraded(nn.Sequential(nn.ReLU(), make(), nn.Conv2d(1, 3, 1, bias=False)), x), x))
    assert (row.macs, row.inputs, row.step_bits, row.rate) == (48, 16, (2, 2), 0.75)
    assert (row.adds, row.shift_adds, row.multiplications) == (0, 16 * 3 * T, 0)


AMPLITUDES = {
    "concat": (Concat, 2),
    "gate": (Gate, 2),
    "square": (lambda: Square(lambda x: x * x), 2),
    "two alphabets": (TwoAlphabets, 2),
    "enlarged": (Enlarged, 2),
    "transposed": (lambda: nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(2, 3, 2, 2)), 2),
    "depthwise": (lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(2, 4, 3, groups=2)), 2),
    "shuffle": (lambda: nn.Sequential(nn.ReLU(), nn.ChannelShuffle(2), nn.Conv2d(4, 3, 1)), 4),
}


@pytest.mark.parametrize("name", AMPLITUDES)
def test_amplitudes_of_channels_change_no_count_of_the_synapse(name: str) -> None:
    """The levels are read, whatever they are worth, before folding and behind it."""
    make, channels = AMPLITUDES[name]
    torch.manual_seed(0)
    model, x = make(), 4 * torch.rand(2, channels, 4, 4)
    neuron: Neuron = MultiBit(2, 0, decay=0.0, train_amplitude="channel", amplitude=1.0)
    plain, net = upgraded(model, x), upgraded(model, x, {nn.ReLU: neuron})
    for k, module in enumerate(m for m in net.modules() if isinstance(m, Neuron)):
        assert module.emission.raw_amplitude is not None
        own = len(module.emission.raw_amplitude)
        module.emission.raw_amplitude.data = torch.linspace(0.1 + k, 0.7, own)
    folded = bitspike.fold(net, x)
    assert torch.allclose(folded(x), net(x), atol=1e-4)
    rows = [[r for r in bitspike.cost(n, x).layers if r.kind in ("synapse", "product")] for n in (plain, net, folded)]
    for one, *others in zip(*rows, strict=True):
        assert one.shift_adds > 0 or one.role == "first"  # which reads the image
        for other in others:
            found = (other.shift_adds, other.multiplications, other.step_bits)
            assert found == (one.shift_adds, one.multiplications, one.step_bits), (one.name, other.name)


def test_pixels_of_channels_with_amplitudes_are_real() -> None:
    """What was a channel's factor is a place's: no weight takes it in, folding leaves a gain; cost says so before."""
    model, x = nn.Sequential(nn.ReLU(), nn.PixelShuffle(2), nn.Conv2d(1, 3, 1)), levels(3.0, 0.0, 1.0, 2.0)
    for sharing, gains in (("layer", 0), ("channel", 1)):
        net = upgraded(model, x, {nn.ReLU: MultiBit(2, 0, decay=0.0, train_amplitude=sharing, amplitude=1.5)})
        folded = bitspike.fold(net, x)
        assert torch.allclose(folded(x), net(x), atol=1e-5)
        assert [row.kind for row in bitspike.cost(folded, x).layers].count("gain") == gains
        for each in (net, folded):
            (row,) = synapses(bitspike.cost(each, x))
            assert (row.multiplications > 0, row.shift_adds > 0) == (gains == 1, gains == 0)
            assert row.step_bits == ((32,) * T if gains else (2,) * T)
