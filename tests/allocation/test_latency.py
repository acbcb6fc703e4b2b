"""Latency budgets with a clock that reads bits and T: forecast, gradient, repair and search, resume, refusals."""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from allocations import recipe, splits
from bitspike.allocation.apply import put
from bitspike.allocation.budget import budget_sets, parse_limit
from bitspike.allocation.config import AllocationConfig
from bitspike.allocation.controller import Budgets
from bitspike.allocation.forecast import Forecast
from bitspike.allocation.lagrangian import Lagrangian
from bitspike.allocation.latency import Latency, network_digest
from bitspike.allocation.repair import GOAL
from bitspike.allocation.stopwatch import Stopwatch, Watch
from bitspike.allocation.times import Times, read_times
from bitspike.allocation.timing import Timed, measured_times
from bitspike.allocation.widths import Allocation
from bitspike.data import Batches
from bitspike.layers import Refined
from bitspike.models import mlp, study_cnn
from bitspike.neurons import Adaptive
from bitspike.quantizers import LearnedBits
from bitspike.training import clock as clock_module
from bitspike.training import timing
from bitspike.training.build import build_model
from bitspike.training.checkpoint import Checkpoints
from bitspike.training.distributed import World
from bitspike.training.job import measure
from bitspike.training.loop import fit
from bitspike.training.recipe import Recipe
from bitspike.training.runs import RunFolder, train_run
from fake_clock import MACHINE, REFERENCE_MS, FakeClock
from runs import CutError, cut_after, equal

SEARCH = {"allocator": "search", "bits_lr": None, "freeze_epoch": 0.8}
WEIGHTS_ONLY: dict[str, Any] = {"neuron": {"name": "lif"}, "refined": False, "learn_steps": False}
"""Four programs make its table, not 48."""


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "EngineClock", FakeClock)
    monkeypatch.setattr(FakeClock, "calls", 0)


def chain(seed: int = 0) -> nn.Module:
    """Without shortcuts, so that each layer reads one neuron and feeds one."""
    torch.manual_seed(seed)
    neuron = Refined(Adaptive(3), T=2, learn_T=True)
    return mlp(neuron, LearnedBits(4), T=1, shape=(1, 2, 2), hidden=(5, 4, 3)).eval()


@functools.cache
def known() -> Times:
    """The table of the network of `recipe`, by a clock that adds."""
    config = AllocationConfig(budget={"latency": 10})
    net = build_model(recipe({"latency": "10ms"}), splits().train)
    allocation = Allocation(net, config)
    budgets = Budgets(allocation, splits().validation, 500, 10, 10, lambda model: 0.0, Watch(FakeClock()))
    assert budgets.stopwatch is not None
    return budgets.stopwatch.times


def forecast_of(net: nn.Module, x: torch.Tensor) -> Forecast:
    return Forecast(Allocation(net, AllocationConfig()), x)


def test_a_table_is_measured_at_the_knots_and_forecasts_what_is_additive() -> None:
    """The fake's time of a layer is w + s + 8·T: forecasts are exact, whatever the bits and T of the layers."""
    net, x = chain(), torch.randn(8, 1, 2, 2)
    forecast = forecast_of(net, x)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    seen: list[tuple[int, int]] = []
    times = measured_times(forecast, x, FakeClock(), lambda *done: seen.append(done))
    assert (times.weights, times.spikes, times.steps) == ((1, 2, 3, 6), (1, 2, 3, 5), (1, 2, 3))
    assert seen == [(i + 1, 48) for i in range(48)] and FakeClock.calls == 48
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert times.rest == 2 and times.reference_ms == REFERENCE_MS and times.machine == MACHINE
    latency = Latency(forecast, times)
    draw = random.Random(0)
    for _ in range(10):
        state = tuple(draw.randint(lever.low, lever.high) for lever in forecast.levers)
        put(forecast, state, x)
        assert latency(state) == pytest.approx(FakeClock().of(net).whole * REFERENCE_MS, rel=1e-5)


def test_gradients_are_the_slopes_of_the_table() -> None:
    """A unit for a bit of every synapse, and of every neuron through the layer that reads it; 8 for a step."""
    net, x = chain(), torch.randn(8, 1, 2, 2)
    forecast = forecast_of(net, x)
    put(forecast, tuple({"weights": 3, "spikes": 3, "steps": 2}[lever.kind] for lever in forecast.levers), x)
    forecast.latency = Latency(forecast, measured_times(forecast, x, FakeClock()))
    lagrangian = Lagrangian(forecast, {"latency": 1.0}, 1.0, 0.1)
    cost = lagrangian.soft()["latency"]
    assert cost.item() == pytest.approx(forecast.values(["latency"], forecast.state)["latency"][0])
    cost.backward()
    for synapse, quantizer in forecast.allocation.weights.values():
        assert quantizer.raw_bits is not None and quantizer.raw_bits.grad is not None, synapse
        assert quantizer.raw_bits.grad.item() == pytest.approx(REFERENCE_MS, rel=1e-4)
    for neuron in forecast.allocation.spikes.values():
        assert neuron.raw_bits is not None and neuron.raw_bits.grad is not None
        assert neuron.raw_bits.grad.item() == pytest.approx(REFERENCE_MS, rel=1e-4)
    for refined in forecast.allocation.refined.values():
        assert refined.raw_steps is not None and refined.raw_steps.grad is not None
        assert refined.raw_steps.grad.item() == pytest.approx(8 * REFERENCE_MS, rel=1e-4)


