"""The initial membrane: where it acts, and that everything else about a neuron stays as it is."""

from __future__ import annotations

import pytest
import torch

import bitspike
from bitspike.neurons import LIF, Integer, MembraneState, MultiBit, Neuron, Ternary
from bitspike.ops import using
from bitspike.sealed import amend
from bitspike.testing.neuron import (
    calls_agree,
    gradients_are_those_of_the_relaxed_neuron,
    normalised_sends_levels,
    nothing_is_written,
    reset_keeps_charge,
    samples_are_independent,
    shapes_are_kept,
    values_are_on_the_alphabet,
)
from bitspike.testing.trial import Trial

NEURONS = {
    "lif": LIF(reset="soft", initial=0.375),
    "lif-hard": LIF(decay=1.0, initial=-0.5),
    "ternary": Ternary(initial=-0.25, train_amplitude="channel"),
    "multibit": MultiBit(1, 2, decay=1.0, initial=0.125),
    "integer": Integer(3, initial=0.25),
}
CHECKS = (
    calls_agree,
    gradients_are_those_of_the_relaxed_neuron,
    normalised_sends_levels,
    nothing_is_written,
    reset_keeps_charge,
    samples_are_independent,
    shapes_are_kept,
    values_are_on_the_alphabet,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", list(NEURONS))
def test_conformance(name: str, check) -> None:  # type: ignore[no-untyped-def]
    check(Trial(NEURONS[name].replicate(5), 5, torch.device("cpu"), ()))


@pytest.mark.parametrize("name", list(NEURONS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_first_state(name: str, dtype: torch.dtype) -> None:
    """A neuron that starts at v is a discharged one given the state v, on every kernel."""
    neuron: Neuron = NEURONS[name].replicate(5).to(dtype)
    start = neuron.membrane.initial
    plain = NEURONS[name].replicate(5).to(dtype)
    plain.load_state_dict(neuron.state_dict())
    amend(plain.membrane, initial=0.0)
    x = 1.5 * torch.randn(6, 9, 5, dtype=dtype, generator=torch.Generator().manual_seed(0)).mul(16).round() / 16
    wanted = plain.run(x, MembraneState(torch.full_like(x[0], start)))
    got = neuron.run(x)
    assert torch.equal(got[0], wanted[0]) and torch.equal(got[1].v, wanted[1].v)
    assert not torch.equal(got[0], plain(x))
    assert torch.equal(neuron(x), wanted[0])
    with using("reference"):
        assert torch.equal(neuron(x), wanted[0])


def test_half_a_level_rounds() -> None:
    spikes = MultiBit(2, 0, decay=1.0, initial=0.5)(torch.tensor([[[0.4, 0.5, 1.4, 1.5]]]))
    assert spikes.flatten().tolist() == [0.0, 1.0, 1.0, 2.0]


def test_it_is_shown_and_checked() -> None:
    assert "initial=0.5" in repr(LIF(initial=0.5).membrane) and "initial" not in repr(LIF().membrane)
    with pytest.raises(ValueError, match="initial membrane must be finite, got nan"):
        LIF(initial=float("nan"))


def test_fold_keeps_it() -> None:
    from bitspike.layers import Linear, MeanReadout, Repeat
    from bitspike.models import Network

    body = torch.nn.Sequential(Linear(4, 5), MultiBit(1, 1, decay=1.0, initial=0.25, amplitude=2.0), Linear(5, 3))
    net = Network(Repeat(3), body, MeanReadout()).double().eval()
    folded = bitspike.fold(net, torch.randn(6, 4, dtype=torch.float64))
    assert [n.module.membrane.initial for n in folded.graph.of_kind("neuron")] == [0.25]  # type: ignore[union-attr]
