"""Constants, energy worked out by hand, the ANN beside the network and the break-even density on both sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bitspike import fold
from bitspike.cost import (
    Constant,
    Constants,
    Cost,
    LayerCost,
    Memory,
    at_density,
    builtin_constants,
    compare_with_ann,
    cost,
    cost_summary,
    energy,
    energy_constants,
    operation_counts,
    quantized_ann,
)
from bitspike.layers import Conv2d, Flatten, Linear, MeanReadout, Repeat
from bitspike.models import resnet20
from bitspike.neurons import LIF, MultiBit, Ternary
from bitspike.quantizers import Sign, Uniform
from networks import liven, make_neuron, samples, small_cnn

POSITIVE = st.floats(0.01, 100.0)


def invented(**pj: float) -> Constants:
    """Constants whose results are easy to work out."""
    memory = ("sram", "dram")
    units = {name: "pJ / 1 bit" if name in memory else "pJ" for name in pj}
    return Constants("t", "t", {n: Constant(v, units[n], None, "made up here", False) for n, v in pj.items()})


ONES = invented(add=1.0, shift=10.0, multiply=100.0, mac=1000.0, compare=1e4, sram=1e5, dram=1e6)


def test_the_45_nm_table() -> None:
    """Horowitz (ISSCC 2014): FAdd 0.9, FMult 3.7, integer add 0.1 (32 bit), multiply 0.2 (8 bit), in pJ; memory per
    64 bits: 100 pJ from 1 MB of cache, 1.3 nJ from DRAM."""
    real, small = energy_constants("float32_45nm").values, energy_constants("int8_45nm").values
    assert [real[k].pj for k in ("add", "multiply", "mac")] == [0.9, 3.7, 4.6]
    assert [small[k].pj for k in ("add", "multiply", "mac")] == [0.1, 0.2, 0.3]
    for table in (real, small):
        assert table["sram"].pj == 100 / 64 and table["dram"].pj == pytest.approx(1300 / 64)
        assert all(c.node_nm == 45 for c in table.values())


def test_every_constant_says_where_it_is_from() -> None:
    sets = builtin_constants()
    assert list(sets) == ["float32_45nm", "int8_45nm", "ternary_paper"]
    for constants in sets.values():
        for constant in constants.values.values():
            assert constant.source and constant.unit and constant.pj > 0
            assert constant.confirmed or constant.note, constant  # what is not confirmed says why
    assert not any(c.confirmed or c.node_nm for c in sets["ternary_paper"].values.values())


@pytest.mark.parametrize(
    ("printed", "energy_uj"),
    [
        ({"mac": 3.54e6, "add": 71.20e6, "compare": 0.11e6}, 50.14),  # binary
        ({"mac": 3.54e6, "add": 79.21e6, "compare": 0.23e6}, 51.20),  # ternary
    ],
)
def test_the_ternary_papers_energies_follow_from_its_printed_counts(
    printed: dict[str, float], energy_uj: float
) -> None:
    """Arithmetic on the counts of its Table 5, not a measurement of ours: 12.5 pJ, 77 fJ, 3.7 pJ."""
    by_hand = (printed["mac"] * 12.5 + printed["add"] * 0.077 + printed["compare"] * 3.7) / 1e6
    assert f"{by_hand:.2f}" == f"{energy_uj:.2f}"
    constants = energy_constants("ternary_paper")
    assert constants.charge(printed) / 1e6 == pytest.approx(by_hand)
    assert constants.not_charged(printed) == {}


def test_the_ternary_papers_first_layer_from_the_graph() -> None:
    """Its 3.54 M FLOPs: the first convolution of ResNet20 at T = 2 and 32×32."""
    with torch.random.fork_rng(devices=[]):
        net = resnet20(Ternary(), T=2).eval()
    counted = cost(net, torch.ones(1, 3, 32, 32))
    first = counted.synapses[0]
    assert first.role == "first" and first.multiplications == 2 * 3 * 9 * 64 * 32 * 32 == 3_538_944
    assert f"{first.multiplications / 1e6:.2f}" == "3.54"
    assert sum(row.updates for row in counted.elements) == 2 * 319_488


def test_the_energy_of_a_layer_by_hand() -> None:
    """One row of each kind; digits of the result show which constant took which count."""
    synapse = LayerCost("a", "synapse", "hidden", 1, adds=2.0, shift_adds=3.0, multiplications=4.0)
    affine = LayerCost("b", "affine", "affine", 1, adds=1.0, multiplications=2.0, shifts=3.0)
    neuron = LayerCost("c", "neuron", "neuron", 1, side_adds=5.0, side_multiplications=6.0, comparisons=7.0)
    moved = LayerCost("d", "synapse", "first", 1, weight_bytes=1.0, spike_bytes=1.5, membrane_bytes=0.5, dram_bytes=1.0)
    result = energy(Cost(1, [synapse, affine, moved], [neuron]), ONES)
    assert [row.operations_pj for row in result.rows] == [4035.0, 231.0, 0.0, 70605.0]
    assert [row.memory_pj for row in result.rows] == [0.0, 0.0, 16e5 + 8e6, 0.0]
    assert result.total_pj() == 4035 + 231 + 9_600_000 + 70605
    assert (result.operations_pj(), result.memory_pj()) == (74871.0, 9_600_000.0)
    assert (result.total_pj(["first"]), result.memory_pj(["first"])) == (74871.0, 0.0)
    assert result.not_charged == {}


def test_what_a_set_lacks_is_said() -> None:
    row = LayerCost("a", "synapse", "hidden", 1, adds=2.0, shift_adds=3.0, weight_bytes=1.0)
    result = energy(Cost(1, [row, replace(row, name="b")]), invented(add=1.0))
    assert result.total_pj() == 10.0 and result.not_charged == {"shift": 6.0, "sram": 16.0}


def test_a_network_by_hand() -> None:
    """T = 2; 4 real inputs into 3 neurons, into 2 outputs; 45 nm floats.

    First: 2·12 multiply-accumulates. Second: 2·6 at rate 1: 12 additions. Neurons: 6 comparisons, 3 charges, 3 shifts.
    Mean: 2 additions, 2 shifts. Bytes: 48 + 24 weights, 32 of the image + 0.75 + 0.75 spikes, 24 of membranes.
    """
    net = nn.Sequential(Repeat(2), Linear(4, 3, bias=False), LIF(0.5), Linear(3, 2, bias=False), MeanReadout())
    net[1].weight.data.fill_(1.0)
    result = energy(cost(net, torch.ones(3, 4)), energy_constants("float32_45nm"))
    operations = 24 * 4.6 + 12 * 0.9 + 6 * 0.9 + 3 * 0.9 + 3 * 0.03 + 2 * 0.9 + 2 * 0.03
    assert result.operations_pj() == pytest.approx(operations)
    assert result.memory_pj() == pytest.approx((72 + 33.5 + 24) * 8 * 100 / 64)


rows = st.builds(
    LayerCost,
    name=st.just("a"),
    kind=st.sampled_from(["synapse", "affine"]),
    role=st.just("hidden"),
    T=st.integers(1, 8),
    input_bits=st.integers(1, 32),
    weight_bits=st.integers(1, 32),
    rate=st.floats(0, 1),
    macs=st.integers(0, 10**9),
    adds=POSITIVE,
    shift_adds=POSITIVE,
    multiplications=POSITIVE,
    weight_bytes=POSITIVE,
    dram_bytes=st.just(0.0),
    comparisons=POSITIVE,
)


@given(rows, st.sampled_from(sorted(ONES.values)), POSITIVE)
def test_energy_is_linear_in_every_constant(row: LayerCost, name: str, factor: float) -> None:
    scaled = replace(ONES.values[name], value=factor * ONES.values[name].value)
    changed = Constants("u", "u", {**ONES.values, name: scaled})
    counted = Cost(1, [row])
    difference = operation_counts(row)[name] * ONES.values[name].pj * (factor - 1)
    assert energy(counted, changed).total_pj() - energy(counted, ONES).total_pj() == pytest.approx(
        difference, rel=1e-6, abs=1e-6 * energy(counted, ONES).total_pj()
    )


@given(rows)
def test_s_ace_in_t_and_rate(row: LayerCost) -> None:
    twice = replace(row, T=2 * row.T)
    assert twice.s_ace == 2 * row.s_ace and twice.bit_budget == 2 * row.bit_budget and twice.ace == row.ace
    assert row.ns_ace == pytest.approx(row.rate * row.s_ace)
    assert row.s_ace == (row.T * row.input_bits * row.weight_bits * row.macs if row.kind == "synapse" else 0)
    assert row.sops <= row.s_ace or row.kind != "synapse"


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 6), st.sampled_from(["lif", "ternary", "multibit"]))
def test_steps_of_a_network(steps: int, outputs: int, bits: int, name: str) -> None:
    """The same input at twice the steps: S-ACE, updates and dense spike bytes double, ACE and sizes stay."""
    neuron = make_neuron(name, decay=0.0)
    net = nn.Sequential(neuron, Linear(5, outputs, weight=Uniform(bits)))
    x = torch.rand(1, 2, 5, generator=torch.Generator().manual_seed(bits)) * 3
    one, two = (cost(net, x.expand(n, -1, -1)) for n in (steps, 2 * steps))
    for quantity in ("s_ace", "ns_ace", "events", "updates", "spike_bytes", "payload_bits", "adds", "shift_adds"):
        assert two.total(quantity) == pytest.approx(2 * one.total(quantity)), quantity
    for quantity in ("ace", "size_bits", "macs", "weight_bytes"):
        assert two.total(quantity) == one.total(quantity), quantity


def test_the_ann_beside_a_layer_by_hand() -> None:
    """LIF at T = 4 → 3-bit activations; 5·3 weights of 4 bits and a bias; 0.6 of the inputs fire."""
    x = torch.tensor([[[2.0, 2.0, 2.0, 0.0, 0.0]]]).repeat(4, 1, 1)
    counted = cost(nn.Sequential(LIF(1.0, reset="soft"), Linear(5, 3, weight=Uniform(4))), x)
    ann = quantized_ann(counted)
    row, activation = ann.layers[0], ann.elements[0]
    assert (row.T, row.rate, row.step_bits, row.weight_bits) == (1, 1.0, (3,), 4)
    assert (row.multiplications, row.adds, row.shift_adds) == (15.0, 3.0, 0.0)
    assert (row.ace, row.s_ace, row.ns_ace) == (180.0, 180, 180.0)
    assert row.size_bits == counted.layers[0].size_bits == 60 + 32 * 4
    assert (row.weight_bytes, row.spike_bytes) == (188 / 8, 15 / 8)
    assert (activation.updates, activation.comparisons, activation.side_adds) == (5, 15.0, 0.0)
    assert (activation.spike_bytes, activation.membrane_bytes) == (15 / 8, 0.0)
    assert quantized_ann(counted, 8).layers[0].s_ace == 15 * 4 * 8
    with pytest.raises(ValueError, match="activation_bits must lie in"):
        quantized_ann(counted, 0)


def test_the_ann_adds_where_weights_are_binary_or_activations_are() -> None:
    x = torch.ones(1, 1, 5)
    for net, bits, adds in (
        (nn.Sequential(MultiBit(2, 0), Linear(5, 3, bias=False, weight=Sign("layer"))), None, True),
        (nn.Sequential(LIF(), Linear(5, 3, bias=False)), None, True),
        (nn.Sequential(LIF(), Linear(5, 3, bias=False)), 2, False),
    ):
        row = quantized_ann(cost(net, x), bits).layers[0]
        assert (row.adds, row.multiplications) == ((15.0, 0.0) if adds else (0.0, 15.0))


def test_the_ann_of_a_folded_network() -> None:
    """Same weights and multiply-accumulates; nothing over time; the first layer at one step."""
    x = samples(3)
    folded = fold(liven(small_cnn(make_neuron("ternary", amplitude=1.37), Sign("layer"), T=3), x), x)
    counted = cost(folded.graph, x)
    ann = quantized_ann(counted)
    for quantity in ("macs", "weights"):
        assert ann.total(quantity) == counted.total(quantity)
    assert {row.T for row in ann.rows} == {1} and ann.total("membrane_bytes") == 0
    kinds = {row.kind for row in counted.rows} - {row.kind for row in ann.rows}
    assert kinds <= {"gain", "readout"} and "readout" in kinds
    first, alike = counted.synapses[0], ann.synapses[0]
    assert alike.multiplications == first.multiplications / 3 and alike.input_bits == 32
    hidden = [row for row in ann.synapses if row.role == "hidden"]
    assert hidden and all(row.input_bits == 3 and row.adds == row.macs for row in hidden)  # −3..3, ±1 weights
    assert sum(r.updates for r in ann.elements) == sum(r.updates for r in counted.elements) / 3


def test_density_by_hand() -> None:
    """Half the spikes: half the events and soft resets; biases, comparisons, charges and bytes stay."""
    x = torch.tensor([[[2.0, 2.0, 0.0, 0.0]]]).repeat(2, 1, 1)
    counted = cost(nn.Sequential(LIF(1.0, reset="soft"), Linear(4, 3)), x)
    half = at_density(counted, 0.5)
    assert (counted.layers[0].adds, half.layers[0].adds) == (12 + 6, 6 + 6)
    assert (counted.elements[0].side_adds, half.elements[0].side_adds) == (4 + 2, 4 + 1)
    assert (
        half.layers[0].rate == half.elements[0].rate == 0.25 and half.layers[0].ns_ace == counted.layers[0].ns_ace / 2
    )
    for quantity in ("comparisons", "updates", "moved_bytes", "s_ace"):
        assert half.total(quantity) == counted.total(quantity)
    same = at_density(counted, 1.0)
    assert same == counted and same.layers[0] is not counted.layers[0]
    with pytest.raises(ValueError, match="factor must be >= 0"):
        at_density(counted, -1.0)


def test_the_break_even_density_by_hand() -> None:
    """8 inputs, 5 outputs, T = 4, k-bit weights; 0.3 pJ a multiply-accumulate, 0.1 an addition: ρ·4·40·0.1 = 40·0.3."""
    x = torch.zeros(4, 1, 8)
    x[:2, :, :4] = 2.0
    counted = cost(nn.Sequential(LIF(1.0, decay=0.0), Linear(8, 5, bias=False, weight=Uniform(4))), x)
    result = compare_with_ann(counted, invented(add=0.1, mac=0.3))
    assert result.layers[0].density == 0.25
    assert result.layers[0].break_even == pytest.approx(0.75) == result.network.break_even
    assert result.layers[0].verdict == "wins below 75.0 %"
    assert compare_with_ann(counted, invented(add=0.1, mac=0.5)).network.verdict == "wins at any density"
    assert compare_with_ann(counted, invented(add=0.1, mac=0.3, compare=9.0)).network.verdict == "wins at no density"
    assert compare_with_ann(counted, invented(mac=0.3)).network.break_even is None


def test_the_break_even_density_of_the_operations_alone() -> None:
    """The same layer; 1 pJ a bit: 8·4 bits are written and read, 8·3 by the ANN: 16ρ + 64 = 12 + 48."""
    x = torch.zeros(4, 1, 8)
    x[:2, :, :4] = 2.0
    counted = cost(nn.Sequential(LIF(1.0, decay=0.0), Linear(8, 5, bias=False)), x, Memory(buffer_bytes=100))
    counted.layers[0].weight_bytes = counted.layers[0].dram_bytes = 0.0
    ann = quantized_ann(counted)
    ann.layers[0].weight_bytes = ann.layers[0].dram_bytes = 0.0
    result = compare_with_ann(counted, invented(add=0.1, mac=0.3, sram=1.0), ann)
    assert result.operations.break_even == pytest.approx(0.75)
    assert result.network.break_even == pytest.approx((12 + 48 - 64) / 16)
    assert (result.operations.ann_pj, result.network.ann_pj) == (pytest.approx(12.0), pytest.approx(60.0))


@pytest.mark.parametrize("constants", ["float32_45nm", "int8_45nm", "ternary_paper"])
@pytest.mark.parametrize("spiking", ["lif", "ternary", "multibit"])
def test_the_winner_changes_at_the_break_even_density(spiking: str, constants: str) -> None:
    """Energy evaluated just below and just above it, and at it."""
    x = samples(3)
    model = liven(small_cnn(make_neuron(spiking, amplitude=1.37), Uniform(4), T=2), x)
    counted = cost(fold(model, x).graph, x)
    chosen = energy_constants(constants)
    ann = quantized_ann(counted, 8)
    result = compare_with_ann(counted, chosen, ann)
    assert result.network.break_even is not None
    factor = result.network.break_even / result.network.density
    for scale, wins in ((0.99, True), (1.01, False)):
        if factor > 0:
            assert (energy(at_density(counted, scale * factor), chosen).total_pj() < result.network.ann_pj) is wins
    if factor > 0:
        there = energy(at_density(counted, factor), chosen).total_pj()
        assert there == pytest.approx(result.network.ann_pj, rel=1e-9)
        assert (result.network.snn_pj < result.network.ann_pj) == (result.network.break_even > result.network.density)
    else:
        assert result.network.silent_pj >= result.network.ann_pj
    spikes = {row.name for row in counted.synapses if row.spiking}
    assert {layer.name for layer in result.layers} == spikes and spikes
    for layer in result.layers:
        assert layer.break_even is not None and 0 < layer.density < 1


def test_the_summary_holds_everything_as_plain_values() -> None:
    import json

    net = nn.Sequential(Repeat(2), Conv2d(1, 2, 3), LIF(0.1), Flatten(), Linear(8, 3), MeanReadout())
    document, compared = cost_summary(cost(net, torch.ones(2, 1, 4, 4)))
    json.dumps(document, allow_nan=False)
    assert list(compared) == list(builtin_constants()) == list(document["energy"]) == list(document["constants"])
    assert set(document["bit_budget"]) == set(document["totals"]) == {"all", "without_first", "hidden_only"}
    assert document["energy"]["int8_45nm"]["snn"]["all"]["energy_pj"] == compared["int8_45nm"].snn.total_pj()
    assert document["constants"]["float32_45nm"]["values"]["add"]["node_nm"] == 45
    assert document["memory"] == {"buffer_bytes": 2**20, "membrane_bits": 32, "order": "layer"}
    only, _ = cost_summary(cost(net, torch.ones(2, 1, 4, 4), Memory(order="step")), [ONES], 8)
    assert list(only["energy"]) == ["t"] and only["ann"]["layers"][1]["input_bits"] == 8


def good(**changes: str) -> str:
    keys = {"value": "2.0", "unit": '"pJ"', "node_nm": "7", "source": '"here"', "confirmed": "true"} | changes
    return '[mine]\ntitle = "t"\n[mine.add]\n' + "\n".join(f"{key} = {value}" for key, value in keys.items() if value)


def test_constants_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(good())
    own = energy_constants(path)
    assert (own.name, own.values["add"].pj, own.values["add"].node_nm) == ("mine", 2.0, 7)
    assert energy_constants(str(path)) == own


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (good(source=""), r"mine.toml \[mine.add\]: it must hold confirmed, node_nm, source, unit, value"),
        (good(source='" "'), "the source must be named"),
        (good(unit='"J"'), "the unit must be fJ, pJ or nJ"),
        (good(unit='"pJ / 8 bit"'), "memory is given per bit, the rest per operation"),
        (good(node_nm='"?"'), 'node_nm must be a whole number of nm or "unknown"'),
        (good(value="-1"), "the value must be a finite number >= 0"),
        (good(value="nan"), "the value must be a finite number >= 0"),
        (good(confirmed='"yes"'), "confirmed must be true or false"),
        (good(extra="1"), "and at most a note"),
        (good().replace(".add", ".addd"), "the operation must be one of .*did you mean 'add'"),
        ("mine = 1", r"\[mine\] must be a table with a title"),
        ("[", "it must be TOML"),
        ("", "a file of constants must hold one set, got 0"),
    ],
)
def test_bad_constants_are_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ValueError, match=words):
        energy_constants(tmp_path / "mine.toml")


def test_an_unknown_set_is_refused() -> None:
    with pytest.raises(ValueError, match=r"energy constants: .*did you mean 'int8_45nm'"):
        energy_constants("int8_45")
