"""Whether a trained network keeps its budgets, counted on the folded network by `bitspike.cost`."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bitspike.allocation.budget import parse_limits, shown
from bitspike.allocation.forecast import Forecast, exact
from bitspike.allocation.latency import Latency
from bitspike.allocation.repair import GOAL, moved
from bitspike.allocation.times import Times
from bitspike.allocation.timing import Clock
from bitspike.allocation.widths import Allocation
from bitspike.cost import activations, cost
from bitspike.data import Batches, Samples
from bitspike.graph import Graph


class Clocked(NamedTuple):
    """The clock of this machine, and the table of a run."""

    clock: Clock
    times: Times


def batches(data: Samples, batch_size: int) -> Iterator[Tensor]:
    """The samples of a set, normalised, in order."""
    return (x for x, _ in Batches(data, batch_size))


def rates(net: nn.Module | Graph, samples: Iterable[Tensor]) -> dict[str, float]:
    """Share of non-zero spikes that every synapse (node name) reads, over all samples; network in evaluation mode."""
    sums: dict[str, float] = {}
    seen = 0
    for x in samples:
        counted = cost(net, x)
        for row in counted.synapses:
            rate = row.ns_ace / row.s_ace if row.s_ace else row.rate
            sums[row.name] = sums.get(row.name, 0.0) + rate * counted.samples
        seen += counted.samples
    return {name: total / max(seen, 1) for name, total in sums.items()}


def judge(
    allocation: Allocation,
    graph: Graph,
    validation: Samples,
    batch_size: int,
    records: list[dict[str, Any]],
    clocked: Clocked | None = None,
) -> dict[str, Any]:
    """What became of the budgets, counted on the folded network by `bitspike.cost`; NS-ACE on the validation split,
    latency measured.

    Args:
        clocked: of a latency budget, the clock and the table of the run.

    Returns:
        budgets: name → limit, value, used; tightest; used (of it); full: whether no width that a budget sees can be
        raised; tried: allocations of an exhaustive search that found none that uses more; met; says: one line; repairs;
        latency, where it has a budget: forecast_ms (with the factor of the last repair), measured_ms, of_reference (the
        measured time over that of the reference program), reference_ms, machine.
    """
    config = allocation.config
    limits = parse_limits("[allocation] budget", config.budget or {})
    x = next(iter(Batches(validation, 2)))[0]
    counted = cost(graph, x, input_bits=config.budget_input_bits)
    memory = activations(graph, x, input_bits=config.budget_input_bits)
    measured: dict[str, float] = {}
    if "ns-ace" in limits:
        measured |= rates(graph, batches(validation, batch_size))
        for row in counted.synapses:
            row.rate = row.spike_rate = measured[row.name]
            row.part_rates = ()
    timed = None if clocked is None else clocked.clock([copy.deepcopy(allocation.model)])[0]
    values = {name: exact(name, counted, memory, config.budget_scope) for name in limits if name != "latency"}
    if clocked is not None and timed is not None:
        values["latency"] = timed.whole * clocked.times.reference_ms
    values = {name: values[name] for name in limits}
    used = {name: values[name] / limit for name, limit in limits.items()}
    tightest = max(used, key=lambda name: used[name])
    with evaluating(allocation.model):
        forecast = Forecast(allocation, x, config.budget_scope, config.budget_input_bits, measured)
    state, latency = forecast.state, dict[str, dict[str, Any]]()
    if clocked is not None and timed is not None:
        forecast.latency = Latency(forecast, clocked.times)
        forecast.latency.factor = records[-1]["latency"]["factor"] if records else 1.0
        latency["latency"] = {
            "forecast_ms": forecast.latency(state),
            "measured_ms": values["latency"],
            "of_reference": timed.whole,
            "reference_ms": clocked.times.reference_ms,
            "machine": clocked.times.machine,
        }
    full = not any(
        forecast.values(list(limits), moved(state, i, 1)) != forecast.values(list(limits), state)
        for i, lever in enumerate(forecast.levers)
        if state[i] < lever.high
    )
    tried = records[-1]["tried"] if records else 0
    over = [name for name in limits if used[name] > 1]
    met = not over and (used[tightest] >= GOAL or full)
    parts = [f"{n} {shown(n, values[n])} of {shown(n, limit)} ({used[n]:.1%})" for n, limit in limits.items()]
    says = ("budgets met: " if met else "budgets NOT met: ") + ", ".join(parts)
    for found in latency.values():
        ahead = shown("latency", found["forecast_ms"])
        says += f"; measured, {found['of_reference']:.3g} times the reference program, where {ahead} were forecast"
    if over:
        says += "; exceeded: " + ", ".join(
            f"{n} by {shown(n, values[n] - limits[n])} ({used[n] - 1:.1%})" for n in over
        )
    elif used[tightest] < GOAL and full:
        says += "; less than 90 % is used because every learned width and T stands at its upper bound"
    elif not met:
        says += f"; {tightest} is used to {used[tightest]:.1%}, {GOAL - used[tightest]:.1%} less than asked: "
        every = f"none of all {tried:,} allocations comes nearer from below"
        says += every if tried else "no allocation that comes nearer from below was found"
    return {
        "budgets": {n: {"limit": limits[n], "value": values[n], "used": used[n]} for n in limits},
        "tightest": tightest,
        "used": used[tightest],
        "full": full,
        "tried": tried,
        "met": met,
        "says": says,
        "repairs": records,
        **latency,
    }


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within the block the network is in evaluation mode and nothing has gradients."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
