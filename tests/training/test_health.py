"""Step sizes under a wild gradient, runs that collapse, and what is said of dead layers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from bitspike.commands.train import train
from bitspike.layers import Linear, Refined
from bitspike.neurons import LIF, Adaptive
from bitspike.quantizers import LearnedBits, Uniform
from bitspike.training.health import Watch, dead_layers
from bitspike.training.step_sizes import MOST, StepSizes


def network() -> nn.Sequential:
    torch.manual_seed(0)
    body = (Linear(6, 8, weight=Uniform(2)), Adaptive(2), Linear(8, 3, weight=LearnedBits(4)))
    return nn.Sequential(*body)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_one_step_moves_a_step_size_by_a_quarter_at_most_and_momentum_forgets_the_rest(sign: float) -> None:
    net = network()
    sizes, before = StepSizes(net), [used().detach().clone() for _, used in StepSizes(net).parts]
    assert sizes.names == ["0", "1", "2"]
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for step, _ in sizes.parts:
        step.grad = torch.full_like(step, sign * 2.1e6)
    with sizes.held(optimiser):
        optimiser.step()
    for (step, _), old in zip(sizes.parts, before, strict=True):
        assert torch.allclose(step.detach(), old / MOST if sign > 0 else old * MOST)
        held = optimiser.state[step]["momentum_buffer"]
        assert torch.allclose(held, (old - step.detach()) / 0.1, rtol=1e-4)


def test_a_small_step_is_the_optimisers_own() -> None:
    nets = [network(), network()]
    for net, held in zip(nets, (True, False), strict=True):
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            torch.manual_seed(1)
            optimiser.zero_grad()
            net(torch.randn(2, 5, 6)).square().mean().backward()
            if held:
                with StepSizes(net).held(optimiser):
                    optimiser.step()
            else:
                optimiser.step()
    for one, other in zip(*(net.state_dict().values() for net in nets), strict=True):
        assert torch.equal(one, other)


def test_a_neuron_below_the_least_step_gets_a_gradient_that_leads_back() -> None:
    neuron = Adaptive(2)
    neuron.step_parameter().data.fill_(-0.5)
    for sign in (1.0, -1.0):
        neuron.step_parameter().grad = None
        (sign * neuron(torch.ones(1, 4, 2))).sum().backward()
        grad = neuron.step_parameter().grad
        assert grad is not None and (grad.item() < 0) == (sign < 0)


def test_what_is_dead_is_counted() -> None:
    net = nn.Sequential(LIF(), Linear(4, 2, weight=Uniform(2)), Refined(Adaptive(1), T=2))
    net[1].weight.data[1] = 0.0
    net[2].neuron.step_parameter().data.fill_(1e6)
    x = torch.rand(2, 9, 4) + 0.01
    x[:, :, 1], x[:, :, 2] = -1.0, 9.0
    x[:, ::2, [0, 3]] = -1.0
    x[:, 1::2, [0, 3]] = 9.0
    watch = Watch(net)
    with watch.watching():
        net(x[:, :5])
        net(x[:, 5:])
    found = watch.report()
    assert found["silent"] == {"0": [1, 4], "2": [2, 2]} and found["saturated"] == {"0": [1, 4]}
    assert found["zero"] == {"1": [1, 2]} and "steps" not in found
    assert dead_layers(found) == [
        "2: all 2 channels are silent; where its input is not, lower its threshold ([[layers]])"
    ]
    net[1].quantizer.step.data.fill_(3.9e8)
    assert dead_layers(watch.report())[-1] == "1: 1 of 1 step sizes out of range"
    assert not net[0]._forward_hooks


def test_a_run_at_chance_says_so_and_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = ("train.epochs=1", "train.lr=1e-9", "train.warmup_epochs=0.0")
    with pytest.raises(SystemExit) as ended:
        train("digits", tmp_path / "run", set=sets, quiet=True)
    assert ended.value.code == 1
    assert "training FAILED: validation accuracy" in capsys.readouterr().out


@pytest.mark.slow
def test_the_budget_that_collapsed_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """S-ACE of 3 M with seed 0 ended at 10.3 %: the first layer's step size went through 0."""
    train("digits_adaptive", tmp_path / "run", budget=("s-ace=3M",), quiet=True, json=tmp_path / "summary.json")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["validation_accuracy"] > 0.96 and summary["findings"] == []
    assert "budgets met" in capsys.readouterr().out
