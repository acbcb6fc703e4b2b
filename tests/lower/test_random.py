"""Random networks: program and folded network send the same, for every cell of options that means anything.

A cell counts as filled by a block whose neuron fired, in a network that passed. Quick: every option of every factor,
and every spike format with every kind of quantizer. Slow: spike format × weight format × T in full, and every pair of
options of all factors (spikes that are read and sent, weights, T, resets and thresholds, amplitudes, norms, kernels,
strides, padding, groups, dilation, pools of spikes and of currents, ways around, edges in time, inputs, read-outs).
"""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from bitspike.neurons import NEURONS
from bitspike.quantizers import QUANTIZERS
from networks import samples
from random_networks import random_network
from random_networks.check import check
from random_networks.coverage import FACTORS, Coverage, cells, fill, pairs
from random_networks.factors import SPIKES, WEIGHTS
from random_networks.plan import draw


def report(coverage: Coverage) -> None:
    """Print what is covered; fail where a cell is empty."""
    print(coverage.table(), coverage.grid("spike", "weight"), sep="\n")
    assert coverage.unusual <= 0.01
    assert not coverage.missing, f"{len(coverage.missing)} cells are empty: {list(coverage.missing)[:20]}"


def test_every_registered_neuron_and_quantizer_is_drawn() -> None:
    assert {kind for kind, _ in SPIKES.values()} == set(NEURONS)
    made = [make() for make in WEIGHTS.values()]
    assert {QUANTIZERS["float"], *(type(weight) for weight in made if weight is not None)} == {
        kind for _, kind in QUANTIZERS.items()
    }


def test_a_network_is_the_same_for_the_same_seed() -> None:
    (one, x, what), (other, y, again) = random_network(3), random_network(3)
    assert what == again and x.equal(y) and x.dtype == samples(1).dtype
    pairs_of = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(a.equal(b) for a, b in pairs_of) and random_network(4)[2] != what


def test_every_option_and_every_spike_with_every_kind_of_weights() -> None:
    kinds = dict.fromkeys(name.split("-")[0].rstrip("0123456789") for name in WEIGHTS)
    firsts = {next(name for name in WEIGHTS if name.startswith(kind)) for kind in kinds}
    wanted = [cell for cell in cells("spike", "weight") if cell[1][1] in firsts]
    report(fill([*wanted, *(cell for name in FACTORS for cell in cells(name))]))


@settings(max_examples=15)
@given(st.data())
def test_any_network(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 2**16), "seed")
    check(draw(seed, lambda name, options, row: data.draw(st.sampled_from(options), name)))


@pytest.mark.slow
def test_every_spike_with_all_weights_and_steps() -> None:
    report(fill(cells("spike", "weight", "steps")))


@pytest.mark.slow
def test_every_pair_of_options() -> None:
    report(fill(pairs()))
