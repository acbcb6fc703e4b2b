"""Budgets over a training run: forecasts against exact counts, refusals, kept budgets, resume, exit codes."""

from __future__ import annotations

import copy
import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from allocations import recipe, splits
from bitspike.allocation.averages import Averages
from bitspike.allocation.budget import BUDGETS
from bitspike.allocation.check import judge
from bitspike.allocation.config import AllocationConfig
from bitspike.allocation.controller import Budgets
from bitspike.allocation.forecast import Forecast, exact, generic
from bitspike.allocation.lagrangian import Lagrangian
from bitspike.allocation.widths import Allocation
from bitspike.cost import activations, cost
from bitspike.fold import fold
from bitspike.layers import Refined
from bitspike.models import Policy, mlp, policy_for, resnet18_cifar, study_cnn
from bitspike.neurons import LIF, Adaptive, Ternary
from bitspike.quantizers import LearnedBits
from bitspike.training.checkpoint import Checkpoints
from bitspike.training.job import measure
from bitspike.training.loop import fit
from runs import CutError, cut_after, equal

NAMES = ["bit-budget", "s-ace", "size", "activations"]


def cnn(neuron: nn.Module, weight: LearnedBits, T: int = 1) -> nn.Module:
    return study_cnn(neuron, weight, T=T, shape=(1, 8, 8), width=4, stem_stride=1)


NETS: dict[str, Any] = {
    "adaptive refined": lambda: cnn(Refined(Adaptive(3), T=2, learn_T=True), LearnedBits(4)),
    "lif refined": lambda: cnn(Refined(LIF(), T=2, learn_T=True), LearnedBits(4)),
    "steps of their own": lambda: cnn(Refined(Adaptive(3, steps=2), T=2, learn_T=True), LearnedBits(4)),
    "a step size a channel": lambda: cnn(Refined(Adaptive(3, sharing="channel"), T=2, learn_T=True), LearnedBits(4)),
    "adaptive": lambda: cnn(Adaptive(3), LearnedBits(4, scale="output"), T=2),
    "ternary mlp": lambda: mlp(Ternary(), LearnedBits(4), T=3, shape=(1, 8, 8), hidden=(10, 7)),
    "adaptive mlp": lambda: mlp(Adaptive(3, steps=2), LearnedBits(4), T=3, shape=(1, 8, 8), hidden=(10, 7)),
    "wiring input": lambda: resnet18_cifar(
        Refined(Adaptive(4), T=2, learn_T=True),
        LearnedBits(4),
        T=1,
        shape=(1, 8, 8),
        width=2,
        wiring="input",
        policy=policy_for("adaptive"),
    ),
}


def put(forecast: Forecast, state: tuple[int, ...]) -> None:
    with torch.no_grad():
        for lever, value in zip(forecast.levers, state, strict=True):
            if lever.kind == "steps":
                forecast.allocation.refined[lever.name].set_steps(value)
            else:
                part: Any = forecast.part(lever)
                part.raw_bits.reshape(-1)[lever.row] = value
                part.refresh()


@pytest.mark.parametrize("name", list(NETS))
@pytest.mark.parametrize("scope", ["all", "hidden_only"])
def test_a_forecast_is_what_cost_counts(name: str, scope: str) -> None:
    """For random allocations; the size may be a few bytes less (factors that vanish at T = 1), never more."""
    net = generic(NETS[name]())
    for module in net.modules():
        if isinstance(module, Refined) and module.raw_steps is not None:
            module.set_steps(2)
    x = torch.randn(2, 1, 8, 8)
    forecast = Forecast(Allocation(net, AllocationConfig()), x, scope)
    draw = random.Random(1)
    for _ in range(3):
        state = tuple(draw.randint(lever.low, lever.high) for lever in forecast.levers)
        put(forecast, state)
        assert forecast.state == state
        graph = fold(copy.deepcopy(net), x).graph
        counted, memory = cost(graph, x), activations(graph, x)
        for kind, values in forecast.values(NAMES, state).items():
            found = exact(kind, counted, memory, scope)
            if kind == "size":
                assert found <= max(values) <= 1.02 * found + 8
            else:
                assert max(values) == pytest.approx(found, rel=1e-12), kind


