"""Costs of layers counted by hand, one test a rule."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from bitspike import fold, trace
from bitspike.cost import Cost, LayerCost, cost
from bitspike.layers import (
    Affine,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Flatten,
    Gain,
    Latency,
    Linear,
    MaxPool2d,
    MeanReadout,
    Repeat,
)
from bitspike.neurons import LIF, Integer, MultiBit, Neuron, Real, Ternary
from bitspike.quantizers import Quantizer, Sign, TernaryWeight, Uniform
from networks import WEIGHTS, liven, make_neuron, samples, small_cnn


def row_of(counted: Cost, kind: str = "synapse") -> LayerCost:
    rows = [row for row in counted.layers if row.kind == kind]
    assert len(rows) == 1
    return rows[0]


def operations(row: LayerCost) -> tuple[float, float, float]:
    return row.adds, row.shift_adds, row.multiplications


def linear_behind(neuron: Neuron, values: list[float], weight: Quantizer | None, **options: bool) -> LayerCost:
    """One step, one sample, through a neuron into a linear map with 3 outputs."""
    layer = Linear(len(values), 3, weight=weight, **options)
    return row_of(cost(nn.Sequential(neuron, layer).eval(), torch.tensor([[values]])))


@pytest.mark.parametrize("weight", [None, Sign("none"), TernaryWeight("layer"), Uniform(4)])
@pytest.mark.parametrize("neuron", [LIF(1.0), Ternary(1.0)])
def test_binary_and_ternary_spikes_add(neuron: Neuron, weight: Quantizer | None) -> None:
    """2 of 4 inputs fire: 2·3 additions, whatever the weights are."""
    row = linear_behind(neuron, [1.0, 0.0, 2.0, 0.5], weight, bias=False)
    assert operations(row) == (6.0, 0.0, 0.0)
    assert (row.rate, row.set_bits, row.macs, row.input_bits) == (0.5, 0.5, 12, neuron.format.bits)


@pytest.mark.parametrize("weight", [None, Uniform(4), Uniform(3, "output")])
def test_multi_bit_spikes_shift_and_add_once_per_set_bit(weight: Quantizer | None) -> None:
    """Levels 0, 1, 2, 3 of MultiBit(1, 1): 0 + 1 + 1 + 2 set bits, times 3 outputs."""
    row = linear_behind(MultiBit(1, 1), [0.0, 0.5, 1.0, 9.0], weight, bias=False)
    assert operations(row) == (0.0, 12.0, 0.0)
    assert (row.rate, row.set_bits, row.input_bits) == (0.75, 1.0, 2)


@pytest.mark.parametrize("weight", [Sign("none"), Sign("input"), TernaryWeight("none"), Uniform(1), Uniform(2)])
@pytest.mark.parametrize(("neuron", "bits"), [(MultiBit(1, 1), 2), (Integer(4, threshold=0.25), 3), (Real(0.5), 32)])
def test_binary_and_ternary_weights_add_whatever_comes(neuron: Neuron, bits: int, weight: Quantizer) -> None:
    row = linear_behind(neuron, [0.0, 0.5, 1.0, 9.0], weight, bias=False)
    assert operations(row) == (9.0, 0.0, 0.0) and row.input_bits == bits


@pytest.mark.parametrize("weight", [None, Uniform(3)])
def test_real_spikes_with_other_weights_multiply(weight: Quantizer | None) -> None:
    row = linear_behind(Real(0.5), [0.0, 0.5, 1.0, 9.0], weight, bias=False)
    assert operations(row) == (0.0, 0.0, 9.0)
    assert (row.input_bits, row.set_bits, row.rate) == (32, 0.0, 0.75)


def test_real_input_multiplies_unless_the_weights_are_binary() -> None:
    x = torch.ones(2, 4)
    for weight, expected in ((None, (0.0, 0.0, 24.0)), (Uniform(4), (0.0, 0.0, 24.0)), (Sign("layer"), (24.0, 0, 0))):
        net = nn.Sequential(Repeat(2), Linear(4, 3, bias=False, weight=weight))
        assert operations(row_of(cost(net, x))) == expected


def test_encoded_spikes_add() -> None:
    """Latency sends one spike in all for each of the 3 positive inputs."""
    net = nn.Sequential(Latency(4), Linear(4, 3, bias=False))
    row = row_of(cost(net, torch.tensor([[1.0, 0.5, 0.1, 0.0]])))
    assert operations(row) == (9.0, 0.0, 0.0) and row.input_bits == 1 and row.rate == 3 / 16


def test_the_first_layer_of_resnet20() -> None:
    """Ternary Spike digest 5.5: 3→64 channels, 3×3, at 32×32 is 1,769,472 multiply-accumulates a step."""
    net = nn.Sequential(Repeat(2), Conv2d(3, 64, 3, padding=1))
    row = row_of(cost(net, torch.ones(1, 3, 32, 32)))
    assert row.macs == 3 * 64 * 9 * 32 * 32 == 1_769_472
    assert operations(row) == (0.0, 0.0, 3_538_944.0)
    assert (row.parameters, row.size_bits, row.T) == (1728, 1728 * 32, 2)


def test_convolution_stride_and_time() -> None:
    """5×5, stride 2, padding 1 → 3×3 outputs of 4 channels, 3·9 macs each; two of three input channels fire."""
    fire = torch.full((1, 3, 5, 5), 2.0)
    net = nn.Sequential(Repeat(3), LIF(1.0), Conv2d(3, 4, 3, stride=2, padding=1))
    row = row_of(cost(net, fire))
    assert row.macs == 4 * 3 * 9 * 3 * 3 and row.adds == 3 * row.macs
    fire[:, :1] = 0.0
    assert row_of(cost(net, fire)).adds == pytest.approx(3 * row.macs * 2 / 3)


def test_means_over_samples() -> None:
    """One sample fires everywhere, one nowhere."""
    x = torch.tensor([[2.0, 2.0], [0.0, 0.0]])
    counted = cost(nn.Sequential(Repeat(1), LIF(1.0), Linear(2, 5)), x)
    row = row_of(counted)
    assert counted.samples == 2 and row.rate == 0.5
    assert row.adds == 5 + 5  # half of 10 events, and 5 additions of the bias


def test_a_bias_is_an_addition_per_output_and_step() -> None:
    net = nn.Sequential(Repeat(4), LIF(1.0), Conv2d(1, 2, 1, bias=True))
    row = row_of(cost(net, torch.zeros(3, 1, 5, 5)))
    assert operations(row) == (4 * 2 * 25, 0.0, 0.0) and row.parameters == 4


def test_affine_norm_and_gain() -> None:
    """T·C·H·W = 2·3·4·4 = 96 values a sample."""
    x = torch.full((1, 3, 4, 4), 2.0)
    x[:, 0] = 0.0
    affine = Affine(torch.full((3,), 0.3), torch.ones(3))
    net = nn.Sequential(Repeat(2), affine, BatchNorm(3), LIF(1.0)).eval()
    first, norm = cost(net, x).layers
    assert (first.kind, norm.kind) == ("affine", "norm")
    assert operations(first) == (96.0, 0.0, 96.0) and operations(norm) == (96.0, 0.0, 96.0)
    assert (first.parameters, first.size_bits) == (6, 6 * 32)
    assert (norm.parameters, norm.size_bits) == (6, 12 * 32)
    for factor, numbers in ((torch.tensor(0.3), 1), (torch.full((3,), 0.3), 3)):
        row = row_of(cost(nn.Sequential(Repeat(2), LIF(1.0), Gain(factor)), x), "gain")
        assert operations(row) == (0.0, 0.0, 64.0)  # silent neurons cost nothing
        assert (row.parameters, row.size_bits) == (numbers, 32 * numbers)
    shift = row_of(cost(nn.Sequential(Repeat(2), LIF(1.0), Gain(torch.tensor([0.5, -2.0, 1.0]))), x), "gain")
    assert operations(shift) == (0.0, 0.0, 0.0) and shift.size_bits == 96


@pytest.mark.parametrize(("amplitude", "multiplications"), [(1.37, 4.0), (2.0, 0.0), (0.25, 0.0)])
def test_an_unfolded_amplitude_multiplies_each_spike(amplitude: float, multiplications: float) -> None:
    net = nn.Sequential(Repeat(2), LIF(1.0, amplitude=amplitude))
    row = row_of(cost(net, torch.tensor([[2.0, 2.0, 0.0]])), "amplitude")
    assert operations(row) == (0.0, 0.0, multiplications) and row.size_bits == 0
    assert cost(nn.Sequential(LIF(1.0)), torch.ones(1, 1, 1)).layers == []


def test_a_trained_amplitude_is_stored() -> None:
    layer = row_of(cost(nn.Sequential(LIF(amplitude=1.37, train_amplitude="layer")), torch.ones(1, 1, 4)), "amplitude")
    channel = LIF(amplitude=1.37, train_amplitude="channel").replicate(4)
    assert (layer.parameters, layer.size_bits) == (1, 32)
    assert row_of(cost(nn.Sequential(channel), torch.ones(1, 1, 4)), "amplitude").size_bits == 4 * 32


@pytest.mark.parametrize(
    ("weight", "bits", "scales"),
    [
        (None, 32, 0),
        (Sign("none"), 1, 0),
        (Sign("layer"), 1, 1),
        (Sign("output"), 1, 6),
        (Sign("input"), 1, 4),
        (TernaryWeight("none"), 2, 0),
        (TernaryWeight("input"), 2, 4),
        (Uniform(1), 1, 1),
        (Uniform(4), 4, 1),
        (Uniform(3, "output"), 3, 6),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_packed_size_in_bits(weight: Quantizer | None, bits: int, scales: int, bias: bool) -> None:
    row = row_of(cost(nn.Sequential(Repeat(1), Conv2d(4, 6, 3, bias=bias, weight=weight)), torch.ones(1, 4, 3, 3)))
    assert row.weight_bits == bits and row.parameters == 4 * 6 * 9 + 6 * bias
    assert row.size_bits == 4 * 6 * 9 * bits + 32 * (scales + 6 * bias)


def test_spikes_are_recognised_behind_pools_flattening_and_identity() -> None:
    x = torch.full((1, 2, 4, 4), 9.0)
    neuron = MultiBit(1, 1, amplitude=1.37, train_amplitude="channel").replicate(2)
    for between in (nn.Sequential(MaxPool2d(2), Flatten()), nn.Sequential(Flatten(), nn.Identity())):
        size = 8 if isinstance(between[0], MaxPool2d) else 32
        row = row_of(cost(nn.Sequential(Repeat(1), neuron, between, Linear(size, 3)), x))
        assert (row.set_bits, row.shift_adds, row.adds, row.multiplications) == (2.0, 2.0 * size * 3, 3.0, 0.0)
    averaged = row_of(cost(nn.Sequential(Repeat(1), neuron, AvgPool2d(2), Flatten(), Linear(8, 3)), x))
    assert (averaged.multiplications, averaged.input_bits) == (0.0, 4)  # sums of 4 levels 0 .. 3
    assert averaged.shift_adds == 24 * 2  # 12 = 1100


def test_totals_leave_roles_out() -> None:
    rows = [
        LayerCost("a", "synapse", "first", 1, macs=1, adds=1.0, size_bits=8, parameters=1),
        LayerCost("b", "synapse", "hidden", 1, macs=10, adds=10.0, size_bits=80, parameters=10),
        LayerCost("c", "affine", "affine", 1, adds=100.0, multiplications=100.0, size_bits=800),
        LayerCost("d", "synapse", "downsample", 1, macs=1000, shift_adds=5.0),
        LayerCost("e", "synapse", "last", 1, multiplications=7.0),
    ]
    counted = Cost(1, rows)
    assert counted.total("adds") == 111.0 and counted.total("adds", ["first", "affine"]) == 10.0
    document = counted.as_dict()
    assert document["size_bytes"] == counted.size_bytes == 111.0
    assert {k: document[k] for k in ("macs", "shift_adds", "multiplications", "parameters")} == {
        "macs": 1011.0,
        "shift_adds": 5.0,
        "multiplications": 107.0,
        "parameters": 11.0,
    }
    assert document["hidden_only"] == {
        "adds": 110.0,
        "shift_adds": 0.0,
        "multiplications": 100.0,
        "macs": 10.0,
        "parameters": 10.0,
    }
    assert [row["name"] for row in document["layers"]] == list("abcde")
    json.dumps(document)


def test_hidden_only_of_a_network() -> None:
    x = samples(3)
    model = liven(small_cnn(LIF(0.5), T=2), x)
    counted = cost(model, x)
    roles = {row.name: row.role for row in counted.layers if row.kind == "synapse"}
    apart = {"body_0": "first", "body_4_shortcut_1": "downsample", "body_7": "last"}
    assert roles == {n: apart.get(n, "hidden") for n in roles} and len(roles) == 7
    left_out = sum(row.macs for row in counted.layers if row.name in apart)
    assert counted.as_dict()["hidden_only"]["macs"] == counted.total("macs") - left_out
    assert left_out == 2 * 6 * 9 * 64 + 6 * 12 * 16 + 48 * 5


@pytest.mark.parametrize("spiking", ["lif", "ternary", "multibit", "integer"])
def test_a_folded_network_costs_what_its_alphabets_promise(spiking: str) -> None:
    """±1 weights behind integer spikes: nothing multiplies but the image, the affine maps and gains."""
    x = samples(3)
    model = liven(small_cnn(make_neuron(spiking, amplitude=1.37), WEIGHTS["sign-layer"](), policy=None, T=2), x)
    folded = fold(model, x)
    counted = cost(folded.graph, x)
    by_name = {row.name: row for row in counted.layers}
    multiply = {name for name, row in by_name.items() if row.multiplications}
    assert multiply == {"body_0", *folded.report.affines, *folded.report.gains}
    assert not any(row.kind in ("amplitude", "norm") for row in counted.layers)
    hidden = [row for row in counted.layers if row.kind == "synapse" and row.role == "hidden"]
    assert all(row.weight_bits == 1 and row.size_bits == row.parameters for row in hidden)
    assert all(row.adds == pytest.approx(row.macs * 2 * row.rate) for row in hidden)
    unfolded = cost(model, x)
    assert unfolded.total("macs") == counted.total("macs")


def test_a_graph_will_do_and_nan_is_refused() -> None:
    net, x = nn.Sequential(LIF(), Linear(2, 2), MeanReadout()), torch.ones(1, 1, 2)
    assert cost(trace(net), x) == cost(net, x)
    bad: Tensor = torch.tensor([[[float("inf"), 0.0]]])
    with pytest.raises(ValueError, match="cost: the sample must be finite"):
        cost(net, bad)
