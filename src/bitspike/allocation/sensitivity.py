"""What fewer bits or time steps do to a network: quantization error over signal, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bitspike.allocation.forecast import Forecast
from bitspike.allocation.repair import State
from bitspike.formats import SpikeFormat
from bitspike.functional.renewal import best_step, columns, quantized, start_step
from bitspike.graph import Node, trace
from bitspike.neurons import Neuron

_VALUES = 8192
_GRID = 50


class Sensitivity:
    """``Σ_l ‖q(x) − x‖²/‖x‖²`` over everything with learned bits or T, at the best step size of every width.

    x are the latent weights of a layer, or the currents of a neuron on samples (their positive part, where spikes have
    no sign). A refined neuron of T steps and greatest level Q is taken as one quantizer with greatest level T·Q: with
    soft reset and no leak its mean spike is ``round(T·x/γ)·γ/T``. Errors of layers add up, as noise of independent
    sources does. At most 8,192 values a layer are looked at, evenly spread.

    Args:
        forecast: knows what is learned. x: samples; the network is run on them in evaluation mode.
    """

    def __init__(self, forecast: Forecast, x: Tensor) -> None:
        self.forecast: Forecast = forecast
        allocation = forecast.allocation
        self.values: dict[str, Tensor] = {}
        self.formats: dict[str, SpikeFormat] = {}
        for lever in forecast.levers:
            if lever.kind == "weights":
                synapse, part = allocation.weights[lever.name]
                self.values[f"{lever.name}.weight"] = _spread(columns(synapse.weight.detach(), part.channel_axis))
        self.neurons: dict[str, str] = self._currents(x)
        self.places: list[tuple[str, list[int]]] = [(name, self._places(name)) for name in self.values]
        self._known: dict[tuple[str, State], float] = {}

    def _places(self, name: str) -> list[int]:
        """Which numbers of a state the error of a layer depends on."""
        path = self.neurons.get(name)
        weights = ("weights", name.removesuffix(".weight"))
        own = {weights} if path is None else {("spikes", path), ("steps", self.forecast.holders.get(path, ""))}
        return [place for place, lever in enumerate(self.forecast.levers) if (lever.kind, lever.name) in own]

    @torch.no_grad()
    def _currents(self, x: Tensor) -> dict[str, str]:
        """Node → module of the neurons that something is learned of; their currents are kept."""
        forecast, found = self.forecast, {}
        learned = {(lever.kind, lever.name) for lever in forecast.levers}

        def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
            module, holder = node.module, forecast.holders.get(node.path, "")
            asked = ("spikes", node.path) in learned or ("steps", holder) in learned
            if asked and isinstance(module, Neuron) and not module.format.real:
                values = _spread(columns(args[0].detach().float(), getattr(module, "channel_axis", None)))
                self.values[node.name] = values if module.format.signed else values.relu()
                self.formats[node.name] = module.format
                found[node.name] = node.path
            return call()

        trace(forecast.allocation.model).run(x, handler=note)
        return found

    def __call__(self, state: State) -> float:
        """The sum for these widths and T."""
        return sum(self._of(name, tuple(state[place] for place in places), state) for name, places in self.places)

    def _of(self, name: str, widths: State, state: State) -> float:
        """The error of one layer, remembered by what it depends on."""
        if (name, widths) not in self._known:
            if name in self.neurons:
                levels = self._levels(name, state)
            else:
                levels = self.forecast.allocation.weights[name.removesuffix(".weight")][1].levels(widths[0])
            self._known[name, widths] = self._error(name, *levels)
        return self._known[name, widths]

    def _levels(self, node: str, state: State) -> tuple[int, int, int]:
        """Least and greatest level of the sum of a train, and their stride."""
        forecast = self.forecast
        path, T = self.neurons[node], forecast.steps(node, state)
        part = forecast.allocation.spikes.get(path)
        if part is None or part.raw_bits is None:
            record = self.formats[node]
            return record.low * T, record.high * T, 1
        rows = part.width.numel()
        if path not in forecast.holders:  # steps of their own are not averaged: the mean over them is looked at
            T = rows
        ends = [part.levels(state[forecast.place["spikes", path, min(t, rows - 1)]]) for t in range(T)]
        share = 1 if path in forecast.holders else rows
        return sum(end[0] for end in ends) // share, max(1, sum(end[1] for end in ends) // share), 1

    def _error(self, name: str, low: int, high: int, stride: int) -> float:
        x = self.values[name]
        step = best_step(x, start_step(x, high).clamp(min=1e-5), low, high, stride, _GRID)
        signal = float(x.square().sum())
        away = float((quantized(x, step, low, high, stride) - x).square().sum())
        return away / signal if signal > 0 else 0.0


def _spread(x: Tensor) -> Tensor:
    """At most so many rows of x [N, C] that `_VALUES` values are left, evenly spread."""
    return x[:: max(1, x.numel() // _VALUES)]
