"""The term of the loss that moves learned bits and time steps towards their budgets: an augmented Lagrangian."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from bitspike.cost import LayerCost
from bitspike.functional import Widths, follow
from bitspike.training.forecast import Forecast, Site


class _Train(NamedTuple):
    """Of a neuron: ``Σ_t b_s^t`` and T, straight-through, and T as a number."""

    bits: Tensor | int
    steps: Tensor | int
    T: int


class _Soft(NamedTuple):
    """Of a synapse: its row, bits of a weight, ``Σ_t b_s^t`` and T of what it reads, straight-through."""

    row: LayerCost
    weights: Tensor | int
    bits: Tensor | int
    steps: Tensor | int


class Pressure(nn.Module):
    """``Σ_j λ_j·g_j + ½·ρ·max(0, g_j)²``, ``g_j = log(C_j/budget_j)``; after a step ``λ_j ← max(0, λ_j + η·g_j)``.

    C_j is the cost with the widths and T in use; gradients pass straight through to the learned numbers. They are
    ``dC/dB`` of the formulas of `bitspike.cost`, where a step more brings the mean bits of the steps there are. The
    logarithm makes budgets of all kinds alike: a layer is pulled by its share of the cost over its bits. While every
    budget is kept the multipliers fall to 0 and the task alone decides.

    Source: ours; the paper pulls averages by ``λ·|mean − target|`` (`Averages`).

    Args:
        forecast: cost of the network. limits: name → limit. pull: ρ. rate: η.
    """

    multipliers: Tensor

    def __init__(self, forecast: Forecast, limits: dict[str, float], pull: float, rate: float) -> None:
        super().__init__()
        self.forecast, self.limits, self.pull, self.rate = forecast, limits, pull, rate
        device = next(forecast.allocation.model.parameters()).device
        self.register_buffer("multipliers", torch.zeros(len(limits), device=device))

    def _train(self, node: str) -> _Train:
        forecast = self.forecast
        path, T = forecast.paths[node], forecast.neurons[node].T
        holder = forecast.allocation.refined.get(forecast.holders.get(path, ""))
        learned = None if holder is None else holder.raw_steps
        if holder is not None and learned is not None:
            T = holder.time_steps
        bits: Tensor | int
        if ("spikes", path, 0) in forecast.place:
            width = _width(forecast.allocation.spikes[path]).reshape(-1)
            bits = width[:T].sum() + width[-1] * max(T - len(width), 0)
        else:
            given = forecast.neurons[node].step_bits
            bits = sum(given[:T]) + given[-1] * max(T - len(given), 0)
        if holder is None or learned is None:
            return _Train(bits, T, T)
        steps = follow(holder.steps, learned)
        return _Train(bits * (steps / T), steps, T)

    def soft(self) -> dict[str, Tensor]:
        """The cost of every budget [], with gradients."""
        trains = {name: self._train(name) for name in self.forecast.neurons}
        sites = [self._site(site, trains) for site in self.forecast.sites]
        return {name: torch.as_tensor(self._cost(name, sites, trains)).to(self.multipliers) for name in self.limits}

    def _site(self, site: Site, trains: dict[str, _Train]) -> _Soft:
        row = site.row
        weights = None if site.weights is None else _width(self.forecast.allocation.weights[site.weights][1])
        bits = row.weight_bits if weights is None else weights
        if site.source is None:
            return _Soft(row, bits, row.time_bits, row.steps)
        train = trains[site.source]
        whole = site.whole or train.T != row.T
        return _Soft(row, bits, train.bits if whole else 32 * row.T, train.steps)

    def _cost(self, name: str, sites: list[_Soft], trains: dict[str, _Train]) -> Tensor | float:
        forecast = self.forecast
        if name == "size":
            learned = sum(s.row.size_bits + s.row.weights * (s.weights - s.row.weight_bits) for s in sites)
            return (forecast.fixed_bits + learned) / 8
        if name == "activations":
            memory, moments = forecast.memory, []
            for moment in memory.moments:
                several = moment.neurons > 0 and trains[moment.node].T > 1
                fixed = moment.other_bits + (moment.neurons * memory.membrane_bits if several else 0)
                moments.append(fixed + sum(n * trains[other].bits for other, n in moment.trains.items()))
            return torch.stack([torch.as_tensor(bits).to(self.multipliers) for bits in moments]).max() / 8
        chosen = [s for s in sites if s.row.role not in forecast.without]
        if name == "bit-budget":
            weights, inputs = sum(s.row.weights for s in chosen), sum(s.row.inputs for s in chosen)
            mean_weight = sum(s.row.weights * s.weights for s in chosen) / max(weights, 1)
            mean_spike = sum(s.row.inputs * s.bits / s.steps for s in chosen) / max(inputs, 1)
            return mean_weight * mean_spike * (sum(s.row.inputs * s.steps for s in chosen) / max(inputs, 1))
        rates = {} if name == "s-ace" else forecast.rates
        return sum(s.row.macs * rates.get(s.row.name, 1.0) * s.weights * s.bits for s in chosen)

    def forward(self) -> Tensor:
        """The penalty []."""
        costs = self.soft()
        limits = torch.tensor(list(self.limits.values())).to(self.multipliers)
        over = (torch.stack(list(costs.values())) / limits).clamp(min=1e-12).log()
        return (self.multipliers * over + 0.5 * self.pull * over.clamp(min=0).square()).sum()

    @torch.no_grad()
    def settle(self, used: list[float]) -> None:
        """After an optimiser step: the multipliers follow the share of every budget in use."""
        over = torch.tensor(used).clamp(min=1e-12).log().to(self.multipliers)
        self.multipliers.add_(self.rate * over).clamp_(min=0)


def _width(part: Widths) -> Tensor:
    return part.width.float() if part.raw_bits is None else follow(part.width, part.raw_bits.abs())
