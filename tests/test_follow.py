"""Averages of models copy into buffers in place: steps and widths that were derived from them follow."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import bitspike
from bitspike.layers import Linear, MeanReadout, Refined, Windows
from bitspike.neurons import LIF, Adaptive
from bitspike.quantizers import LearnedBits


@pytest.mark.parametrize("part", ["windows", "refined"])
def test_steps_follow_an_average_of_models(part: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 7, 4)
    first: nn.Module = Windows(3, frames=6, learn_T=True) if part == "windows" else nn.Identity()
    neuron: nn.Module = LIF(0.3) if part == "windows" else Refined(LIF(0.3), T=3, learn_T=True)
    net = nn.Sequential(first, Linear(4, 5), neuron, Linear(5, 3), MeanReadout())
    average = AveragedModel(net, avg_fn=lambda e, p, n: p)
    before = average.module(x)
    net[0 if part == "windows" else 2].set_steps(2)  # type: ignore[operator]
    average.update_parameters(net)
    assert torch.equal(average.module(x), net(x)) and not torch.equal(net(x), before)
    again = copy.deepcopy(net)
    again.load_state_dict(average.module.state_dict())
    assert torch.equal(again(x), net(x))
    steps = [[row.T for row in bitspike.cost(model, x).layers] for model in (net, average.module)]
    assert steps[0] == steps[1]


def test_formats_follow_widths_written_in_place() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 9)

    def made(bits: int) -> nn.Module:
        net = nn.Sequential(Linear(9, 9, weight=LearnedBits(bits)), Adaptive(bits), Linear(9, 2)).eval()
        return net

    wide, narrow = made(5), made(3)
    for ours, theirs in zip(narrow.state_dict().values(), wide.state_dict().values(), strict=True):
        ours.copy_(theirs)
    assert torch.equal(narrow(x), wide(x))
    totals = [bitspike.cost(net, x).total("s_ace") for net in (wide, narrow)]
    assert totals[0] == totals[1] and narrow[1].format == wide[1].format  # type: ignore[index]


def test_a_buffer_that_is_set_counts_and_a_wrong_one_is_refused() -> None:
    windows = Windows(2, 6)
    windows.steps = torch.tensor(3)
    assert windows(torch.randn(6, 2, 4)).shape[0] == 3 and windows.T == 3
    windows.steps.fill_(-1)
    with pytest.raises(ValueError, match=r"Windows: steps must lie in .*, got -1"):
        windows(torch.randn(6, 2, 4))
