"""Measuring a table of times: the network at uniform bits and T, each compiled and run."""

from __future__ import annotations

import copy
import itertools
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
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

KNOTS: dict[str, tuple[int, ...]] = {"weights": (1, 2, 3), "spikes": (1, 2, 3), "steps": (1, 2)}
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

    def __call__(self, models: Iterable[nn.Module], /) -> list[Timed]:
        """Times of networks, each as it is when its turn comes; it stays so. All run in turns, so that a machine that
        is busy for a while slows all alike. Raises `ValueError` where one does not compile."""
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
    knots = list(itertools.product(*axes.values()))

    def copies() -> Iterator[nn.Module]:
        for done, values in enumerate(knots):
            put(like, _uniform(forecast, dict(zip(AXES, values, strict=True))), x)
            yield like.allocation.model
            if counted is not None:
                counted(done + 1, len(knots))

    timed = clock(copies())
    found = [by_layer(one, synapses) for one in timed]
    names = [name for name in synapses if all(name in layers for layers in found)]
    if not names:
        raise bad_value("[allocation] budget", "latency needs a synapse whose kernel has a time", "none", "drop it")
    counts = np.array([[len(layers[name].groups) for name in names] for layers in found], float)
    spent = np.array([[layers[name].time for name in names] for layers in found])
    rests = np.array([one.whole for one in timed]) - spent.sum(1)
    each = _slope(counts.sum(1), rests)
    shape = tuple(len(axis) for axis in axes.values())
    fires = {
        name: dict.fromkeys(n for layers in found for group in layers[name].groups for n in group) for name in names
    }
    return Times(
        machine=dict(clock.machine),
        network=network_digest(forecast),
        reference_ms=_rounded(statistics.median(one.reference_ms for one in timed)),
        rest=_rounded(float(np.median(rests - each * counts.sum(1)))),
        weights=axes["weights"],
        spikes=axes["spikes"],
        steps=axes["steps"],
        layers={name: nested((spent + each * counts)[:, i].reshape(shape)) for i, name in enumerate(names)},
        fires={name: tuple(n for n in seen if n in forecast.neurons) for name, seen in fires.items()},
    )


class Behind(NamedTuple):
    """The groups of a layer, and their time."""

    time: float
    groups: tuple[tuple[str, ...], ...]


def by_layer(timed: Timed, synapses: Collection[str]) -> dict[str, Behind]:
    """Synapse → its group and all groups behind it until the next synapse's."""
    known, found, name = set(synapses), dict[str, Behind](), None
    for names, time in timed.groups:
        name = next((n for n in names if n in known), name)
        if name is not None:
            before, groups = found.get(name, Behind(0.0, ()))
            found[name] = Behind(before + time, (*groups, names))
    return found


def _slope(counts: np.ndarray, rests: np.ndarray) -> float:
    """What a group takes outside of its own clock: the slope of what is left of a call over the number of groups."""
    away = counts - counts.mean()
    spread = float((away**2).sum())
    return max(0.0, float((away * rests).sum()) / spread) if spread else 0.0


def _rounded(time: float) -> float:
    return float(f"{time:.6g}")


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
