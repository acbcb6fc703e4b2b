"""Names are taken once, unknown ones get advice, every registered thing is what its table promises."""

from __future__ import annotations

from typing import Any

import pytest

from bitspike.functional import SURROGATES, Surrogate
from bitspike.neurons import NEURONS, Neuron
from bitspike.quantizers import QUANTIZERS, Quantizer
from bitspike.registry import Registry


def test_a_registry_keeps_order_and_names() -> None:
    table: Registry[type] = Registry("thing")
    assert table.register("one")(int) is int
    table.register("two")(str)
    assert list(table) == ["one", "two"]
    assert list(table.items()) == [("one", int), ("two", str)]
    assert table["two"] is str and "two" in table and "three" not in table
    assert table.name_of(int) == "one"


def test_bad_names(refuses: Any) -> None:
    table: Registry[type] = Registry("thing")
    table.register("square")(int)
    with refuses("thing registry", "'square'", "registered once"):
        table.register("square")(str)
    assert table["square"] is int
    with refuses("thing registry", "got 'sqare'", "did you mean 'square'?"):
        table["sqare"]
    with refuses("thing registry", "got 'zz'", "choose one of these"):
        table["zz"]
    with refuses("thing registry", "must be registered"):
        table.name_of(float)


@pytest.mark.parametrize("name", list(NEURONS))
def test_registered_neurons(name: str) -> None:
    assert isinstance(NEURONS[name](), Neuron)  # every neuron has defaults
    assert NEURONS.name_of(NEURONS[name]) == name


@pytest.mark.parametrize("name", list(QUANTIZERS))
def test_registered_quantizers(name: str) -> None:
    assert isinstance(QUANTIZERS[name](), Quantizer)


@pytest.mark.parametrize("name", list(SURROGATES))
def test_registered_surrogates(name: str) -> None:
    made = SURROGATES[name]()
    assert isinstance(made, Surrogate) and not made.relaxed
