"""A neuron with an adaptive threshold: by hand, fold and its margins, streaming. Conformance: test_alif_mutants.py."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike import trace
from bitspike.ann2snn.rectifier import check_neuron as check_rectifier
from bitspike.fold import FoldReport
from bitspike.fold.verify import compare
from bitspike.layers import Linear, MeanReadout, Repeat
from bitspike.models import Network
from bitspike.observe import potentials
from networks import rng
from neurons.alif import ALIF


class ForgetsToSay(ALIF):
    """Its threshold moves, and no hook says so."""

    def threshold_scale_at(self, state: Any) -> Tensor | float:
        return 1.0


def test_by_hand() -> None:
    """Thresholds 1, 1.75, 2.125 and 1.5625 for a constant current of 1.5; a soft reset takes that of its step."""
    s, state = ALIF().run(torch.full((4, 1, 1), 1.5))
    # u = 1.5 fires, v .5, a 1; u = 1.75 fires at 1.75 (a tie), v 0, a 1.5; u = 1.5 < 2.125, a .75; u = 2.25 >= 1.5625
    assert s.flatten().tolist() == [1.0, 1.0, 0.0, 1.0]
    assert (state.v.item(), state.a.item()) == (2.25 - 1.5625, 0.375 + 1)


def test_potentials_in_units_of_the_threshold_decide_the_spikes() -> None:
    neuron = ALIF()
    x = 2 * torch.randn(8, 16, 5, generator=rng(0), dtype=torch.float64)
    scaled = potentials(neuron, x, scaled=True)
    assert torch.equal(neuron.stairs.level(scaled), neuron(x))
    assert not torch.equal(neuron.stairs.level(potentials(neuron, x)), neuron(x))


def net(neuron: ALIF) -> Network:
    torch.manual_seed(0)
    body = nn.Sequential(Linear(6, 32), neuron, Linear(32, 16), copy.deepcopy(neuron), Linear(16, 3))
    return Network(Repeat(8), body, MeanReadout()).double().eval()


def test_the_flip_report_measures_the_distance_to_the_moving_threshold() -> None:
    """A bias moved by 1e-3 flips spikes within 2e-3 (decay 0.5) of their thresholds, far from the fixed one."""
    worst = {}
    for kind in (ALIF, ForgetsToSay):
        whole = net(kind())
        moved = copy.deepcopy(whole)
        with torch.no_grad():
            moved.body[0].bias += 1e-3  # type: ignore[union-attr, operator]
        x = 4 * torch.randn(256, 6, generator=rng(1), dtype=torch.float64)
        report = compare(trace(whole), trace(moved), x, FoldReport())
        layer = report.layers["body_1"]
        assert layer.forced > 10 and 0.05 < layer.rate < 0.95
        worst[kind] = layer.worst_margin
    assert 0 < worst[ALIF] <= 2e-3 and worst[ForgetsToSay] > 0.1


def test_it_folds_and_streams() -> None:
    whole = net(ALIF(train_amplitude="layer"))
    for neuron in (m for m in whole.modules() if isinstance(m, ALIF)):
        neuron.emission.raw_amplitude.data.fill_(0.3)  # type: ignore[union-attr]
    x = 4 * torch.randn(64, 6, generator=rng(1), dtype=torch.float64)
    report = bitspike.fold(whole, x).report
    assert report.forced_flips == 0 and report.agreement == 1.0 and report.max_logit_difference < 1e-12
    sequence = whole.encoder(x)
    wanted, _ = bitspike.stream(whole, sequence)
    _, states = bitspike.stream(whole, sequence[:3])
    rest, _ = bitspike.stream(whole, sequence[3:], states)
    assert torch.equal(rest, wanted) and torch.equal(wanted, whole(x))


def test_ann2snn_refuses_a_threshold_that_moves() -> None:
    with pytest.raises(ValueError, match=r"thresholds must be numbers of their own.*ALIF, whose threshold moves"):
        check_rectifier(ALIF(decay=1.0))
