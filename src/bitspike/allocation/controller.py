"""Budgets over a training run: multipliers while bits and T are learned, a repair, then a frozen allocation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.allocation.apply import put
from bitspike.allocation.budget import MOVES, parse_limits, shown
from bitspike.allocation.check import batches, evaluating, rates
from bitspike.allocation.forecast import Forecast
from bitspike.allocation.lagrangian import Lagrangian
from bitspike.allocation.measured import MeasuredLoss
from bitspike.allocation.repair import GOAL, Problem, Repaired, State, repair, smallest
from bitspike.allocation.search import search
from bitspike.allocation.sensitivity import Sensitivity
from bitspike.allocation.stopwatch import Stopwatch, Watch
from bitspike.allocation.widths import Allocation
from bitspike.checks import bad_value
from bitspike.cost import cost
from bitspike.data import Batches, Samples
from bitspike.fold.folding import fold
from bitspike.layers import Refined

_AGAIN = 4  # searches of one repair, each with what the one before made of rates and size
_LOOK = 64  # validation samples that currents are read on


class Budgets:
    """The budgets of one run.

    A repair is due at ``freeze_epoch``; where NS-ACE or latency has a budget, again after half and three quarters of
    the epochs left, for what fine-tuning did to the spikes. All decisions are taken from the validation split and the
    network's state alone, so all processes take the same; latency, which is measured, has one process.

    Args:
        allocation: of the network. validation: the split. batch_size: of an evaluation step. epochs: of the run.
        steps: optimiser steps of an epoch. loss: of the network as it is on some validation samples, for the
            sensitivity "loss". watch: for a latency budget, the clock with a way to its table.

    Raises:
        ValueError: a budget that cannot be met, with the smallest figure there is; or nothing learned that one sees.
    """

    def __init__(
        self,
        allocation: Allocation,
        validation: Samples,
        batch_size: int,
        epochs: int,
        steps: int,
        loss: Callable[[nn.Module], float],
        watch: Watch | None = None,
    ) -> None:
        config = allocation.config
        self.loss = loss
        self.allocation: Allocation = allocation
        self.validation: Samples = validation
        self.batch_size: int = batch_size
        self.limits: dict[str, float] = parse_limits("[allocation] budget", config.budget or {})
        self.margins: dict[str, float] = {name: config.budget_margin if name in MOVES else 0.0 for name in self.limits}
        first, again = config.first_repair(epochs), any(name in MOVES for name in self.limits)
        later = [first + share * (epochs - first) for share in (0.5, 0.75)] if again else []
        self.due_at: list[float] = [first, *later]
        if self.due_at[-1] > epochs - 1 / steps:
            latest = epochs - (4 if later else 1) / steps
            must = f"every repair must leave a step for fine-tuning, so freeze_epoch <= {latest:.4g}"
            raise bad_value("[allocation]", must, f"{first:g}", "lower freeze_epoch or train longer")
        self.records: list[dict[str, Any]] = []
        self.sample: Any = next(iter(Batches(validation, min(_LOOK, len(validation)))))[0]
        with evaluating(allocation.model):
            self.forecast: Forecast = Forecast(allocation, self.sample, config.budget_scope, config.budget_input_bits)
        self.stopwatch: Stopwatch | None = None
        if "latency" in self.limits:
            if watch is None:
                raise bad_value("Budgets", "a latency budget needs a clock", "none", "pass watch")
            self.stopwatch = Stopwatch(self.forecast, self.sample, watch)
        self._check()
        self.lagrangian: Lagrangian = Lagrangian(self.forecast, self._aims(), config.budget_pull, config.budget_rate)
        self._last: tuple[State, list[float]] | None = None

    def begin(self) -> None:
        """Before the first step: the rates that NS-ACE needs."""
        if "ns-ace" in self.limits:
            self.measure()

    def _aims(self) -> dict[str, float]:
        return {name: limit * (1 - self.margins[name]) for name, limit in self.limits.items()}

    def _check(self) -> None:
        """Refuse what no allocation can meet; NS-ACE depends on rates and is not looked at."""
        where, levers = "[allocation] budget", self.forecast.levers
        if not levers:
            must = "the network must have learned bits or time steps"
            raise bad_value(where, must, "none", 'e.g. [weight] name = "learned_bits"')
        averages = {id(refined.after) for refined in self.allocation.refined.values()}
        others = [
            name
            for name, module in self.allocation.model.named_modules()
            if isinstance(getattr(module, "raw_steps", None), nn.Parameter)
            and not isinstance(module, Refined)
            and id(module) not in averages
        ]
        if others:
            must = "T must be learned by refined neurons that average their spikes only, where there are budgets"
            raise bad_value(where, must, ", ".join(others), "fix the T of these layers")
        named = [name for name in self.limits if name != "ns-ace"]
        problem = self._problem(named, lambda state: 0.0)
        if named == list(self.limits) and not problem.raisable(problem.low):
            must = f"something must be learned that {' or '.join(named)} depends on"
            raise bad_value(where, must, f"only {', '.join(sorted({lever.kind for lever in levers}))}", "learn more")
        for name in named:
            limit = self.limits[name]
            state = smallest(problem, lambda state, name=name: max(self.forecast.values([name], state)[name]))  # type: ignore[misc]
            least = max(self.forecast.values([name], state)[name]) / (1 - self.margins[name])
            if least > limit:
                must = f"{name} must be at least {shown(name, least)}, the smallest that this network can reach"
                raise bad_value(where, must, shown(name, limit), "raise it or take a smaller network")
        if named and problem.excess(smallest(problem, problem.excess)) > 0:
            must = f"{', '.join(named)} must be reachable together"
            raise bad_value(where, must, "budgets that are not", "raise one of them")

    def _problem(self, names: list[str], sensitivity: Any) -> Problem:
        """The search for the repair; activations are one budget per moment."""
        forecast = self.forecast
        memory = len(forecast.memory.moments)
        known: dict[State, tuple[float, ...]] = {}

        def used(state: State) -> tuple[float, ...]:
            if state not in known:
                values = forecast.values(names, state)
                known[state] = tuple(value / self.limits[name] for name in names for value in values[name])
            return known[state]

        room = [1 - self.margins[name] for name in names for _ in range(memory if name == "activations" else 1)]
        low, high = zip(*((lever.low, lever.high) for lever in forecast.levers), strict=True)
        return Problem(low, high, used, tuple(room), sensitivity)

    def used(self) -> list[float]:
        """Share of every budget that the widths and T in use take, as forecast."""
        state = self.forecast.state
        if self._last is None or self._last[0] != state:
            values = self.forecast.values(list(self.limits), state)
            self._last = state, [max(values[name]) / limit for name, limit in self.limits.items()]
        return self._last[1]

    def measure(self) -> None:
        """Rates on the validation split, as they are now."""
        with evaluating(self.allocation.model):
            found = rates(self.allocation.model, batches(self.validation, self.batch_size))
        self.forecast.measured(found)
        self._last = None

    def _time(self) -> bool:
        """Measure the latency; whether it was another one than forecast."""
        self._last = None
        return self.stopwatch is not None and self.stopwatch.time()

    def due(self, epoch: float) -> bool:
        """Whether a repair is due at a fractional epoch."""
        return len(self.records) < len(self.due_at) and epoch >= self.due_at[len(self.records)]

    @property
    def repaired(self) -> bool:
        """Whether the allocation is as it will stay."""
        return len(self.records) == len(self.due_at)

    def settle(self, optimiser: torch.optim.Optimizer) -> None:
        """After a step of the optimiser: the multipliers, while bits and T are learned."""
        if not self.records:
            over = [use / (1 - self.margins[name]) for use, name in zip(self.used(), self.limits, strict=True)]
            self.lagrangian.settle(over, optimiser)

    def repair(self, epoch: float, x: Tensor, optimiser: torch.optim.Optimizer | None = None) -> None:
        """Bring the allocation within every budget, and put it to use; step sizes are renewed on the batch x."""
        before, found = self.forecast.state, None
        if "ns-ace" in self.limits:
            self.measure()
        self._time()
        if not (self.records and self._kept()):
            safe = self.forecast.fixed_bits
            for _ in range(_AGAIN):
                found = self._search(x, optimiser)
                if not self._recount() or self._kept():
                    break
            else:
                if max(self.used()) > 1:  # forecasts that were never too low
                    self.forecast.fixed_bits = safe
                    if self.stopwatch is not None:
                        self.stopwatch.be_safe()
                    found = self._search(x, optimiser)
        self.records.append(self._record(epoch, before, found))

    def _search(self, x: Tensor, optimiser: torch.optim.Optimizer | None) -> Repaired:
        problem = self._problem(list(self.limits), self._sensitivity(x))
        ends = zip(self.forecast.state, problem.low, problem.high, strict=True)  # a warm start may lie outside
        find = search if self.allocation.config.allocator == "search" else repair
        found = find(problem, tuple(min(max(value, low), high) for value, low, high in ends))
        put(self.forecast, found.state, x, optimiser)
        self._last = None
        return found

    def _sensitivity(self, x: Tensor) -> Callable[[State], float]:
        if self.allocation.config.sensitivity == "loss":
            return MeasuredLoss(self.forecast, x, self.loss)
        with evaluating(self.allocation.model):
            return Sensitivity(self.forecast, self.sample)

    def _kept(self) -> bool:
        """Whether every budget is kept, half of its margin left, and one is used to the goal."""
        used = self.used()
        room = all(use <= 1 - self.margins[name] / 2 for use, name in zip(used, self.limits, strict=True))
        return room and max(used) >= GOAL

    def _recount(self) -> bool:
        """Measure what was forecast: rates, and a size that may be a few bytes less; whether anything was different."""
        before = self.used()
        if "ns-ace" in self.limits:
            self.measure()
        if "size" in self.limits:
            twin, x, forecast = copy.deepcopy(self.allocation.model).cpu(), self.sample[:2].cpu(), self.forecast
            with evaluating(twin):
                counted = cost(fold(twin, x).graph, x)
            forecast.fixed_bits += int(counted.total("size_bits")) - forecast.size_bits(forecast.state)
            self._last = None
        different = self.used() != before
        return self._time() or different

    def _record(self, epoch: float, before: State, found: Repaired | None) -> dict[str, Any]:
        after = self.forecast.state
        changed = [
            {"kind": lever.kind, "name": lever.name, "row": lever.row, "from": old, "to": new}
            for lever, old, new in zip(self.forecast.levers, before, after, strict=True)
            if old != new
        ]
        tried = 0 if found is None else found.tried
        latency = {} if self.stopwatch is None else {"latency": self.stopwatch.record()}
        return {
            "epoch": epoch,
            "used": dict(zip(self.limits, self.used(), strict=True)),
            "tried": tried,
            "changed": changed,
            **latency,
        }

    def close_epoch(self) -> dict[str, float]:
        """After an epoch: what its record says of the budgets."""
        if "ns-ace" in self.limits:
            self.measure()
        used = self.used()
        return {"budget_used": max(used), "within_budgets": float(self.repaired and max(used) <= 1)}

    def capture(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, facts) for a checkpoint."""
        facts = {"records": self.records, "rates": self.forecast.rates, "fixed_bits": self.forecast.fixed_bits}
        if self.stopwatch is not None:
            facts |= {"times": self.stopwatch.times.as_dict(), "stopwatch": self.stopwatch.capture()}
        return {"multipliers": self.lagrangian.multipliers}, facts

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """The inverse of `capture`."""
        self.lagrangian.multipliers.copy_(tensors["multipliers"])
        self.records, self.forecast.fixed_bits = list(facts["records"]), facts["fixed_bits"]
        self.forecast.measured(facts["rates"])
        if self.stopwatch is not None:
            self.stopwatch.restore(facts["stopwatch"])
        self._last = None
