"""Fine-tuned thresholds: better on what judges or unchanged; the settled read-out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bitspike
from analog import ann, inputs
from bitspike.ann2snn import Converted, skeleton, tune
from bitspike.layers import MeanReadout
from bitspike.neurons import LIF, MultiBit, Neuron

COARSE = MultiBit(1, 1, decay=1.0)


def error(snn: nn.Module, net: nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        return float((snn(x) - net(x)).norm() / net(x).norm())


@pytest.mark.parametrize("sharing", ["channel", "layer"])
def test_thresholds_change_only_where_the_error_falls(sharing: str) -> None:
    """From the maximum, far too high for four levels, tuning finds better thresholds; the report says what happened."""
    net, x = ann("residual"), inputs(64)
    options = {"T": 1, "threshold": "max", "sharing": sharing, "correction": "none"}
    rough = bitspike.ann2snn(net, COARSE, x, **options)  # type: ignore[arg-type]
    tuned = bitspike.ann2snn(net, COARSE, x, **options, fine_tune=5)  # type: ignore[arg-type]
    assert tuned.report is not None and rough.report is not None
    before, after = tuned.report.tuning
    assert after < before
    judged = x[3::4]
    assert before == pytest.approx(error(rough, net, judged), rel=1e-4)
    assert after == pytest.approx(error(tuned, net, judged), rel=1e-3)
    assert tuned.report.logit_error == pytest.approx(error(tuned, net, x), rel=1e-3)
    ranges = [(row.ceiling_least, row.ceiling_greatest) for row in tuned.report.layers.values()]
    assert ranges != [(row.ceiling_least, row.ceiling_greatest) for row in rough.report.layers.values()]
    assert rough.report.tuning == (0.0, 0.0)
    assert bitspike.fold(tuned, x).report.agreement == 1


def test_nothing_changes_where_the_error_would_rise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate far too high makes it worse: every weight stays, bit for bit."""
    monkeypatch.setattr(tune, "_RATE", 5.0)
    net, x = ann("residual"), inputs(32)
    plain, tried = bitspike.ann2snn(net, COARSE, x), bitspike.ann2snn(net, COARSE, x, fine_tune=1)
    assert tried.report is not None and tried.report.tuning[1] > tried.report.tuning[0]
    for key, value in plain.state_dict().items():
        assert torch.equal(tried.state_dict()[key], value), key


def test_tuning_leaves_no_gradients_behind_and_needs_no_grad_mode() -> None:
    """Stale gradients of the weights would be added to those of the first step of a later training."""
    net, x = ann("residual"), inputs(16)
    with torch.no_grad():
        tuned = bitspike.ann2snn(net, COARSE, x, fine_tune=1)
        assert not torch.is_grad_enabled()
    again = bitspike.ann2snn(net, COARSE, x, fine_tune=1)
    assert all(parameter.grad is None for snn in (tuned, again) for parameter in snn.parameters())
    assert tuned.report is not None and again.report is not None and tuned.report.tuning == again.report.tuning


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="fine_tune must"):
        bitspike.ann2snn(ann("residual"), COARSE, inputs(4), fine_tune=-1)
    with pytest.raises(ValueError, match="two samples or more"):
        bitspike.ann2snn(ann("residual"), COARSE, inputs(1), fine_tune=1)
    with pytest.raises(ValueError, match="readout must be one of"):
        bitspike.ann2snn(ann("residual"), COARSE, inputs(4), readout="last")


@pytest.mark.parametrize("neuron", [LIF(1.0, 1.0, reset="soft"), COARSE], ids=["binary", "graded"])
def test_the_settled_readout_is_the_best_start(neuron: Neuron) -> None:
    """The least error over all first steps, streams with the same bits, survives saving and folding."""
    net, x, T = ann("he", torch.float64), inputs(24, torch.float64), 12
    plain = bitspike.ann2snn(net, neuron, x, T, correction="mean")
    settled = bitspike.ann2snn(net, neuron, x, T, correction="mean", readout="settled")
    assert plain.report is not None and settled.report is not None
    assert settled.report.logit_error <= plain.report.logit_error
    readout = next(m for m in settled.modules() if isinstance(m, MeanReadout))
    first = settled.report.first_step
    assert readout.keep is not None and readout.keep.tolist() == [0.0] * first + [1.0] * (T - first)
    if isinstance(neuron, LIF):
        assert first > 0  # spikes take some steps through 19 layers
    states, y = None, None
    for step in x.unsqueeze(0).expand(T, *x.shape).split(5):
        y, states = bitspike.stream(settled.graph, step, states)
    assert torch.equal(y, settled(x))
    assert bitspike.fold(settled, x).report.agreement == 1
    empty = Converted(skeleton(ann("he", torch.float64), neuron, x[:1], T, readout="settled").graph)
    empty.load_state_dict(settled.state_dict())
    assert torch.equal(empty(x), settled(x))


def test_a_readout_that_leaves_steps_out_by_hand() -> None:
    readout = MeanReadout(3)
    assert readout.keep is not None
    readout.keep[:2] = 0
    x = torch.tensor([1.0, 2.0, 4.0, 8.0]).reshape(4, 1, 1)
    assert readout(x[:3]).item() == 4.0 and readout(x).item() == 6.0 and readout(x[:2]).item() == 0.0
    assert not list(MeanReadout().state_dict())