@pytest.mark.parametrize("name", list(NETS))
def test_the_lagrangian_follows_the_exact_cost(name: str) -> None:
    """Its value is the forecast; its gradient is the change of the forecast by a bit, where that is linear."""
    net = NETS[name]()
    forecast = Forecast(Allocation(net, AllocationConfig()), torch.randn(2, 1, 8, 8))
    limits = dict.fromkeys(NAMES, 1.0)
    lagrangian = Lagrangian(forecast, limits, 1.0, 0.1)
    state = forecast.state
    values = forecast.values(NAMES, state)
    for kind, value in lagrangian.soft().items():
        assert value.item() == pytest.approx(max(values[kind]), rel=1e-5)
    for kind in ("s-ace", "size"):
        net.zero_grad()
        value = lagrangian.soft()[kind]
        value.backward()
        for place, lever in enumerate(forecast.levers):
            if lever.kind == "steps":
                continue
            grad = forecast.part(lever).raw_bits.grad  # type: ignore[union-attr]
            given = 0.0 if grad is None else float(grad.reshape(-1)[lever.row])
            raised = (*state[:place], state[place] + 1, *state[place + 1 :])
            change = forecast.values([kind], raised)[kind][0] - values[kind][0]
            assert given == pytest.approx(change, rel=1e-4, abs=1e-3), lever


def test_the_lagrangian_pulls_down_while_a_budget_is_exceeded() -> None:
    net = NETS["adaptive refined"]()
    forecast = Forecast(Allocation(net, AllocationConfig()), torch.randn(2, 1, 8, 8))
    least = forecast.values(["s-ace"], forecast.state)["s-ace"][0]
    lagrangian = Lagrangian(forecast, {"s-ace": least / 2, "size": 1e9}, 1.0, 0.1)
    assert lagrangian().item() == pytest.approx(0.5 * 0.6931**2, rel=1e-3)
    lagrangian().backward()
    assert all(float(part.raw_bits.grad) > 0 for part in forecast.allocation.spikes.values())  # type: ignore[arg-type]
    assert any(float(m.raw_steps.grad) > 0 for m in forecast.allocation.refined.values())  # type: ignore[arg-type]
    optimiser = torch.optim.SGD(net.parameters(), lr=1.0)
    lagrangian.settle([2.0, 1e-6], optimiser)
    assert lagrangian.multipliers.tolist() == pytest.approx([0.06931, 0.0], rel=1e-3)
    lagrangian.settle([0.5, 1e-6], optimiser)
    assert lagrangian.multipliers.tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("name", ["adaptive refined", "wiring input", "steps of their own"])
def test_budgets_are_approached_without_overshoot(name: str) -> None:
    """From one and a half times the budget, with warm-up and momentum, no task: never below 80 %, in the end at it."""
    trace = approach(name, rate=None)
    assert trace[0] > 1.4 and min(trace) > 0.8 and max(trace[-50:]) <= 1.05, (min(trace), trace[-50:])


def test_one_rate_for_all_networks_would_overshoot() -> None:
    """What the rate by default is good for: many layers follow slowly, and the multiplier grows meanwhile."""
    assert min(approach("wiring input", rate=0.1)) < 0.7


def approach(name: str, rate: float | None) -> list[float]:
    """S-ACE over its budget after every step, as rounded widths give it."""
    net = NETS[name]()
    with torch.no_grad():
        for part in [m for m in net.modules() if getattr(m, "raw_bits", None) is not None]:
            part.raw_bits.fill_(6.4)
            part.refresh()
    allocation = Allocation(net, AllocationConfig(bits_lr=0.2, steps_lr=0.2))
    forecast = Forecast(allocation, torch.randn(2, 1, 8, 8))
    limit = forecast.values(["s-ace"], forecast.state)["s-ace"][0] / 1.5
    lagrangian = Lagrangian(forecast, {"s-ace": limit}, 1.0, rate)
    learned = [p for n, p in net.named_parameters() if n.endswith(("raw_bits", "raw_steps"))]
    optimiser = torch.optim.SGD(learned, lr=0.2, momentum=0.9)
    trace = []
    for step in range(600):
        optimiser.param_groups[0]["lr"] = 0.2 * min(1.0, (step + 1) / 100)
        optimiser.zero_grad()
        lagrangian().backward()
        optimiser.step()
        for module in net.modules():
            if hasattr(module, "refresh"):
                module.refresh()
        trace.append(forecast.values(["s-ace"], forecast.state)["s-ace"][0] / limit)
        lagrangian.settle([trace[-1]], optimiser)
    return trace


