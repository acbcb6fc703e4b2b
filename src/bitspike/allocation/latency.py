"""The forecast of a latency: which bits and time steps the time of a layer depends on, and their sum."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

from bitspike.allocation.forecast import Forecast, Lever, Site
from bitspike.allocation.repair import State
from bitspike.allocation.times import AXES, Place, Times, mean_over
from bitspike.functional import follow


class Sees(NamedTuple):
    """Places of the levers whose mean is the place of a layer along each axis of `Times`."""

    weights: tuple[int, ...]
    spikes: tuple[int, ...]
    steps: tuple[int, ...]


class Latency:
    """``factor·(rest + Σ_l t_l(weight bits, spike bits, T))`` in ms, for one sample through the compiled program.

    The time of a layer is that of its synapse and of all that runs behind it until the next one, neurons included. It
    depends on the bits of its weights, on those of the spikes that it reads (where it reads none, of those it sends),
    and on the T of its own neurons (where it has none, of those it reads), each as a mean where there are several.

    Args:
        forecast: knows levers and synapses. times: table of the network.
    """

    def __init__(self, forecast: Forecast, times: Times) -> None:
        self.forecast = forecast
        self.factor: float = 1.0
        """What a measurement of the whole program found, over the sum."""
        self.sees: dict[str, Sees] = {
            site.row.name: self._sees(site, times.fires[site.row.name])
            for site in forecast.sites
            if site.row.name in times.layers
        }
        for layer, sees in self.sees.items():
            blind = tuple(kind for kind, places in zip(AXES, sees, strict=True) if not places)
            times = mean_over(times, layer, blind) if blind else times
        self.times = times
        self._known: dict[tuple[str, Place], float] = {}
        self._slopes: dict[tuple[str, Place], Place] = {}

    def _sees(self, site: Site, fires: tuple[str, ...]) -> Sees:
        forecast = self.forecast
        own = [name for name in fires if name in forecast.neurons]
        read = [name for name in site.sources if name in forecast.neurons]
        weights = () if site.weights is None else (forecast.place["weights", site.weights, 0],)
        return Sees(weights, self._spikes(read) or self._spikes(own), self._steps(own) or self._steps(read))

    def _spikes(self, nodes: list[str]) -> tuple[int, ...]:
        """Levers of the bits of these neurons."""
        return self._levers("spikes", {self.forecast.paths[node] for node in nodes})

    def _steps(self, nodes: list[str]) -> tuple[int, ...]:
        """Levers of the T of these neurons."""
        return self._levers("steps", {self.forecast.holders.get(self.forecast.paths[node], "") for node in nodes})

    def _levers(self, kind: str, names: set[str]) -> tuple[int, ...]:
        levers = enumerate(self.forecast.levers)
        return tuple(i for i, lever in levers if lever.kind == kind and lever.name in names)

    def __call__(self, state: State) -> float:
        """Ms of an allocation."""
        return self.factor * (self.rest_ms + sum(self._at(layer, self.place(layer, state)) for layer in self.sees))

    @property
    def rest_ms(self) -> float:
        """What belongs to no layer."""
        return self.times.rest * self.times.reference_ms

    def place(self, layer: str, state: State) -> Place:
        """Where a layer stands in the table."""
        sees = self.sees[layer]
        found = [sum(state[i] for i in places) / len(places) if places else 1.0 for places in sees]
        return found[0], found[1], found[2]

    def _at(self, layer: str, place: Place) -> float:
        if (layer, place) not in self._known:
            self._known[layer, place] = self.times.at(layer, place)
        return self._known[layer, place]

    def soft(self) -> Tensor:
        """Ms of the bits and T in use [], straight-through with the slopes of the table."""
        forecast, state = self.forecast, self.forecast.state
        soft = [_soft(forecast, lever) for lever in forecast.levers]
        total = torch.zeros((), device=next(forecast.allocation.model.parameters()).device)
        for layer, sees in self.sees.items():
            place = self.place(layer, state)
            if (layer, place) not in self._slopes:
                self._slopes[layer, place] = self.times.slopes(layer, place)
            for places, slope in zip(sees, self._slopes[layer, place], strict=True):
                for i in places:
                    total = total + slope / len(places) * (soft[i] - soft[i].detach())
        return self.factor * total + self(state)


def _soft(forecast: Forecast, lever: Lever) -> Tensor:
    """The number of a lever, with a gradient where it is trained."""
    if lever.kind == "steps":
        holder = forecast.allocation.refined[lever.name]
        assert holder.raw_steps is not None
        return follow(holder.steps, holder.raw_steps)
    part = forecast.part(lever)
    assert part.raw_bits is not None
    return follow(part.width, part.raw_bits.abs()).reshape(-1)[lever.row]


def network_digest(forecast: Forecast) -> str:
    """Digest of what a table of times depends on: synapses with their sizes, levers with their bounds."""
    lines = [
        f"{s.row.name} {s.row.macs} {s.row.weights} {s.row.inputs} {s.row.outputs} {s.row.T}" for s in forecast.sites
    ]
    lines += [f"{lever.kind} {lever.name} {lever.row} {lever.low} {lever.high}" for lever in forecast.levers]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
