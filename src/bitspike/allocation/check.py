"""Whether a trained network keeps its budgets, counted on the folded network by `bitspike.cost`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.allocation.budget import parse_limits, shown
from bitspike.allocation.forecast import Forecast, exact
from bitspike.allocation.repair import GOAL, moved
from bitspike.allocation.widths import Allocation
from bitspike.cost import activations, cost
from bitspike.data import Batches, Samples
from bitspike.graph import Graph


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
    allocation: Allocation, graph: Graph, validation: Samples, batch_size: int, records: list[dict[str, Any]]
) -> dict[str, Any]:
    """What became of the budgets, counted on the folded network by `bitspike.cost`; NS-ACE on the validation split.

    Returns:
        budgets: name → limit, value, used; tightest; used (of it); full: whether no width that a budget sees can be
        raised; tried: allocations of an exhaustive search that found none that uses more; met; says: one line; repairs.
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
    values = {name: exact(name, counted, memory, config.budget_scope) for name in limits}
    used = {name: values[name] / limit for name, limit in limits.items()}
    tightest = max(used, key=lambda name: used[name])
    with evaluating(allocation.model):
        forecast = Forecast(allocation, x, config.budget_scope, config.budget_input_bits, measured)
    state = forecast.state
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
