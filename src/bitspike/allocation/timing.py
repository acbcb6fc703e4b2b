"""Measuring a table of times: the network at uniform bits and T, each compiled and run."""

from __future__ import annotations

import copy
import itertools
import statistics
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from bitspike.allocation.apply import put
from bitspike.allocation.forecast import Forecast, generic
from bitspike.allocation.latency import network_digest
from bitspike.allocation.repair import State
from bitspike.allocation.times import AXES, Times, nested
from bitspike.allocation.widths import Allocation
from bitspike.checks import bad_value

KNOTS = {"weights": (1, 2, 3), "spikes": (1, 2, 3), "steps": (1, 2)}
"""Bits and T that are measured beside the bounds: from 3 bits on kernels of bytes serve, which no bit more slows."""
_WARM = 10  # batches that give the norms of a new network their statistics


class Timed(NamedTuple):
    """A program that was run in turns with the reference program, whose time is the unit.

    Attributes:
        whole: of a call for one sample. groups: (names of its operations, time) of every group, as they run.
        reference_ms: of the reference program, at its fastest tenth.
    """

    whole: float
    groups: tuple[tuple[tuple[str, ...], float], ...]
    reference_ms: float


class Clock(Protocol):
    """Folds, compiles and times networks.

    Attributes:
        machine: what its times hold for.
    """

    machine: dict[str, object]

    def __call__(self, model: nn.Module, /) -> Timed:
        """The time of a network as it is, which stays so. Raises `ValueError` where it does not compile."""
        ...


Counted = Callable[[int, int], None]
"""Called with (programs measured, all)."""


def measured_times(forecast: Forecast, x: Tensor, clock: Clock, counted: Counted | None = None) -> Times:
    """The table of a network: of every combination of knots a copy with these bits and T everywhere.

    Args:
        forecast: of the network, which stays as it is. x: a batch, for step sizes of spikes and statistics of norms.
        clock: runs the copies. counted: progress.

    Raises:
        ValueError: the network does not compile, or no synapse of it has a time of its own.
    """
    x = x.detach().cpu()
    like, axes = _copy(forecast, x), {kind: _axis(forecast, kind) for kind in AXES}
    synapses = [site.row.name for site in forecast.sites]
    shape = tuple(len(axis) for axis in axes.values())
    layers = {name: np.zeros(shape) for name in synapses}
    fires: dict[str, tuple[str, ...]] = {}
    rests, references = [], []
    states = list(itertools.product(*(enumerate(axis) for axis in axes.values())))
    for done, knots in enumerate(states):
        put(like, _uniform(forecast, {kind: value for kind, (_, value) in zip(axes, knots, strict=True)}), x)
        timed = clock(like.allocation.model)
        found = by_layer(timed, synapses)
        for name, (time, neurons) in found.items():
            layers[name][tuple(index for index, _ in knots)] = time
            fires[name] = tuple(dict.fromkeys((*fires.get(name, ()), *(n for n in neurons if n in forecast.neurons))))
        rests.append(timed.whole - sum(time for time, _ in found.values()))
        references.append(timed.reference_ms)
        if counted is not None:
            counted(done + 1, len(states))
    if not fires:
        raise bad_value("[allocation] budget", "latency needs a synapse whose kernel has a time", "none", "drop it")
    return Times(
        machine=dict(clock.machine),
        network=network_digest(forecast),
        reference_ms=float(f"{statistics.median(references):.6g}"),
        rest=float(f"{statistics.median(rests):.6g}"),
        weights=axes["weights"],
        spikes=axes["spikes"],
        steps=axes["steps"],
        layers={name: nested(layers[name]) for name in fires},
        fires=fires,
    )


def by_layer(timed: Timed, synapses: Collection[str]) -> dict[str, tuple[float, tuple[str, ...]]]:
    """Synapse → (time, names of operations) of its group and of all groups behind it until the next synapse's."""
    known, found, name = set(synapses), dict[str, tuple[float, tuple[str, ...]]](), None
    for names, time in timed.groups:
        name = next((n for n in names if n in known), name)
        if name is not None:
            before, seen = found.get(name, (0.0, ()))
            found[name] = before + time, (*seen, *names)
    return found


def _copy(forecast: Forecast, x: Tensor) -> Forecast:
    """A forecast whose network is a copy, its step sizes and norms as a batch wants them; a change of bits keeps
    ranges."""
    twin = generic(forecast.allocation.model).cpu()
    allocation = Allocation(twin, replace(forecast.allocation.config, renewal="range", extreme="fresh"))
    allocation.start(x)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        twin.train()
        for _ in range(_WARM):
            twin(x)
    twin.eval()
    like = copy.copy(forecast)
    like.allocation = allocation
    return like


def _axis(forecast: Forecast, kind: str) -> tuple[int, ...]:
    """Knots of a kind, within the bounds of what is learned; 1 where nothing is."""
    bounds = [(lever.low, lever.high) for lever in forecast.levers if lever.kind == kind]
    if not bounds:
        return (1,)
    low, high = min(a for a, _ in bounds), max(b for _, b in bounds)
    return tuple(sorted({low, high, *(knot for knot in KNOTS[kind] if low < knot < high)}))


def _uniform(forecast: Forecast, given: Mapping[str, int]) -> State:
    return tuple(min(max(given[lever.kind], lever.low), lever.high) for lever in forecast.levers)
