"""Samples of several outputs, of which some have a time axis, are told apart in every one of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import bitspike
from bitspike.fold.verify import FoldReport, _compare_logits
from bitspike.layers import Linear, MeanReadout, Repeat
from bitspike.neurons import LIF


def test_a_difference_belongs_to_its_sample_with_and_without_a_time_axis() -> None:
    mean, steps = torch.randn(6, 5), torch.randn(3, 6, 5)
    flipped = torch.zeros(6, dtype=torch.bool)
    flipped[1] = True
    other_mean, other_steps = mean.clone(), steps.clone()
    other_mean[1] += 1
    other_steps[:, 1] += 0.5
    report = FoldReport()
    _compare_logits(report, [(mean, other_mean, False), (steps, other_steps, True)], flipped)
    assert report.max_logit_difference == 0 and report.samples_with_flips == 1
    assert report.max_logit_difference_all >= 1 - 1e-6
    other_mean[2, 0] += 0.25
    other_steps[0, 3, 1] += 0.125
    for outputs, expected in (([(mean, other_mean, False)], 0.25), ([(steps, other_steps, True)], 0.125)):
        report = FoldReport()
        _compare_logits(report, outputs, flipped)
        assert abs(report.max_logit_difference - expected) < 1e-6


class Both(nn.Module):
    """The classes of every step, and their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.first, self.neuron, self.last = Repeat(3), Linear(4, 8), LIF(), Linear(8, 3)
        self.readout = MeanReadout()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.last(self.neuron(self.first(self.encoder(x))))
        return self.readout(y), y


def test_fold_compares_a_mean_beside_its_steps() -> None:
    torch.manual_seed(0)
    folded = bitspike.fold(Both(), torch.randn(7, 4))
    mean, steps = folded(torch.randn(7, 4))
    assert mean.shape == (7, 3) and steps.shape == (3, 7, 3)
    assert folded.report.samples == 7 and folded.report.max_logit_difference < 1e-5 and folded.report.agreement == 1
