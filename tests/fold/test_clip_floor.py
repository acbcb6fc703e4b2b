"""Levels of a `ClipFloor` that flip in rounding are flips: counted, judged by margin, forced for the comparison."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bitspike
from bitspike.fold.verify import FoldReport, compare
from bitspike.layers import BatchNorm, ClipFloor, Linear


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(Linear(16, 64, bias=False), BatchNorm(64), ClipFloor(255, 4.0), Linear(64, 5)).eval()
    norm = net[1]
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.3, 2)
        norm.weight.uniform_(0.5, 2)
        net[3].weight.mul_(100)
    return net


def test_rounding_at_a_step_is_a_flip_and_no_wrong_fold() -> None:
    net, x = network(), torch.randn(1, 8000, 16)
    folded = bitspike.fold(net, x)
    (row,) = folded.report.layers.values()
    assert 0 < row.forced == row.end_to_end < 200 and row.spikes == 8000 * 64 and 0.05 < row.rate < 0.95
    assert row.worst_margin < 1e-4 and 0 < folded.report.samples_with_flips <= row.forced
    assert folded.report.max_logit_difference < 1e-2 < folded.report.max_logit_difference_all


def test_a_level_far_from_its_step_is_refused() -> None:
    net, x = network().double(), torch.randn(1, 64, 16, dtype=torch.float64)
    reference, broken = bitspike.trace(net), bitspike.fold(net, x).graph
    broken["_0"].module.bias.data += 0.01  # type: ignore[union-attr]
    report = compare(reference, broken, x, FoldReport())
    assert report.layers["_2"].forced > 100 and report.layers["_2"].worst_margin > 1e-3
    assert report.max_logit_difference_forced < 1e-9  # what is behind the staircase is right


@pytest.mark.parametrize("T", [1, 3])
def test_without_rounding_nothing_flips(T: int) -> None:
    net, x = network().double(), torch.randn(T, 50, 16, dtype=torch.float64)
    report = bitspike.fold(net, x).report
    assert report.layers["_2"].forced == 0 and report.layers["_2"].spikes == T * 50 * 64
