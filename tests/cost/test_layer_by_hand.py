"""One convolution and one linear layer worked out by hand, every quantity of the row; then neurons, sums and pools."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bitspike.cost import Cost, LayerCost, Memory, bit_budget, cost, quantized_ann
from bitspike.cost.bits import levels, over, scaled_values
from bitspike.fold import fold
from bitspike.formats import SpikeFormat
from bitspike.layers import (
    Affine,
    AvgPool2d,
    Conv2d,
    Flatten,
    Gain,
    GlobalAvgPool,
    Linear,
    MaxPool2d,
    MeanReadout,
    Repeat,
    Squeeze,
    TimeLayer,
    Windows,
)
from bitspike.models.pad import PadShortcut
from bitspike.neurons import LIF, Integer, MultiBit, Neuron, Real, Signed, Ternary
from bitspike.quantizers import PowerOfTwo, Sign, Uniform


def only(counted: Cost, kind: str) -> LayerCost:
    found = [row for row in counted.rows if row.kind == kind]
    assert len(found) == 1
    return found[0]


def spikes_into(layer: nn.Module, neuron: Neuron, x: Tensor, **options: object) -> Cost:
    return cost(nn.Sequential(neuron, layer).eval(), x, **options)  # type: ignore[arg-type]


def test_a_convolution_by_hand() -> None:
    """2 channels 3×3, both steps alike → 3 channels 2×2, kernel 2, 3-bit weights, 2-bit spikes, T = 2.

    One step: 3·2·2·2 weights at 4 outputs = 96 multiply-accumulates, 18 inputs, 12 outputs.
    Levels: the first channel is all 3 (2 set bits), the second all 0: 9 of 18 fire, 18 set bits of 18 inputs.
    """
    x = torch.full((2, 1, 2, 3, 3), 9.0)
    x[:, :, 1] = 0.0
    row = only(spikes_into(Conv2d(2, 3, 2, weight=Uniform(3)), MultiBit(2, 0, decay=0.0), x), "synapse")
    assert (row.macs, row.inputs, row.outputs, row.weights, row.T) == (96, 18, 12, 24, 2)
    assert (row.rate, row.set_bits, row.step_bits, row.sum_bits) == (0.5, 1.0, (2, 2), 3)  # sums reach 6: 3 bits
    assert (row.events, row.adds, row.shift_adds, row.multiplications) == (96.0, 0.0, 192.0, 0.0)  # 96·2·½, 96·2·1
    assert row.bit_budget == 2 * 3 * 2
    assert row.ace == 96 * 3 * 2 and row.s_ace == 2 * 576 and row.ns_ace == 576
    assert row.sops == 96 * 3  # min(T·b_s, b_w) = min(4, 3)
    assert row.payload_bits == 9 * 2 * 2
    assert row.size_bits == 24 * 3 + 32 and row.weight_bytes == 104 / 8
    assert row.spike_bytes == 18 * 4 / 8 and (row.membrane_bytes, row.dram_bytes) == (0.0, 0.0)
    assert row.moved_bytes == 13 + 9


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_powers_of_two_shift_graded_spikes_once(bits: int) -> None:
    """The convolution above: 96·2·½ events, one shift-addition each, though every spike has two set bits."""
    x = torch.full((2, 1, 2, 3, 3), 9.0)
    x[:, :, 1] = 0.0
    counted = spikes_into(Conv2d(2, 3, 2, bias=True, weight=PowerOfTwo(bits, "output")), MultiBit(2, 0, decay=0.0), x)
    row, ann = only(counted, "synapse"), only(quantized_ann(counted), "synapse")
    assert (row.events, row.set_bits, row.fixed_adds) == (96.0, 1.0, 24.0)
    assert (row.adds, row.shift_adds, row.multiplications) == (24.0, 96.0, 0.0)
    assert row.weight_bits == bits and row.size_bits == 24 * bits + 32 * (3 + 3) and row.s_ace == 96 * bits * 4
    assert (ann.adds, ann.shift_adds, ann.multiplications) == (12.0, 96.0, 0.0)  # 96 dense products, one step


def test_powers_of_two_shift_whatever_comes_in() -> None:
    """3 inputs, 5 outputs, T = 2: binary and ternary spikes add; real ones and a real input shift; folded or not."""
    x = torch.tensor([[[5.0, -5.0, 0.0]]]).repeat(2, 1, 1)
    layer = Linear(3, 5, bias=False, weight=PowerOfTwo(3))
    cases = {LIF(decay=0.0): (10.0, 0.0), Ternary(decay=0.0): (20.0, 0.0), Real(decay=0.0): (0.0, 10.0)}
    for neuron, (adds, shifted) in cases.items():
        row = only(spikes_into(layer, neuron, x), "synapse")
        assert (row.adds, row.shift_adds, row.multiplications) == (adds, shifted, 0.0)
    net = nn.Sequential(
        Repeat(2), Linear(3, 5, bias=False, weight=PowerOfTwo(3)), LIF(), Linear(5, 2, weight=PowerOfTwo(3))
    )
    first, _ = cost(net, torch.ones(1, 3)).synapses
    folded, behind = cost(fold(net, torch.ones(1, 3)).graph, torch.ones(1, 3)).synapses
    assert (first.shift_adds, first.multiplications) == (folded.shift_adds, folded.multiplications) == (30.0, 0.0)
    assert first.weight_bits == folded.weight_bits == behind.weight_bits == 3 and folded.weight_shifts
    assert folded.size_bits == 15 * 3 and first.size_bits == 15 * 3 + 32  # the scale is in the affine map behind


@pytest.mark.parametrize("slope", [0.25, 0.3])
def test_powers_of_two_shift_both_amplitudes(slope: float) -> None:
    """Levels 3 and −3 (of a slope) into 5 outputs: one shift-addition each, whatever the slope is."""
    neuron = Signed(3, decay=1.0)
    neuron.rectify(slope, False)
    x = torch.tensor([[[9.0, -9.0, 0.0]]])
    row = only(spikes_into(Linear(3, 5, bias=False, weight=PowerOfTwo(4)), neuron, x), "synapse")
    assert (row.rate, row.adds, row.shift_adds, row.multiplications) == (2 / 3, 0.0, 10.0, 0.0)


def test_a_linear_layer_with_a_bias_by_hand() -> None:
    """4 ternary inputs, 3 outputs, float weights, T = 3: (+ − 0 0) at every step."""
    x = torch.tensor([[[5.0, -5.0, 0.0, 0.0]]]).repeat(3, 1, 1)
    row = only(spikes_into(Linear(4, 3), Ternary(1.0), x), "synapse")
    assert (row.macs, row.rate, row.set_bits) == (12, 0.5, 0.5)
    assert row.adds == 12 * 3 * 0.5 + 9 and row.fixed_adds == 9.0
    assert (row.ace, row.s_ace, row.ns_ace) == (12 * 32 * 2, 12 * 32 * 2 * 3, 12 * 32 * 3)
    assert row.sops == 12 * 6 and row.sum_bits == 3  # −3..3: 7 levels
    assert row.size_bits == 15 * 32 and row.parameters == 15 and row.weights == 12


@pytest.mark.parametrize(
    ("neuron", "bits", "summed"),
    [(LIF(), 1, 3), (Ternary(), 2, 4), (MultiBit(2, 1), 3, 5), (Integer(4), 3, 5), (Real(), 32, 32)],
)
def test_bits_follow_the_format(neuron: Neuron, bits: int, summed: int) -> None:
    """T = 4: sums reach 4, ±4 (9 levels), 28, 16; real ones stay 32."""
    row = only(spikes_into(Linear(2, 5, bias=False, weight=Sign("none")), neuron, torch.ones(4, 1, 2)), "synapse")
    assert row.step_bits == (bits,) * 4 and row.sum_bits == summed
    assert row.s_ace == 10 * 4 * bits and row.bit_budget == 4 * bits


def test_the_real_input_has_the_bits_it_is_stored_with() -> None:
    net = nn.Sequential(Repeat(2), Linear(4, 3, bias=False, weight=Uniform(8)), LIF(), Linear(3, 2, weight=Uniform(8)))
    first, second = cost(net, torch.ones(1, 4), input_bits=8).synapses
    assert (first.input_bits, first.s_ace, first.spike_bytes) == (8, 12 * 8 * 8 * 2, 8.0)
    assert (second.input_bits, second.s_ace) == (1, 6 * 8 * 2)
    assert cost(net, torch.ones(1, 4)).synapses[0].input_bits == 32


class Stepwise(MultiBit):
    """Sends 2 bits at the first step, 1 bit at the second; says so with one record per step."""

    def __init__(self) -> None:
        super().__init__(2, 0, decay=0.0)
        self.formats = (SpikeFormat(0, 3), SpikeFormat(0, 1))
        self.format = self.formats[0]

    def forward(self, x_seq: Tensor) -> Tensor:
        return torch.stack([x.clamp(0, 3 if t == 0 else 1) for t, x in enumerate(x_seq)])


def test_a_format_may_differ_from_step_to_step() -> None:
    """Step 1: levels 3, 1, 0 (3 set bits, shift-additions); step 2: 1, 1, 0 (2 events, additions); 5 outputs."""
    x = torch.tensor([[[3.0, 1.0, 0.0]], [[3.0, 1.0, 0.0]]])
    counted = spikes_into(Linear(3, 5, bias=False, weight=Uniform(4)), Stepwise(), x)
    row, neuron = only(counted, "synapse"), only(counted, "neuron")
    assert row.step_bits == (2, 1) and row.input_bits == 2 and row.sum_bits == 3  # sums reach 4
    assert (row.shift_adds, row.adds, row.multiplications) == (15.0, 10.0, 0.0)
    assert row.s_ace == 15 * 4 * 3 and row.ns_ace == pytest.approx(15 * 4 * 3 * 4 / 6)
    assert row.payload_bits == 2 * 2 + 2 * 1 and row.spike_bytes == 3 * 3 / 8
    assert neuron.spike_bytes == 3 * 3 / 8 and neuron.comparisons == 3 * (2 + 1)
    longer = only(spikes_into(Linear(3, 5), Stepwise(), x[[0, 1, 1, 1]]), "synapse")
    assert longer.step_bits == (2, 1, 1, 1)  # the last record stands for all later steps
    pooled = nn.Sequential(MaxPool2d(1), Flatten(), Linear(3, 5, bias=False))
    behind = only(spikes_into(pooled, Stepwise(), x.reshape(2, 1, 3, 1, 1)), "synapse")
    assert (behind.step_bits, behind.shift_adds, behind.adds) == ((2, 1), 15.0, 10.0)


class Sum(TimeLayer):
    """The whole train in one step: its sum, or its mean."""

    scaling = "linear"

    def __init__(self, mean: bool) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, x: Tensor) -> Tensor:
        return (x.mean(0) if self.mean else x.sum(0)).unsqueeze(0)


def test_a_synapse_behind_a_mean_over_time_runs_once() -> None:
    """4 steps of 2-bit spikes, their mean through 3·5 weights of 4 bits in one pass.

    The metrics count the train: 15·4·(2·4). The operations count the pass: 2 of 3 means are not 0, and real.
    """
    x = torch.zeros(4, 1, 3)
    x[0], x[:, :, 2], x[1, :, 1] = torch.tensor([[3.0, 1.0, 0.0]]), 0.0, 1.0
    counted = cost(nn.Sequential(MultiBit(2, 0, decay=0.0), Sum(True), Linear(3, 5, bias=False, weight=Uniform(4))), x)
    row = only(counted, "synapse")
    assert (row.T, row.train_steps, row.steps, row.step_bits, row.sum_bits) == (1, 4, 4, (2, 2, 2, 2), 4)
    assert (row.s_ace, row.bit_budget, row.ace) == (15 * 4 * 8, 32, 15 * 4 * 2)
    assert row.ns_ace == 15 * 4 * 8 * 3 / 12 and (row.rate, row.spike_rate) == (2 / 3, 3 / 12)
    assert (row.multiplications, row.adds, row.shift_adds) == (10.0, 0.0, 0.0) and row.events == 10.0
    assert row.spike_bytes == 3 * 32 / 8 and not counted.uncounted
    mean = only(counted, "squeeze")
    assert (mean.side_adds, mean.shifts, mean.side_multiplications, mean.T) == (9.0, 3.0, 0.0, 4)
    means = bit_budget(counted)
    assert [means[key] for key in ("mean_weight_bits", "mean_spike_bits", "mean_T")] == [4.0, 2.0, 4.0]
    ann = quantized_ann(counted)
    assert ann.layers[0].step_bits == (4,) and ann.layers[0].multiplications == 15.0
    assert [row.kind for row in ann.elements] == ["neuron"]


@pytest.mark.parametrize(("frames", "T", "adds"), [(3, 3, 2 * 5.0), (2, 3, 1 * 5.0), (1, 3, 0.0), (1, 1, 0.0)])
def test_a_squeeze_adds_up_what_comes_in(frames: int, T: int, adds: float) -> None:
    """Frames − 1 additions a value, as many steps as go out; one frame is held for nothing; all of it has a rule."""
    counted = cost(nn.Sequential(Squeeze(T), Linear(5, 2)), torch.ones(frames, 1, 5))
    assert sum(row.side_adds for row in counted.elements) == adds and not counted.uncounted
    passing = cost(nn.Sequential(Squeeze(frames, always=False), Linear(5, 2)), torch.ones(frames, 1, 5))
    assert not passing.elements and not passing.uncounted


def test_the_factor_of_a_folded_sum_is_counted_once() -> None:
    """Currents of 3 steps, averaged in front of a neuron of 2: the factor 1/3 is a gain, so the sum only adds."""
    x = torch.randn(3, 4, 5, dtype=torch.float64)
    for before in (Squeeze(2), Windows(2)):
        net = nn.Sequential(Linear(5, 6), before, LIF(0.5), Linear(6, 2)).double().eval()
        own, folded = cost(net, x), cost(fold(net, x).graph, x)
        (row,) = [row for row in folded.elements if row.kind in ("squeeze", "windows")]
        (plain,) = [row for row in own.elements if row.kind in ("squeeze", "windows")]
        (gain,) = [row for row in folded.layers if row.kind == "gain"]
        assert row.side_adds == plain.side_adds and row.side_multiplications == 0 < plain.side_multiplications
        assert gain.multiplications == 2 * 6


def test_the_input_keeps_its_bits_where_it_is_only_moved_or_added_up() -> None:
    net = nn.Sequential(MaxPool2d(1), Flatten(), nn.Dropout(), Linear(4, 3)).eval()
    assert cost(net, torch.ones(2, 1, 1, 2, 2), input_bits=8).synapses[0].step_bits == (8, 8)
    for side, bits in ((1, 8), (2, 10)):  # of one value; 4·255 = 1020
        averaged = nn.Sequential(AvgPool2d(side), Flatten(), Linear(4 // side**2, 3))
        assert cost(averaged, torch.ones(2, 1, 1, 2, 2), input_bits=8).synapses[0].step_bits == (bits, bits)
    mapped = nn.Sequential(Flatten(), Linear(4, 4), Linear(4, 3))
    assert cost(mapped, torch.ones(2, 1, 1, 2, 2), input_bits=8).synapses[1].step_bits == (32, 32)


class Hold(TimeLayer):
    """One step, three times."""

    scaling = "linear"

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(3, -1, -1)


class Join(TimeLayer):
    """A sum of branches that is a layer."""

    scaling = "add"

    def forward(self, *branches: Tensor) -> Tensor:
        return sum(branches[1:], branches[0])


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hold, self.neuron, self.join = Hold(), LIF(), Join()

    def forward(self, x: Tensor) -> Tensor:
        y = self.hold(x)
        return self.join(y, self.neuron(y), y * 2)


def test_holding_is_free_and_a_layer_may_be_a_sum() -> None:
    """3 branches of 3·5 values: 2·15 additions; the spikes are read, 15/8 bytes."""
    counted = cost(Branches(), torch.ones(1, 2, 5))
    assert [row.kind for row in counted.elements] == ["neuron", "add"]
    joined = only(counted, "add")
    assert (joined.side_adds, joined.spike_bytes) == (30.0, 15 / 8) and counted.uncounted == ["mul"]


@pytest.mark.parametrize(
    ("decay", "reset", "multiplications", "shifts", "adds", "bytes_"),
    [
        (0.3, "hard", 30.0, 0.0, 30.0, 240.0),
        (0.3, "soft", 30.0, 0.0, 30.0 + 15.0, 240.0),  # 5 of 10 fire at steps 1 to 3
        (0.25, "hard", 0.0, 30.0, 30.0, 240.0),
        (1.0, "soft", 0.0, 0.0, 30.0 + 15.0, 240.0),
        (0.0, "soft", 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_neuron_updates_by_hand(
    decay: float, reset: str, multiplications: float, shifts: float, adds: float, bytes_: float
) -> None:
    """10 neurons, T = 4: 40 updates and comparisons; 3·10 leaks and charges between steps; 2·3·10·4 bytes."""
    x = torch.zeros(4, 1, 10)
    x[..., :5] = 2.0
    row = only(cost(nn.Sequential(LIF(1.0, decay=decay, reset=reset)), x), "neuron")
    assert (row.updates, row.comparisons, row.rate) == (40, 40.0, 0.5)
    assert (row.side_multiplications, row.shifts, row.side_adds) == (multiplications, shifts, adds)
    assert (row.membrane_bytes, row.spike_bytes) == (bytes_, 40 / 8)
    assert (row.adds, row.shift_adds, row.multiplications, row.parameters, row.size_bits) == (0.0, 0.0, 0.0, 0, 0)


@pytest.mark.parametrize(("neuron", "comparisons"), [(LIF(), 1), (Ternary(), 2), (MultiBit(2, 2), 4), (Real(), 1)])
def test_one_step_takes_comparisons_only(neuron: Neuron, comparisons: int) -> None:
    row = only(cost(nn.Sequential(neuron), torch.ones(1, 2, 7)), "neuron")
    assert (row.updates, row.comparisons, row.side_adds, row.membrane_bytes) == (7, 7.0 * comparisons, 0.0, 0.0)


class Residual(nn.Module):
    """Spikes, and around a convolution the same spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.neuron, self.conv, self.behind = MultiBit(1, 1), Conv2d(2, 2, 1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        s = self.neuron(x)
        return self.behind(self.conv(s) + s)


def test_a_residual_sum_and_a_rectifier_by_hand() -> None:
    """2·3·3 values at 2 steps: 36 additions; the spikes (2 bits) are read again, 36·2/8 bytes; 36 comparisons."""
    counted = cost(Residual(), torch.ones(2, 4, 2, 3, 3))
    added, rectified = only(counted, "add"), only(counted, "rectifier")
    assert (added.side_adds, added.adds, added.spike_bytes, added.step_bits) == (36.0, 0.0, 9.0, (2, 2))
    assert (rectified.comparisons, rectified.moved_bytes) == (36.0, 0.0)


@pytest.mark.parametrize(
    ("pool", "adds", "multiplications", "shifts", "comparisons"),
    [
        (AvgPool2d(2), 2 * 3 * 4 * 3.0, 0.0, 24.0, 0.0),  # 2 steps, 3 channels, 2×2 outputs; 1/4 is a shift
        (AvgPool2d(3, 1, 1), 2 * 3 * 16 * 8.0, 96.0, 0.0, 0.0),
        (GlobalAvgPool(), 2 * 3 * 15.0, 0.0, 6.0, 0.0),
        (MaxPool2d(2), 0.0, 0.0, 0.0, 2 * 3 * 4 * 3.0),
    ],
)
def test_pools_by_hand(pool: TimeLayer, adds: float, multiplications: float, shifts: float, comparisons: float) -> None:
    row = only(cost(nn.Sequential(Repeat(2), LIF(), pool), torch.ones(5, 3, 4, 4)), "pool")
    assert (row.side_adds, row.side_multiplications, row.shifts) == (adds, multiplications, shifts)
    assert (row.comparisons, row.adds, row.moved_bytes) == (comparisons, 0.0, 0.0)


def test_cut_windows_by_hand() -> None:
    """5 × 5 pixels in windows of 2 × 2: four of 4 values, four of 2, one of 1; 2 steps, 3 channels."""
    pool = AvgPool2d(2, ceil=True)
    row = only(cost(nn.Sequential(Repeat(2), LIF(), pool), torch.ones(5, 3, 5, 5)), "pool")
    assert (row.side_adds, row.fixed_adds) == (6 * (25 - 9.0), 6 * 16.0)
    assert (row.side_multiplications, row.shifts, row.outputs) == (0.0, 6 * 8.0, 27)
    pool = AvgPool2d(3, ceil=True)  # windows of 9, 6, 6 and 4 values
    row = only(cost(nn.Sequential(Repeat(2), LIF(), pool), torch.ones(5, 3, 5, 5)), "pool")
    assert (row.side_adds, row.side_multiplications, row.shifts) == (6 * 21.0, 6 * 3.0, 6 * 1.0)
    for side, pools in ((7, (3, 2, 1)), (8, (2, 2, 1))):  # padding counts as data, with and without
        x = torch.ones(5, 3, side, side)
        rows = [
            only(cost(nn.Sequential(Repeat(2), LIF(), AvgPool2d(*pools, ceil=ceil)), x), "pool")
            for ceil in (False, True)
        ]
        assert rows[0].side_adds == rows[1].side_adds and rows[0].shifts == rows[1].shifts
        assert rows[0].side_multiplications == rows[1].side_multiplications


def test_the_mean_over_time_by_hand() -> None:
    """10 logits at 3 steps: 2·10 additions and 10 multiplications by a third; at 4 steps a shift."""
    for steps, work in ((3, (20.0, 10.0, 0.0)), (4, (30.0, 0.0, 10.0)), (1, (0.0, 0.0, 0.0))):
        net = nn.Sequential(Repeat(steps), Linear(4, 10), MeanReadout())
        row = only(cost(net, torch.ones(2, 4)), "readout")
        assert (row.side_adds, row.side_multiplications, row.shifts) == work


def test_powers_of_two_in_an_affine_map_shift() -> None:
    """96 values a sample in 4 channels: one multiplied, two shifted, one (factor −1) only shifted in sign."""
    x = torch.ones(3, 4, 4, 3)
    affine = Affine(torch.tensor([0.3, 0.5, 4.0, -1.0]), torch.ones(4))
    row = only(cost(nn.Sequential(Repeat(2), affine, LIF()), x), "affine")
    assert (row.multiplications, row.shift_adds, row.adds) == (24.0, 48.0, 48.0)
    single = only(cost(nn.Sequential(Repeat(2), Affine(torch.tensor(0.5), torch.tensor(0.0))), x), "affine")
    assert (single.multiplications, single.shift_adds, single.adds) == (0.0, 96.0, 0.0)


def test_gains_and_amplitudes_are_counted_per_channel() -> None:
    """2 steps, 1 of 2 values fires in each of 3 channels; 0.3 multiplies, 0.5 shifts, 1 does nothing."""
    x = torch.tensor([[[2.0, 0.0]] * 3]).reshape(1, 3, 1, 2)
    gain = only(cost(nn.Sequential(Repeat(2), LIF(1.0), Gain(torch.tensor([0.3, 0.5, 1.0]))), x), "gain")
    assert (gain.multiplications, gain.shifts, gain.spiking) == (2.0, 2.0, True)
    neuron = LIF(1.0, amplitude=1.0, train_amplitude="channel").replicate(3)
    assert neuron.emission.raw_amplitude is not None
    neuron.emission.raw_amplitude.data = torch.tensor([0.3, 0.0, 0.0])  # exp(0.3), 1, 1
    amplitude = only(cost(nn.Sequential(Repeat(2), neuron), x), "amplitude")
    assert (amplitude.multiplications, amplitude.shifts) == (2.0, 0.0)


@pytest.mark.parametrize("flat", [False, True])
def test_levels_behind_a_shortcut_that_pads_channels(flat: bool) -> None:
    """2 channels with amplitudes 1.3 and 0.7, both at level 3, padded to 5: 2 set bits in 2 of 5 channels."""
    neuron = MultiBit(2, 0, amplitude=1.0, train_amplitude="channel").replicate(2)
    assert neuron.emission.raw_amplitude is not None
    neuron.emission.raw_amplitude.data = torch.tensor([1.3, 0.7]).log()
    layer = nn.Sequential(Flatten(), Linear(20, 3)) if flat else Conv2d(5, 3, 1)
    row = only(
        spikes_into(nn.Sequential(PadShortcut(2, 5, 2), layer), neuron, torch.full((1, 1, 2, 4, 4), 9.0)), "synapse"
    )
    assert (row.set_bits, row.rate) == (2 * 2 / 5, 2 / 5)
    assert row.shift_adds == row.macs * 0.8


def test_order_and_size_of_the_buffer() -> None:
    """Weights 12·32 bits = 48 bytes, spikes in 4·2 bits = 1 byte, membranes 3·4 bytes."""
    net = nn.Sequential(LIF(0.5), Linear(4, 3, bias=False), LIF(0.5, decay=0.5))
    x = torch.ones(2, 1, 4)
    layer, step = (cost(net, x, Memory(order=order)) for order in ("layer", "step"))
    assert [c.total("weight_bytes") for c in (layer, step)] == [48.0, 96.0]
    assert layer.total("dram_bytes") == 0.0
    small = cost(net, x, Memory(buffer_bytes=47))
    assert small.total("dram_bytes") == 48.0
    assert cost(net, x, Memory(buffer_bytes=48)).total("dram_bytes") == 0.0
    none = cost(net, x, Memory(buffer_bytes=0))
    assert none.total("dram_bytes") == none.total("moved_bytes") == 48 + 1 + (1 + 32) + (6 / 8 + 24)
    narrow = cost(net, x, Memory(membrane_bits=8))
    assert narrow.total("membrane_bytes") == layer.total("membrane_bytes") / 4 == 2 * 7


def test_a_train_that_fits_step_by_step() -> None:
    """64 binary spikes are 8 bytes a step, 32 bytes in 4 steps: a buffer of 8 to 31 holds one step only."""
    net, x = nn.Sequential(LIF(0.5, decay=0.0)), torch.ones(4, 1, 64)
    for order, buffer_bytes, dram in (("layer", 32, 0.0), ("layer", 31, 32.0), ("step", 8, 0.0), ("step", 7, 32.0)):
        assert cost(net, x, Memory(buffer_bytes, order=order)).total("dram_bytes") == dram, (order, buffer_bytes)


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.neuron, self.known, self.merged = LIF(), nn.Dropout(0.1), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(self.merged(self.known(self.neuron(x))))


def test_what_no_rule_covers_is_named() -> None:
    assert cost(Odd().eval(), torch.ones(1, 1, 2)).uncounted == ["merged", "exp"]


def test_scopes_leave_synapses_out() -> None:
    rows = [
        LayerCost("a", "synapse", "first", 1, 8, 8, macs=10),
        LayerCost("b", "synapse", "hidden", 2, 1, 4, macs=10),
        LayerCost("c", "synapse", "downsample", 1, 1, 1, macs=10),
        LayerCost("d", "synapse", "last", 1, 2, 4, macs=10),
    ]
    totals = Cost(1, rows, [LayerCost("e", "neuron", "neuron", 1, comparisons=7.0)]).as_dict()["totals"]
    assert {name: t["s_ace"] for name, t in totals.items()} == {"all": 810, "without_first": 170, "hidden_only": 80}
    assert all(t["comparisons"] == 7.0 for t in totals.values())


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Memory(order="time"), "Memory: order must be one of"),
        (lambda: Memory(buffer_bytes=-1), "Memory: buffer_bytes must lie in"),
        (lambda: Memory(membrane_bits=0), "Memory: membrane_bits must lie in"),
        (lambda: cost(nn.Sequential(LIF()), torch.ones(1, 1, 1), input_bits=0), "cost: input_bits must lie in"),
    ],
)
def test_bad_values_are_refused(build: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build()  # type: ignore[operator]


def test_factors_may_differ_from_step_to_step() -> None:
    """[steps, C] factors, the last step for all later ones: ½ shifts, 0.3 multiplies, 1 does nothing."""
    factor = torch.tensor([[0.5, 1.0], [0.3, 1.0]], dtype=torch.float64)
    values = torch.ones(3, 2, 2, 4)
    assert scaled_values(factor, values != 0) == (8.0, 4.0)
    three = torch.full((3, 1, 2, 4), 3.0, dtype=torch.float64) * over(factor, values)
    assert torch.equal(levels(three, factor), torch.full((3, 1, 2, 4), 3.0, dtype=torch.float64))
    assert torch.equal(over(factor[:, :1], values)[:, 0, 0, 0], torch.tensor([0.5, 0.3, 0.3], dtype=torch.float64))


class Graded(MultiBit):
    """Steps of its own amplitude, fewer than there are time steps."""

    def __init__(self) -> None:
        super().__init__(2, 0, decay=0.0)
        self.format = SpikeFormat(0, 3, amplitude="layer")
        self.emission.scale = lambda: torch.tensor([[0.7], [1.9]], dtype=torch.float64)  # type: ignore[method-assign]

    def forward(self, x_seq: Tensor) -> Tensor:
        return x_seq * over(self.emission.scale(), x_seq)


def test_levels_of_steps_with_amplitudes_of_their_own() -> None:
    """Levels 3, 1, 0 at each of 3 steps: 3 set bits a step, whatever a level is worth; 6 spikes are multiplied."""
    x = torch.tensor([[[3.0, 1.0, 0.0]]], dtype=torch.float64).repeat(3, 1, 1)
    counted = spikes_into(Linear(3, 5, bias=False).double(), Graded(), x)
    assert only(counted, "synapse").shift_adds == 3 * 3 * 5
    assert only(counted, "amplitude").multiplications == 6.0