def test_the_critical_rate_by_hand() -> None:
    """g = log of a sum over synapses of macs·b_w·b_s: ∂g/∂b_w is the share of its synapse over b_w."""
    net = mlp(Adaptive(4), LearnedBits(4), T=1, shape=(1, 8, 8), hidden=(10, 10))
    forecast = Forecast(Allocation(net, AllocationConfig()), torch.randn(2, 1, 8, 8))
    lagrangian = Lagrangian(forecast, {"s-ace": 1000.0}, 2.0, None)
    rows = forecast.rows(forecast.state)
    total = sum(row.s_ace for row in rows)
    learned = [(row.s_ace / total / row.weight_bits) ** 2 for row in rows if row.weight_bits != 32]
    learned += [(row.s_ace / total / row.input_bits) ** 2 for row in rows if row.input_bits != 32]
    assert len(learned) >= 3
    optimiser = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.5)
    assert lagrangian.rates(optimiser) == pytest.approx([0.25 * 4 * 0.3 / 0.5 * sum(learned)], rel=1e-5)
    assert lagrangian.rates(torch.optim.AdamW(net.parameters())) == [0.1]


def test_the_lagrangian_where_no_layer_is_in_the_scope() -> None:
    """One hidden layer's two synapses are the first and the last one: the bit budget of the rest is 0."""
    net = mlp(LIF(), LearnedBits(4), T=2, shape=(1, 8, 8), hidden=(10,), policy=Policy(LearnedBits(4), LearnedBits(4)))
    forecast = Forecast(Allocation(net.eval(), AllocationConfig()), torch.randn(2, 1, 8, 8), "hidden_only")
    lagrangian = Lagrangian(forecast, {"bit-budget": 4.0, "size": 100.0}, 1.0, 0.1)
    assert lagrangian.soft()["bit-budget"].item() == 0 and lagrangian().item() > 0


def test_penalties_lie_on_the_device_of_the_network() -> None:
    """Also that of averages without targets, which is stacked with the pressure; shown on torch's meta device."""
    net = NETS["adaptive refined"]()
    averages = Averages(Allocation(net, AllocationConfig()), torch.zeros(1, 1, 8, 8))
    assert averages().item() == 0
    net.to("meta")
    assert averages().device.type == "meta"


def controller(net: nn.Module, budget: dict[str, Any], **table: Any) -> Budgets:
    config = AllocationConfig(budget=budget, **table)
    return Budgets(Allocation(net, config), splits().validation, 500, 10, 10, lambda model: 0.0)


LIF_ONLY = {"refined": False, "learn_steps": False}


@pytest.mark.parametrize(
    ("budget", "neuron", "table"),
    [
        ({"s-ace": "3M"}, None, {}),
        ({"s-ace": "1.2M", "size": "2.2kB"}, None, {}),
        ({"activations": "1kB", "bit-budget": 20}, None, {}),
        ({"size": "1.3kB"}, {"name": "lif"}, LIF_ONLY),
        ({"s-ace": "1M", "size": "1MiB"}, {"name": "lif"}, {}),
        ({"ns-ace": "600k"}, None, {}),
    ],
)
def test_budgets_are_kept_and_used(
    budget: dict[str, Any], neuron: dict[str, Any] | None, table: dict[str, Any]
) -> None:
    chosen = recipe(budget, neuron=neuron, **table)
    run = fit(chosen, splits())
    _, result = measure(chosen, splits(), run)
    found = result["budget"]
    assert found["met"], found["says"]
    assert found["says"].startswith("budgets met: ")
    assert list(found["budgets"]) == [name for name in BUDGETS if name in budget]
    assert all(row["value"] <= row["limit"] for row in found["budgets"].values())
    assert 0.9 <= found["used"] <= 1
    first, last = run.history
    assert not first["within_budgets"] and last["within_budgets"]
    assert last["budget_used"] == pytest.approx(found["used"], rel=0.02)
    model = copy.deepcopy(run.model)
    model.load_state_dict(run.best)  # the best weights keep them, too
    x = torch.zeros(2, 1, 8, 8)
    counted = fold(model, x).graph
    for name in found["budgets"]:
        if name != "ns-ace":
            assert exact(name, cost(counted, x), activations(counted, x), "all") <= found["budgets"][name]["limit"]


