"""Every registered neuron passes the public conformance suite in every kind of configuration."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Sequence

import pytest
import torch

from bitspike.neurons import NEURONS, Real
from bitspike.testing import check_neuron
from neurons.alif import ALIF
from neurons.cases import CHANNELS, OWN, OWN_FLOORS, Options, build, cases, covering, factors, floors, label

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


def test_features_of_tokens() -> None:
    for name in ("lif", "multibit", "real"):
        check_neuron(NEURONS[name](train_amplitude="channel").replicate(CHANNELS, channel_dim=-1), 5, compiled=False)


def test_the_table_names_registered_neurons_only() -> None:
    assert set(OWN) | set(OWN_FLOORS) <= set(NEURONS)


def names(groups: Sequence[Sequence[Options]]) -> list[set[str]]:
    return [{key for options in group for key in options} for group in groups]


def test_options_in_common_are_read_from_the_constructor() -> None:
    """A neuron that stands in no list is tested with every common option it has."""
    assert names(factors(ALIF)) == [
        {"reset", "detach_reset"},
        {"train_amplitude"},
        {"decay"},
        {"surrogate"},
        {"threshold"},
    ]
    assert {options["reset"] for options in factors(ALIF)[0]} == {"hard", "soft"}
    common = {"threshold", "decay", "learn_decay", "reset", "detach_reset", "surrogate", "amplitude", "raw_amplitude"}
    common |= {"train_amplitude", "initial"}
    for name, kind in NEURONS.items():
        taken = inspect.signature(kind).parameters
        assert set().union(*names(factors(kind))) == common & set(taken), name
        assert bool(floors(name)) == ("floor" in taken), name


def test_an_option_that_a_constructor_refuses_is_left_out() -> None:
    assert list(factors(Refuses)) == [[{}, {"decay": 0.5}, {"decay": 1.0}]]


class Refuses(ALIF):
    def __init__(self, decay: float = 0.5) -> None:
        if decay == 0:
            raise ValueError("not without memory")
        super().__init__(decay=decay)


@pytest.mark.parametrize("name", list(NEURONS))
@pytest.mark.parametrize("strength", [1, 2])
def test_the_cases_cover_what_they_claim(strength: int, name: str) -> None:
    groups = factors(NEURONS[name], OWN.get(name, ()))
    chosen = covering(groups, strength)

    def parts(row: tuple[Options, ...]) -> set[tuple[tuple[int, str], ...]]:
        return set(itertools.combinations([(g, str(options)) for g, options in enumerate(row)], strength))

    wanted = {
        part
        for some in itertools.combinations(enumerate(groups), strength)
        for part in itertools.product(*([(g, str(options)) for options in group] for g, group in some))
    }
    assert set().union(*map(parts, chosen)) == wanted
    sizes = sorted(len(group) for group in groups)
    least = sizes[-1] if strength == 1 else sizes[-1] * sizes[-2]
    assert least <= len(chosen) <= (least if strength == 1 else least + 12)
