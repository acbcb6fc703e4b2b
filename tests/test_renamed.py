"""Names of the last release: each one warns and gives what it gave."""

from __future__ import annotations

import importlib
import sys
import types

import pytest
import torch

import bitspike
from bitspike.layers import Linear
from bitspike.neurons import LIF, Emission, Neuron, Signed
from bitspike.quantizers import Sign
from bitspike.renamed import MODULES


@pytest.mark.parametrize("old", MODULES)
def test_every_old_module_warns_and_has_the_public_names_of_the_new_ones(old: str) -> None:
    sys.modules.pop(f"bitspike.{old}", None)
    with pytest.warns(DeprecationWarning, match=rf"bitspike\.{old} is now bitspike\.{MODULES[old][0]}"):
        module = importlib.import_module(f"bitspike.{old}")
    for home in (importlib.import_module(f"bitspike.{new}") for new in MODULES[old]):
        own = [n for n, v in vars(home).items() if getattr(v, "__module__", "") == home.__name__ and n[0] != "_"]
        for name in [*getattr(home, "__all__", ()), *own]:
            found = getattr(module, name)
            assert isinstance(found, types.ModuleType) or found is getattr(home, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'; look into"):
        _ = module.nothing


def test_the_old_package_is_an_attribute() -> None:
    for name in [name for name in sys.modules if name.startswith("bitspike.convert")]:
        del sys.modules[name]
    bitspike.__dict__.pop("convert", None)
    with pytest.warns(DeprecationWarning, match=r"bitspike\.convert is now"):
        assert bitspike.convert.Folded is importlib.import_module("bitspike.fold").Folded
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = bitspike.nothing


def test_names_that_left_their_package() -> None:
    from bitspike import allocation, cost, training

    with pytest.warns(DeprecationWarning, match=r"training\.Allocation is now bitspike\.allocation\.Allocation"):
        assert training.Allocation is allocation.Allocation
    cost_package = sys.modules["bitspike.cost"]
    with pytest.warns(DeprecationWarning, match=r"quantised_ann is now bitspike\.cost\.quantized_ann"):
        assert cost_package.quantised_ann is cost_package.quantized_ann
    assert callable(cost)


def test_methods_and_attributes() -> None:
    emission, k = Emission(), torch.tensor([-2.0, 1.0])
    with pytest.warns(DeprecationWarning, match=r"Emission\.bend_by is now set_slope"):
        emission.bend_by(0.5)
    with pytest.warns(DeprecationWarning, match="scale_negative"):
        assert torch.equal(emission.bend(k), torch.tensor([-1.0, 1.0]))
    with pytest.warns(DeprecationWarning, match="unscale_negative"):
        assert torch.equal(emission.straighten(emission.scale_negative(k)), k)
    with pytest.warns(DeprecationWarning, match=r"LIF\.unit_like"):
        assert LIF().unit_like(k).item() == 1
    with pytest.warns(DeprecationWarning, match=r"LIF\.announce"):
        assert LIF().announce(k) is k
    with pytest.warns(DeprecationWarning, match=r"Linear\.quantise_with"):
        layer = Linear(2, 2)
        layer.quantise_with(Sign())
    assert isinstance(layer.quantizer, Sign)


def test_the_old_argument_and_attribute_of_signed() -> None:
    with pytest.warns(DeprecationWarning, match=r"Signed\(takes_back=...\) is now cancels_only=...") as told:
        neuron = Signed(takes_back=True)
    assert told[0].filename == __file__  # where the user wrote it, though constructors are wrapped
    assert neuron.cancels_only
    with pytest.warns(DeprecationWarning, match=r"Signed\.takes_back is now cancels_only"):
        neuron.takes_back = False
    assert not neuron.cancels_only
    with pytest.warns(DeprecationWarning):
        assert neuron.takes_back is False


def test_hooks_that_a_subclass_defines_under_old_names_are_not_ignored() -> None:
    """Else a neuron of a user's own would be folded and checked with other thresholds, in silence."""
    with pytest.warns(DeprecationWarning, match="is now threshold_scale"):

        class Own(LIF):
            takes_back = True

            def unit_like(self, u: torch.Tensor) -> torch.Tensor:
                return torch.full((), 2.0)

    assert Own().threshold_scale(torch.zeros(1)).item() == 2 and Own().cancels_only
    assert Own.threshold_scale is not Neuron.threshold_scale