@pytest.mark.parametrize("name", list(NETS))
def test_any_allocation_is_repaired(name: str) -> None:
    """From random widths to random budgets, on the network itself: exact counts within, 90 % used or said why not."""
    draw = random.Random(2)
    for _ in range(2):
        net = generic(NETS[name]())  # step sizes as after training: none equal
        x = torch.randn(16, 1, 8, 8)
        config = AllocationConfig()
        forecast = Forecast(Allocation(net, config), x)
        low, high = (tuple(getattr(lever, end) for lever in forecast.levers) for end in ("low", "high"))
        most = {kind: max(values) for kind, values in forecast.values(NAMES, high).items()}
        least = {kind: max(values) for kind, values in forecast.values(NAMES, low).items()}
        sees = [kind for kind in NAMES if most[kind] > least[kind]]
        kinds = draw.sample(sees, draw.randint(1, len(sees)))
        # 32-bit reads behind a pool at T = 1 may make the least of ACE metrics smaller than that of the lower bounds
        budget = {kind: least[kind] * (most[kind] / least[kind]) ** draw.uniform(0.1, 0.9) for kind in kinds}
        budgets = controller(net, budget)
        put(budgets.forecast, tuple(draw.randint(a, b) for a, b in zip(low, high, strict=True)))
        budgets.repair(5.0, x)
        graph = fold(net, x[:2]).graph
        found = judge(budgets.allocation, graph, splits().validation, 500, budgets.records)
        assert all(row["value"] <= row["limit"] for row in found["budgets"].values()), found["says"]
        assert found["used"] >= 0.9 or found["full"] or found["tried"], found["says"]
        assert found["met"] == (found["used"] >= 0.9 or found["full"])


def test_impossible_budgets_are_refused_with_the_smallest_figure(refuses: Any) -> None:
    net = NETS["adaptive refined"]()
    where = "[allocation] budget"
    for kind in NAMES:
        with refuses(where, f"{kind} must be at least", "smallest that this network can reach"):
            controller(net, {kind: 1})
    with pytest.raises(ValueError, match="s-ace must be at least") as caught:
        controller(net, {"s-ace": 1})
    least = int(str(caught.value).split("at least ")[1].split(", the")[0].replace(",", ""))
    controller(net, {"s-ace": least})
    with refuses(where, "s-ace"):
        controller(net, {"s-ace": least - 1})
    with refuses(where, "learned bits or time steps"):
        controller(mlp(LIF(), T=2, shape=(1, 8, 8), hidden=(10,)), {"size": "1MB"})
    with refuses(where, "activations", "weights"):
        controller(NETS["ternary mlp"](), {"activations": "1MB"})
    net.body[5].raw_steps = nn.Parameter(torch.tensor(2.0))  # a layer with a T of its own that is no refined neuron
    with refuses(where, "by refined neurons that average their spikes only", "got body.5;"):
        controller(net, {"size": "1MB"})
    net.body[5].raw_steps = None
    windows = cnn(Refined(Adaptive(3), T=2, learn_T=True, squeeze="windows"), LearnedBits(4), T=4)
    with refuses(where, "by refined neurons that average their spikes only", "body.2.before, body.3.neuron1.before"):
        controller(windows, {"size": "1MB"})  # how often a layer behind runs depends on their T
    with refuses("[allocation]", "freeze_epoch <= 9.9, got 10;"):
        controller(net, {"size": "1MB"}, freeze_epoch=10.0)
    with refuses("[allocation]", "freeze_epoch <= 9.6, got 9.7;"):  # repairs of NS-ACE are three
        controller(net, {"ns-ace": "1M"}, freeze_epoch=9.7)
    with pytest.raises(ValueError, match=r"\[allocation\]: .*learn_epoch < 5, got 5; lower learn_epoch"):
        recipe({"size": "1MB"}, {"epochs": 10}, learn_epoch=5.0)


def test_a_loose_budget_is_used_to_the_upper_bounds() -> None:
    chosen = recipe({"size": "1MB"}, {"epochs": 1})
    run = fit(chosen, splits())
    found = measure(chosen, splits(), run)[1]["budget"]
    assert found["met"] and found["full"] and found["used"] < 0.1
    assert "every learned width and T stands at its upper bound" in found["says"]


def test_what_is_exceeded_is_said(refuses: Any) -> None:
    """NS-ACE and S-ACE of a network that nobody repaired, judged against limits below them."""
    net = NETS["adaptive refined"]().eval()
    x = splits().validation.normalise(splits().validation.images[:4])
    graph = fold(net, x).graph
    counted = cost(graph, splits().validation.normalise(splits().validation.images))
    whole = counted.total("s_ace")
    config = AllocationConfig(budget={"s-ace": whole / 2, "ns-ace": counted.total("ns_ace") * 0.8})
    found = judge(Allocation(net, config), graph, splits().validation, 50, [])
    assert not found["met"] and found["tightest"] == "s-ace" and found["used"] == 2
    assert found["budgets"]["ns-ace"]["used"] == pytest.approx(1.25, rel=1e-6)
    assert f"exceeded: s-ace by {whole / 2:,.0f} (100.0%), ns-ace by" in found["says"]