@pytest.mark.parametrize("table", [{}, SEARCH], ids=["gradient", "search"])
@pytest.mark.parametrize("off", [1.0, 1.3])
def test_a_budget_is_kept_by_measurement(table: dict[str, Any], off: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the whole takes 30 % more than the table says: the repair corrects its forecast by measurement."""
    times = known()
    monkeypatch.setattr(FakeClock, "off", off)
    chosen = recipe({"latency": "10ms"}, **table)
    run = fit(chosen, splits(), times=times)
    assert len(run.repairs) == 3 and run.times is not None
    _, result = measure(chosen, splits(), run)
    found = result["budget"]
    assert found["met"], found["says"]
    assert found["latency"]["measured_ms"] == found["budgets"]["latency"]["value"] <= 10
    assert found["latency"]["of_reference"] == pytest.approx(found["latency"]["measured_ms"] / REFERENCE_MS)
    assert found["latency"]["forecast_ms"] == pytest.approx(found["latency"]["measured_ms"], rel=0.03)
    assert "times the reference program" in found["says"]
    assert run.repairs[-1]["latency"]["factor"] == pytest.approx(off, rel=0.1)
    assert run.repairs[-1]["latency"]["measured_ms"] == pytest.approx(found["latency"]["measured_ms"])


@pytest.mark.parametrize("table", [{"freeze_epoch": 0.8}, SEARCH], ids=["gradient", "search"])
def test_a_run_resumes_exactly_with_its_table(tmp_path: Path, table: dict[str, Any]) -> None:
    chosen = recipe({"latency": "10ms"}, **table)
    whole = fit(chosen, splits(), times=known())
    FakeClock.calls = 0
    for reports, times in ((5, known()), (10, None)):  # while learning, and behind the first repair
        with pytest.raises(CutError):
            fit(chosen, splits(), cut_after(reports), Checkpoints(tmp_path, "k"), checkpoint_steps=2, times=times)
    again = fit(chosen, splits(), None, Checkpoints(tmp_path, "k"), checkpoint_steps=2)
    assert FakeClock.calls < 48, "the table was measured again"
    assert equal(whole, again) and again.repairs == whole.repairs and again.times == whole.times


def test_a_file_of_times_is_written_then_read(tmp_path: Path, refuses: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "times.json"
    chosen = recipe({"latency": "12.5ms"}, {"epochs": 1}, **WEIGHTS_ONLY, times=str(path))
    seen: list[dict[str, Any]] = []
    fit(chosen, splits(), seen.append)
    assert [(f["timed"], f["programs"]) for f in seen if "timed" in f] == [(i, 4) for i in (1, 2, 3, 4)]
    assert path.exists()
    seen.clear()
    run = fit(chosen, splits(), seen.append)
    assert run.times is not None and not any("timed" in figures for figures in seen)
    monkeypatch.setitem(MACHINE, "library", "a newer one")
    with refuses("[allocation] budget latency", "library 'a newer one'", "'none'"):
        fit(chosen, splits())
    lost = recipe({"latency": "12.5ms"}, {"epochs": 1}, **WEIGHTS_ONLY, times=str(tmp_path / "none" / "t.json"))
    with refuses("[allocation] times", "folder"):
        fit(lost, splits())


def test_a_table_is_measured_once_a_run_and_its_place_is_no_part_of_it(tmp_path: Path) -> None:
    chosen = recipe({"latency": "12.5ms"}, {"epochs": 1}, **WEIGHTS_ONLY)
    seen: list[dict[str, Any]] = []
    summary = train_run(chosen, tmp_path / "run", resume=False, progress=seen.append)
    assert sum("timed" in figures for figures in seen) == 4, "the check before the run measures, and the run takes it"
    assert summary["budget"]["latency"]["machine"] == MACHINE
    assert RunFolder(tmp_path / "run").figures()["budget"] == summary["budget"]
    other = recipe({"latency": "12.5ms"}, {"epochs": 1}, **WEIGHTS_ONLY, times="elsewhere.json")
    assert other.key("d") == chosen.key("d")


def budgets_of(net: nn.Module, limit: str) -> Budgets:
    allocation = Allocation(net, AllocationConfig(budget={"latency": limit}))
    return Budgets(allocation, splits().validation, 500, 10, 10, lambda model: 0.0, Watch(FakeClock()))


def test_what_cannot_be_is_refused_before_training(refuses: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    where = "[allocation] budget latency"
    torch.manual_seed(0)
    net = study_cnn(
        Refined(Adaptive(3), T=2, learn_T=True), LearnedBits(4), T=1, shape=(1, 8, 8), width=4, stem_stride=1
    )
    with refuses("[allocation] budget", "latency must be at least", "smallest that this network can reach"):
        budgets_of(net, "1us")
    with refuses(where, "one process", "got 2"):
        timing.make_watch(recipe({"latency": "10ms"}), splits(), World(rank=0, size=2), timing.Timing())
    allocation = Allocation(net, AllocationConfig(budget={"latency": 10}))
    with refuses("Budgets", "needs a clock"):
        Budgets(allocation, splits().validation, 500, 10, 10, lambda model: 0.0)
    with refuses("Forecast", "table of times"):
        forecast = forecast_of(net, torch.randn(2, 1, 8, 8))
        forecast.values(["latency"], forecast.state)
    with refuses("AllocationConfig", "latency budget"):
        AllocationConfig(budget={"size": "1MB"}, times="t.json")
    with refuses("AllocationConfig", "latency_threads"):
        AllocationConfig(latency_threads=0)

    class Blind(FakeClock):
        def of(self, model: nn.Module) -> Timed:
            return Timed(1.0, ((("other",), 1.0),), REFERENCE_MS)

    forecast = forecast_of(net, torch.randn(4, 1, 8, 8))
    with refuses("[allocation] budget", "a synapse whose kernel has a time"):
        Stopwatch(forecast, torch.randn(4, 1, 8, 8), Watch(Blind()))
    monkeypatch.setattr(clock_module, "library", lambda: None)
    monkeypatch.setattr(clock_module, "why_missing", lambda: "no compiler")
    with refuses(where, "the native engine must be there", "no compiler"):
        clock_module.EngineClock(torch.zeros(1, 1, 8, 8), 1)


def test_a_network_that_does_not_compile_is_refused_with_the_layer(refuses: Any) -> None:
    class Root(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.abs().sqrt()

    net = nn.Sequential(chain(), Root())
    with refuses("[allocation] budget latency", "the network must compile"):
        clock_module.EngineClock(torch.randn(4, 1, 2, 2), 1, 0.0)([net])


def test_limits_have_units_of_time(refuses: Any) -> None:
    assert parse_limit("b", "latency", "400us") == 0.4 == parse_limit("b", "latency", "0.4ms")
    assert parse_limit("b", "latency", "2s") == 2000 and parse_limit("b", "latency", 3) == 3
    assert budget_sets(["latency=0.4ms"]) == ("allocation.budget.latency=0.4",)
    with refuses("b", "the unit of latency must be one of 'us', 'ms', 's'", "'m'"):
        parse_limit("b", "latency", "4m")


def test_a_table_is_of_its_network() -> None:
    x = torch.randn(4, 1, 2, 2)
    assert network_digest(forecast_of(chain(), x)) == network_digest(forecast_of(chain(1), x))
    wider = mlp(Refined(Adaptive(3), T=2, learn_T=True), LearnedBits(4), T=1, shape=(1, 2, 2), hidden=(5, 4, 4))
    assert network_digest(forecast_of(chain(), x)) != network_digest(forecast_of(wider, x))


@pytest.mark.slow
def test_the_engine_gives_the_verdict_on_digits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real clock, whatever else this machine does meanwhile. How near forecasts come to measurements is measured by
    benchmarks/budgets/latency.py."""
    monkeypatch.setattr(timing, "EngineClock", clock_module.EngineClock)
    path = tmp_path / "t.json"
    loose = recipe({"latency": "1s"}, {"epochs": 1}, freeze_epoch=0.2, times=str(path))
    first = measure(loose, splits(), fit(loose, splits()))[1]["budget"]
    assert first["met"] and first["full"]
    kept, times = path.read_bytes(), read_times(path)
    assert times.reference_ms > 0 and min(np.min(layer) for layer in times.layers.values()) > 0
    limit = reachable(loose, times)
    chosen = recipe({"latency": limit}, {"epochs": 2}, freeze_epoch=0.5, times=str(path))
    found = measure(chosen, splits(), fit(chosen, splits()))[1]["budget"]
    latency, value = found["latency"], found["budgets"]["latency"]["value"]
    assert path.read_bytes() == kept and latency["machine"] == times.machine
    assert value == latency["measured_ms"] == latency["of_reference"] * times.reference_ms
    assert found["used"] == value / limit
    assert found["met"] == (value <= limit and (value >= GOAL * limit or found["full"]))
    assert found["says"].startswith("budgets met: " if found["met"] else "budgets NOT met: ")
    last = found["repairs"][-1]["latency"]
    assert last["measured_ms"] <= last["factor"] * last["forecast_ms"] * (1 + 1e-9)  # or the greatest factor seen


def reachable(like: Recipe, times: Times) -> float:
    """A limit in ms half way between the least and the greatest forecast of the network of a recipe."""
    assert like.allocation is not None
    allocation = Allocation(build_model(like, splits().train), like.allocation)
    forecast = Forecast(allocation, next(iter(Batches(splits().validation, 16)))[0], like.allocation.budget_scope)
    latency = Latency(forecast, times)
    low, high = zip(*((lever.low, lever.high) for lever in forecast.levers), strict=True)
    assert latency(low) < latency(high)
    return (latency(low) + latency(high)) / 2
