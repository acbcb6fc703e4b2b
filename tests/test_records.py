"""A field added to a record survives every pass: records are copied with `replace`, not rebuilt by their fields.

A record that is made from nothing need not have it: encoders, the real format that float weights or rows without spikes
stand for, what a kernel is told (`Levels`, `ScanSpec`), and a neuron or quantizer that a constructor makes.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

import bitspike
from analog import ann, inputs
from bitspike.allocation.config import AllocationConfig
from bitspike.allocation.forecast import Forecast
from bitspike.allocation.widths import Allocation
from bitspike.cost import Cost, at_density, cost, quantized_ann
from bitspike.formats import SpikeFormat, WeightFormat, added, union
from bitspike.layers import Gain, Linear, Refined, Squeeze, SumPool2d, Synapse, Windows
from bitspike.models import Policy, mlp
from bitspike.neurons import LIF, Adaptive, Integer, MultiBit, Neuron, Real, Signed, Ternary
from bitspike.quantizers import Fixed, LearnedBits, PowerOfTwo, Quantizer, Sign, TernaryWeight, Uniform
from bitspike.sealed import amend

NOTE = "kept"
GRADED = {"decay": 1.0, "reset": "soft"}


@dataclasses.dataclass(frozen=True)
class NotedSpike(SpikeFormat):
    """A spike format of a later version."""

    note: str = ""


@dataclasses.dataclass(frozen=True)
class NotedWeight(WeightFormat):
    """A weight format of a later version."""

    note: str = ""


def noted(part: Any) -> Any:
    """A neuron or quantizer whose format has the new field, at a value that is not the default."""
    kind = NotedSpike if isinstance(part.format, SpikeFormat) else NotedWeight
    amend(part, format=kind(**dataclasses.asdict(part.format), note=NOTE))
    return part


def summing() -> Squeeze:
    """What folding makes of a mean over time."""
    squeeze = Squeeze(1, always=True)
    squeeze.summed = True
    return squeeze


def notes(module: nn.Module) -> list[str]:
    """The new field of every neuron and every quantized synapse."""
    formats = [m.format for m in module.modules() if isinstance(m, Neuron)]
    formats += [m.quantizer.format for m in module.modules() if isinstance(m, Synapse)]
    return [getattr(record, "note", "lost") for record in formats]


@pytest.mark.parametrize(
    "change",
    [
        SpikeFormat.unit,
        lambda record: record.summed(3),
        lambda record: record.sloped(0.5),
        lambda record: added([record, record], [1, 2]),
        lambda record: union([record, record]),
        SumPool2d(2).format_of,
        lambda record: summing().format_of(record, 4),
        lambda record: Gain(torch.tensor([[2.0], [1.0]])).format_of(record),
        lambda record: Windows(2).format_of(record, 2),
    ],
    ids=["unit", "summed", "sloped", "added", "union", "sum pool", "squeeze", "gain by step", "windows"],
)
def test_alphabets_made_of_others_keep_the_field(change: Any) -> None:
    assert change(NotedSpike(-1, 3, 1, note=NOTE)).note == NOTE


NEURONS = [
    LIF(train_amplitude="channel"),
    Ternary(train_amplitude="layer"),
    MultiBit(1, 1, amplitude=0.75),
    Integer(3),
    Signed(2, decay=1.0),
    Real(),
    Adaptive(2),
]


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda neuron: type(neuron).__name__)
def test_neurons_keep_the_field(neuron: Neuron) -> None:
    own = noted(copy.deepcopy(neuron))
    copies = [own.replicate(4), own.normalised(), own.normalised().normalised()]
    assert [getattr(twin.format, "note", "lost") for twin in copies] == [NOTE] * 3


@pytest.mark.parametrize(
    "part",
    [
        Adaptive(2),
        MultiBit(1, 1, learn_bits="fraction"),
        Integer(3, learn_bits="integer"),
        LearnedBits(3),
    ],
    ids=lambda part: type(part).__name__,
)
def test_a_refreshed_width_and_a_loaded_one_keep_the_field(part: Any) -> None:
    own, other = noted(copy.deepcopy(part)), copy.deepcopy(part)
    if isinstance(own, LearnedBits):
        own, other = own.replicate(torch.ones(2, 2)), other.replicate(torch.ones(2, 2))
    before = own.format
    own.raw_bits.data += 1
    own.refresh()
    assert own.format.bits == before.bits + 1 and own.format.note == NOTE
    own.load_state_dict(other.state_dict())
    assert own.format == before
    if isinstance(own, Adaptive):
        assert all(record.note == NOTE for record in own.formats)


@pytest.mark.parametrize(
    "quantizer",
    [Sign("output"), TernaryWeight(), Uniform(3), LearnedBits(3), PowerOfTwo(3)],
    ids=lambda q: type(q).__name__,
)
@pytest.mark.parametrize("neuron", [LIF(train_amplitude="layer"), MultiBit(1, 1, amplitude=0.75)], ids=["lif", "multi"])
def test_folding_keeps_the_field(neuron: Neuron, quantizer: Quantizer) -> None:
    torch.manual_seed(0)
    made = noted(copy.deepcopy(neuron)), noted(copy.deepcopy(quantizer))
    net = mlp(*made, T=2, shape=(8,), hidden=[6, 6], policy=Policy()).eval()
    x = torch.randn(8, 8)
    folded = bitspike.fold(net, x)
    before, after = notes(net), notes(folded)
    assert before == after == [NOTE] * len(before) and len(before) > 3
    synapses = [m for m in folded.modules() if isinstance(m, Synapse)]
    assert all(isinstance(m.quantizer, Fixed) and m.quantizer.format.scale == "none" for m in synapses)
    spikes = [node.format for node in folded.graph if node.kind == "neuron"]
    assert spikes and all(record.note == NOTE for record in spikes)
    assert all(seen.format.note == NOTE for seen in bitspike.observe(folded.net, [x]).values())  # type: ignore[attr-defined]


def test_refined_neurons_keep_the_field_before_and_after_folding() -> None:
    torch.manual_seed(0)
    refined = Refined(noted(MultiBit(2, 0, **GRADED)), T=3)
    assert refined.format.note == NOTE  # type: ignore[attr-defined]
    net = mlp(refined, noted(Uniform(3)), T=3, shape=(8,), hidden=[6, 6], policy=Policy()).eval()
    folded = bitspike.fold(net, torch.randn(8, 8))
    assert set(notes(net)) == set(notes(folded)) == {NOTE}


def test_upgraded_networks_keep_the_field() -> None:
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    x = torch.randn(4, 8)
    upgraded = bitspike.upgrade(model, {nn.ReLU: noted(MultiBit(1, 1)), nn.Linear: None}, x)
    kept = [m.format.note for m in upgraded.modules() if isinstance(m, Neuron)]
    assert kept == [NOTE, NOTE]
    folded = bitspike.fold(upgraded.eval(), x)
    assert [m.format.note for m in folded.modules() if isinstance(m, Neuron)] == [NOTE, NOTE]


@pytest.mark.parametrize("neuron", [MultiBit(2, 2, decay=1.0), Signed(4, decay=1.0)], ids=["multibit", "signed"])
def test_converted_networks_keep_the_field(neuron: Neuron) -> None:
    converted = bitspike.ann2snn(ann("he"), noted(copy.deepcopy(neuron)), inputs(8), 2)
    kept = [m.format for m in converted.modules() if isinstance(m, Neuron)]
    assert kept and all(record.note == NOTE and record.amplitude == "channel" for record in kept)


def test_what_a_conversion_sets_survives_a_loaded_width() -> None:
    """The amplitude per channel was forgotten when a width was loaded or refreshed."""
    converted = bitspike.ann2snn(ann("he"), Integer(3, decay=1.0, learn_bits="integer"), inputs(8), 2)
    for neuron in (m for m in converted.modules() if isinstance(m, Integer)):
        before = neuron.format
        neuron.load_state_dict(neuron.state_dict())
        neuron.refresh()
        assert neuron.format == before and before.amplitude == "channel"


def learned(quantizer: Any) -> nn.Module:
    return nn.Sequential(Adaptive(2), Linear(8, 4, weight=quantizer))


class Stored(NotedWeight):
    """A grid that takes a bit more than its levels need."""

    @property
    def bits(self) -> int:
        return super().bits + 1


def test_forecasts_ask_the_record_of_the_quantizer() -> None:
    """Bits at another width are those of the same record with other ends, whatever else it says."""
    net = learned(LearnedBits(3))
    quantizer = net[1].quantizer  # type: ignore[union-attr]
    amend(quantizer, format=Stored(**dataclasses.asdict(quantizer.format), note=NOTE))  # type: ignore[union-attr, arg-type]
    forecast = Forecast(Allocation(net, AllocationConfig()), torch.rand(2, 4, 8))
    assert [forecast._stored("weights", "1", width) for width in (1, 3, 5)] == [2, 4, 6]


def test_learned_bits_refuse_a_grid_that_is_not_equidistant(refuses: Any) -> None:
    net = learned(LearnedBits(3))
    amend(net[1].quantizer, format=WeightFormat(-4, 4, spacing="power"))  # type: ignore[union-attr,arg-type]
    with refuses("[allocation] 1", "equidistant", "±2^2"):
        Allocation(net, AllocationConfig())


def test_costs_derived_from_others_keep_what_they_do_not_change() -> None:
    """`quantized_ann` and `at_density` return the class of cost they were given, with its other fields."""

    @dataclasses.dataclass
    class Noted(Cost):
        note: str = ""

    counted = cost(nn.Sequential(LIF(), Linear(3, 2)), torch.ones(2, 1, 3))
    fields = {f.name: getattr(counted, f.name) for f in dataclasses.fields(counted)}
    given = Noted(**fields, note=NOTE)
    for derived in (quantized_ann(given), at_density(given, 0.5)):
        assert derived.note == NOTE  # type: ignore[attr-defined]
        assert derived.layers is not given.layers and derived.uncounted is not given.uncounted
        assert derived.layers[0] is not given.layers[0]
