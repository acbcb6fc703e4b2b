"""Allocations that are searched, not learned: the least error there is, measured losses, runs from end to end."""

from __future__ import annotations

import copy
import itertools
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from allocations import random_problem, recipe, splits
from bitspike.allocation.apply import put
from bitspike.allocation.config import AllocationConfig
from bitspike.allocation.forecast import Forecast
from bitspike.allocation.measured import MeasuredLoss
from bitspike.allocation.repair import GOAL, repair
from bitspike.allocation.search import search
from bitspike.allocation.widths import Allocation
from bitspike.layers import Refined
from bitspike.models import mlp, study_cnn
from bitspike.neurons import Adaptive
from bitspike.quantizers import LearnedBits
from bitspike.training.checkpoint import Checkpoints
from bitspike.training.job import measure
from bitspike.training.loop import fit
from runs import CutError, cut_after, equal


def test_a_search_is_within_every_budget_and_no_worse_than_a_repair() -> None:
    draw = random.Random(7)
    better = 0
    for _ in range(60):
        made, state = random_problem(draw)
        found, least = search(made, state), repair(made, state)
        assert made.excess(found.state) == 0
        assert all(a <= s <= b for a, s, b in zip(made.low, found.state, made.high, strict=True))
        assert found.used == max(made.used(found.state)) >= min(least.used, GOAL)
        if least.used >= GOAL:
            assert made.error(found.state) <= made.error(least.state)
            better += made.error(found.state) < made.error(least.state)
    assert better > 10


def test_small_problems_end_near_the_least_error() -> None:
    """Against all states: within 10 % of the least error of those that use the goal, on nine of ten."""
    draw, near, count = random.Random(3), 0, 0
    while count < 30:
        made, state = random_problem(draw)
        ranges = [range(a, b + 1) for a, b in zip(made.low, made.high, strict=True)]
        if len(ranges) > 3:
            continue
        found = search(made, state)
        if found.used < GOAL:
            continue
        count += 1
        states = [s for s in itertools.product(*ranges) if made.excess(s) == 0 and max(made.used(s)) >= GOAL]
        near += made.error(found.state) <= 1.1 * min(map(made.error, states))
    assert near >= 27


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    neuron = Refined(Adaptive(3), T=2, learn_T=True)
    return study_cnn(neuron, LearnedBits(4), T=1, shape=(1, 8, 8), width=4, stem_stride=1)


def test_a_measured_loss_is_the_difference_and_leaves_no_trace() -> None:
    """Each group alone, against a copy that is changed by hand; parameters, buffers and outputs are as before."""
    net = network().train()
    x, target = torch.randn(32, 1, 8, 8), torch.randint(0, 10, (32,))
    for _ in range(3):
        net(x)
    allocation = Allocation(net, AllocationConfig())
    allocation.start(x)
    forecast = Forecast(allocation, x)

    def loss(model: nn.Module) -> float:
        modes = {type(m).__name__ for m in model.modules() if m.training}
        assert modes == {"BatchNorm"}, modes
        return float(nn.functional.cross_entropy(model(x), target))

    before = {name: value.clone() for name, value in net.state_dict().items()}
    harm = MeasuredLoss(forecast, x, loss)
    begin = forecast.state
    assert harm(begin) == 0
    total = 0.0
    state = list(begin)
    for places in harm.groups:
        changed = list(begin)
        for place in places:
            changed[place] = state[place] = 1
        twin = copy.deepcopy(net)
        other = Forecast(Allocation(twin, AllocationConfig()), x)
        put(other, tuple(changed), x)
        assert other.state == tuple(changed)
        difference = loss_of_twin(twin, x, target) - harm.base
        assert harm(tuple(changed)) == pytest.approx(difference, abs=1e-6)
        total += difference
    assert harm(tuple(state)) == pytest.approx(total, abs=1e-5)
    assert total > 0
    assert forecast.state == begin
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())


def loss_of_twin(twin: nn.Module, x: Tensor, target: Tensor) -> float:
    twin.eval()
    for module in twin.modules():
        module.training = type(module).__name__ == "BatchNorm"
    with torch.no_grad():
        return float(nn.functional.cross_entropy(twin(x), target))


def test_the_spikes_and_the_steps_of_a_neuron_are_measured_together() -> None:
    net = mlp(Refined(Adaptive(3), T=2, learn_T=True), LearnedBits(4), T=1, shape=(1, 2, 2), hidden=(5, 4))
    x = torch.randn(4, 1, 2, 2)
    forecast = Forecast(Allocation(net, AllocationConfig()), x)
    groups = MeasuredLoss(forecast, x, lambda model: 0.0).groups
    kinds = [sorted(forecast.levers[place].kind for place in places) for places in groups]
    assert kinds.count(["spikes", "steps"]) == 2
    assert sorted(place for places in groups for place in places) == list(range(len(forecast.levers)))


SIZE = {"size": "1MB"}
SEARCH = {"allocator": "search", "bits_lr": None, "refined": True, "freeze_epoch": 1.0}


@pytest.mark.parametrize("sensitivity", ["error", "loss"])
def test_a_run_holds_its_widths_then_searches_and_keeps_the_budget(sensitivity: str) -> None:
    chosen = recipe({"s-ace": "1.5M"}, **SEARCH, sensitivity=sensitivity, sensitivity_samples=64)
    run = fit(chosen, splits())
    first, last = run.history
    assert {round(value) for value in first["allocation"]["weights"].values()} == {4}
    assert {round(value) for value in first["allocation"]["spikes"].values()} == {4}
    assert len({*last["allocation"]["weights"].values(), *last["allocation"]["spikes"].values()}) > 1
    _, result = measure(chosen, splits(), run)
    assert result["budget"]["met"], result["budget"]["says"]


def test_a_searched_run_resumes_exactly(tmp_path: Any) -> None:
    chosen = recipe({"s-ace": "1.5M"}, **SEARCH, sensitivity="loss", sensitivity_samples=64)
    whole = fit(chosen, splits())
    for reports in (5, 14):  # before and after the search
        with pytest.raises(CutError):
            fit(chosen, splits(), cut_after(reports), Checkpoints(tmp_path, "k"), checkpoint_steps=2)
    again = fit(chosen, splits(), None, Checkpoints(tmp_path, "k"), checkpoint_steps=2)
    assert equal(whole, again) and again.repairs == whole.repairs


@pytest.mark.parametrize(
    ("table", "parts"),
    [
        ({"allocator": "search"}, ("needs a budget",)),
        ({"sensitivity": "loss"}, ("needs a budget",)),
        (
            {"allocator": "search", "budget": {"size": "1MB"}, "bits_lr": 0.1, "learn_epoch": 1.0},
            ("bits_lr, learn_epoch",),
        ),
        ({"allocator": "search", "budget": {"size": "1MB"}, "weight_target": 3.0}, ("weight_target",)),
        ({"budget": SIZE, "sensitivity_samples": 0}, ("sensitivity_samples",)),
    ],
)
def test_what_would_do_nothing_is_refused(table: dict[str, Any], parts: tuple[str, ...], refuses: Any) -> None:
    with refuses("AllocationConfig", *parts):
        AllocationConfig(**table)
