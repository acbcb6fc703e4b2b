"""Every registered neuron, reset and T, and every quantizer: lowers, exactly on a dyadic grid, or says why."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import pytest
import torch
from torch import nn

import bitspike
from bitspike.layers import Linear, MeanReadout, Repeat
from bitspike.lower import compare
from bitspike.neurons import NEURONS, Real, Signed
from bitspike.quantizers import QUANTIZERS
from bitspike.testing import check_program
from lower_nets import WIDE, folded_on_grid, on_grid
from networks import NETS, dyadic, make_neuron, samples

RESETS = {
    name: ("hard", "soft") if "reset" in inspect.signature(kind).parameters else ("",) for name, kind in NEURONS.items()
}
CASES = [(name, reset, T) for name, resets in RESETS.items() for reset, T in itertools.product(resets, (1, 2, 5))]


@pytest.mark.parametrize(("name", "reset", "T"), CASES)
def test_every_neuron(name: str, reset: str, T: int) -> None:
    neuron = make_neuron(name, amplitude=2.0, decay=0.5, **({"reset": reset} if reset else {}))
    folded, x = folded_on_grid("study_cnn", neuron, "ternary-output", T)
    real = neuron.format.real  # whose spikes are rounded to 16 bits: a membrane within that of its threshold may flip
    _, found = check_program(folded, x, exact=not real, **WIDE)
    assert found.end_to_end_flips <= 1e-4 * real * sum(layer.spikes for layer in found.layers.values())
    assert found.max_logit_difference_forced <= 2.0**-12 * real * found.largest_logit


@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("name", sorted(QUANTIZERS))
def test_every_quantizer(name: str, T: int) -> None:
    x = dyadic(samples(8))
    model = on_grid(NETS["pool_net"](make_neuron("multibit", amplitude=2.0, decay=0.5), QUANTIZERS[name](), T=T), x)
    check_program(bitspike.fold(model, x), x, **WIDE)


@pytest.mark.parametrize("options", [{"initial": 0.25}, {"floor": -0.5}, {"initial": 0.5, "floor": -1.0, "decay": 1.0}])
@pytest.mark.parametrize("name", ["lif", "ternary", "multibit", "integer"])
def test_floor_and_start(name: str, options: dict[str, float]) -> None:
    neuron = make_neuron(name, **{"amplitude": 2.0, "decay": 0.5, "reset": "soft", **options})
    check_program(*folded_on_grid("study_cnn", neuron, "uniform4-layer", 3), **WIDE)


@pytest.mark.parametrize(
    "neuron", [Signed(2, slope=0.25), Signed(3, decay=1.0, cancels_only=True), Signed(1, reset="hard")]
)
def test_signed(neuron: Signed) -> None:
    check_program(*folded_on_grid("study_cnn", neuron, "ternary-none", 4), **WIDE)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_real_spikes_by_their_bits(bits: int) -> None:
    folded, x = folded_on_grid("study_cnn", make_neuron("real", amplitude=2.0, decay=0.5), "sign-layer", 2)
    _, found = check_program(folded, x, exact=False, **{**WIDE, "spike_bits": bits})
    assert 0 < found.max_logit_difference_forced <= 2.0 ** (3 - bits) * found.largest_logit


@pytest.mark.parametrize("bits", [4, 8])
def test_forced_real_spikes_beyond_their_range_are_the_greatest_level(bits: int) -> None:
    first, last = Linear(1, 1), Linear(1, 2)
    for layer in (first, last):
        layer.weight.data.fill_(1.0)
    folded = bitspike.fold(nn.Sequential(Repeat(1), first, Real(0.5), last, MeanReadout()), torch.ones(1, 1))
    program = bitspike.compile(folded, torch.ones(1, 1), **{**WIDE, "spike_bits": bits})
    found = compare(program, folded, [torch.tensor([[1.25]])])  # a cast to 8 bits made level 63 of the network's 319
    assert found.max_logit_difference_forced == found.max_logit_difference == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("name", sorted(NEURONS))
def test_a_neuron_whose_step_is_another_is_refused(name: str) -> None:
    class Late(NEURONS[name]):  # type: ignore[misc,valid-type]
        """Charges half of its current."""

        def step(self, x: torch.Tensor, state: Any) -> Any:
            return super().step(x / 2, state)

    folded, x = folded_on_grid("study_cnn", Late(), "sign-layer", 2)
    with pytest.raises(ValueError, match="a step of Late is not charge, fire and reset of a program") as error:
        bitspike.compile(folded, x)
    assert str(error.value).count("(Late)") == 5  # all of them, in one message
