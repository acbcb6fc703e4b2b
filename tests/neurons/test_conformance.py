"""Every registered neuron passes the public conformance suite in every kind of configuration."""

from __future__ import annotations

import pytest
import torch

from bitspike.neurons import NEURONS, Real
from bitspike.testing import check_neuron
from neurons.cases import CHANNELS, FACTORS, Options, build, cases, covering, label, products

Case = tuple[str, Options]


@pytest.mark.parametrize("case", cases(1), ids=label)
def test_every_option(case: Case) -> None:
    check_neuron(build(*case), CHANNELS, compiled=False)


@pytest.mark.parametrize("name", list(NEURONS))
def test_compiled_and_exported(name: str) -> None:
    for case in [case for case in cases(1) if case[0] == name][:2]:
        check_neuron(build(*case), CHANNELS)


@pytest.mark.slow
@pytest.mark.parametrize("case", cases(2), ids=label)
def test_every_pair_of_options(case: Case) -> None:
    check_neuron(build(*case), CHANNELS)


def test_a_rescaled_real_neuron() -> None:
    factor = torch.tensor([0.5, 1.0, 2.0, 0.3, 1.7])
    for gradient in ("mask", "surrogate"):
        neuron = Real(gradient=gradient).rescaled(factor)
        check_neuron(neuron, 5, constants=("threshold_factor",), compiled=False)


def test_the_table_names_registered_neurons_only() -> None:
    assert set(FACTORS) <= set(NEURONS)


@pytest.mark.parametrize("strength", [1, 2])
def test_the_cases_cover_what_they_claim(strength: int) -> None:
    def parts(combination: tuple[Options, ...]) -> set[frozenset[str]]:
        return {frozenset(map(str, (a, b)[:strength])) for a in combination for b in combination if a is not b}

    everything = {part for c in products("real") for part in parts(c)}
    chosen = covering("real", strength)
    assert {part for c in chosen for part in parts(c)} == everything
    assert len(chosen) <= (6, 40)[strength - 1]