def test_what_ns_ace_sees_depends_on_the_rates_of_the_whole_split() -> None:
    """The first two samples are black and nothing fires there; the hidden bits are below their bound all the same."""
    net = mlp(LIF(), LearnedBits(2), T=2, shape=(1, 8, 8), hidden=(10, 7)).eval()
    images = splits().validation.images.clone()
    images[:2] = 0
    dark = dataclasses.replace(splits().validation, images=images, mean=(0.0,), std=(1.0,))
    graph = fold(net, dark.normalise(images[:4])).graph
    whole = cost(graph, dark.normalise(images)).total("ns_ace")
    found = judge(Allocation(net, AllocationConfig(budget={"ns-ace": 2 * whole})), graph, dark, 500, [])
    assert found["used"] == pytest.approx(0.5, rel=1e-6)
    assert not found["full"] and not found["met"], found["says"]


def test_a_warm_start_beyond_the_bounds_is_brought_within() -> None:
    wide = cnn(Refined(Adaptive(5), T=4, learn_T=True), LearnedBits(6))
    net = cnn(Refined(Adaptive(3), T=2, learn_T=True), LearnedBits(3))
    net.load_state_dict(wide.state_dict())
    budgets = controller(net, {"size": "1MB"})
    assert budgets.forecast.state != tuple(lever.high for lever in budgets.forecast.levers)
    budgets.repair(5.0, torch.randn(4, 1, 8, 8))
    assert all(m.bound == 3 and m.time_steps <= 3 for m in budgets.allocation.refined.values())
    assert budgets.forecast.state == tuple(lever.high for lever in budgets.forecast.levers)


@pytest.mark.parametrize("budget", [{"s-ace": "2M", "size": "2.5kB"}, {"ns-ace": "600k"}])
def test_a_run_resumes_bit_for_bit_across_the_repair(tmp_path: Path, budget: dict[str, str]) -> None:
    chosen = recipe(budget, freeze_epoch=0.7)
    whole = fit(chosen, splits())
    assert whole.repairs[0]["changed"], "nothing was repaired"

    for reports in (3, 6, 5, 4):
        with pytest.raises(CutError):
            fit(chosen, splits(), cut_after(reports), Checkpoints(tmp_path, "k"), checkpoint_steps=2)
    again = fit(chosen, splits(), None, Checkpoints(tmp_path, "k"), checkpoint_steps=2)
    assert equal(whole, again) and again.repairs == whole.repairs


def test_the_allocation_is_frozen_after_the_repair() -> None:
    chosen = recipe({"size": "2.5kB"}, {"epochs": 3}, freeze_epoch=1.0)
    run = fit(chosen, splits())
    assert run.history[1]["budget_used"] == run.history[2]["budget_used"] <= 1
    assert run.history[1]["loss"] != run.history[2]["loss"]
    assert [record["epoch"] for record in run.repairs] == [1.0]


def test_no_multiplier_builds_up_before_bits_are_learned() -> None:
    run = fit(recipe({"s-ace": "1M"}, {"epochs": 3}, learn_epoch=1.0, freeze_epoch=2.0, bits_lr=2.0), splits())
    first, second, third = (record["budget_used"] for record in run.history)
    assert first > second and first > 1 >= third
    assert run.history[0]["weight_bits"] == 4


def test_a_warm_start_is_repaired_at_once_and_fine_tuned(tmp_path: Path) -> None:
    run = fit(recipe({"size": "1MB"}, {"epochs": 1}), splits())
    path = tmp_path / "start.safetensors"
    save_file({name: value.contiguous() for name, value in run.model.state_dict().items()}, path)
    chosen = recipe({"size": "1.3kB"}, {"epochs": 1, "lr": 0.01}, freeze_epoch=0.0, warm_start=str(path))
    again = fit(chosen, splits())
    assert [record["epoch"] for record in again.repairs] == [0.0] and again.repairs[0]["changed"]
    assert again.history[0]["within_budgets"] and again.history[0]["budget_used"] >= 0.9
    assert again.history[0]["validation_accuracy"] > 0.2  # chance: 0.1


def test_the_lagrangian_compiles_in_one_graph() -> None:
    net = NETS["adaptive refined"]()
    forecast = Forecast(Allocation(net, AllocationConfig()), torch.randn(2, 1, 8, 8))
    lagrangian = Lagrangian(forecast, dict.fromkeys(NAMES, 100.0), 1.0, 0.1)
    torch.compiler.reset()
    compiled = torch.compile(lagrangian, backend="aot_eager", fullgraph=True)
    assert compiled().item() == pytest.approx(lagrangian().item(), rel=1e-6)
    lagrangian.settle([2.0] * 4, torch.optim.SGD(net.parameters(), lr=1.0))
    assert compiled().item() == pytest.approx(lagrangian().item(), rel=1e-6)
    torch.compiler.reset()
