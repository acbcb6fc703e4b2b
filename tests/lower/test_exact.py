"""On a dyadic grid a program sends what its folded network sends in float64: every spike, every logit."""

from __future__ import annotations

import pytest

from bitspike.lower import CompileReport
from bitspike.testing import check_program
from lower_nets import WIDE, folded_on_grid
from networks import NETS, make_neuron


@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize(
    "weight", ["float", "sign-layer", "sign-output", "ternary-none", "ternary-output", "uniform4-layer"]
)
@pytest.mark.parametrize("neuron", ["lif", "ternary", "multibit"])
@pytest.mark.parametrize("net", sorted(NETS))
def test_program_equals_folded_network(net: str, neuron: str, weight: str, T: int) -> None:
    folded, x = folded_on_grid(net, make_neuron(neuron, amplitude=2.0, decay=0.5), weight, T)
    program, found = check_program(folded, x, **WIDE)
    for name, layer in found.layers.items():
        assert 0.02 < layer.fired / layer.spikes < 0.98, name
    report = CompileReport.of(program)
    assert report.agreement == 1 and report.max_logit_difference == 0 and report.input_error == 0
    assert all(layer.safe and layer.rounding == 0 for layer in report.layers)


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("neuron", ["lif", "ternary", "multibit"])
def test_resets_and_decays(neuron: str, reset: str) -> None:
    for decay in (1.0, 0.25):
        made = make_neuron(neuron, amplitude=2.0, decay=decay, reset=reset)
        check_program(*folded_on_grid("study_cnn", made, "uniform4-layer", 4), **WIDE)
