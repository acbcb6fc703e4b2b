"""The term of the loss that moves learned bits and time steps towards their budgets: an augmented Lagrangian."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from bitspike.allocation.forecast import Forecast, Site
from bitspike.cost import LayerCost
from bitspike.formats import SpikeFormat
from bitspike.functional import Widths, follow
from bitspike.graph import Form

_RATE = 0.1  # η with AdamW


class _Train(NamedTuple):
    """Of a neuron: ``Σ_t b_s^t`` and T, straight-through, T as a number, and ``Σ_t b_s^t`` for T steps."""

    bits: Tensor | int
    steps: Tensor | int
    T: int
    width: Tensor | int


class _Soft(NamedTuple):
    """Of a synapse: its row, bits of a weight, and (inputs, ``Σ_t b_s^t``, T) of every part that it reads, all of it
    straight-through."""

    row: LayerCost
    weights: Tensor | int
    parts: list[tuple[int, Tensor | float, Tensor | int]]

    @property
    def bits(self) -> Tensor | float:
        """The mean of ``Σ_t b_s^t`` over the inputs."""
        return sum(count * bits for count, bits, _ in self.parts) / sum(count for count, _, _ in self.parts)


class Lagrangian(nn.Module):
    """``Σ_j λ_j·g_j + ½·ρ·max(0, g_j)²``, ``g_j = log(C_j/budget_j)``; after a step ``λ_j ← max(0, λ_j + η·g_j)``.

    C_j is the cost with the widths and T in use; gradients pass straight through to the learned numbers. They are
    ``dC/dB`` of the formulas of `bitspike.cost`, where a step more brings the mean bits of the steps there are, and of
    a latency the slopes of `Times`. The logarithm makes budgets of all kinds alike: a layer is pulled by its share of
    the cost over its bits. While every budget is kept the multipliers fall to 0 and the task alone decides.

    With learning rates r_i and momentum m of SGD, a pull ``u = λ + ρ·g`` gives ``dg/dt = −k·u`` per step,
    ``k = Σ_i r_i/(1 − m)·(∂g/∂B_i)²`` over learned bits and T, and ``dλ/dt = η·g``: damping ½ρ·√(k/η).
    ``η = k·ρ²/4`` is critical: no overshoot, whatever the number of layers and the schedule.

    Source: ours; the paper pulls averages by ``λ·|mean − target|`` (`Averages`).

    Args:
        forecast: cost of the network. limits: name → limit. pull: ρ. rate: η; None: critical at every step, with AdamW,
            whose steps do not grow with the gradient, 0.1.
    """

    multipliers: Tensor

    def __init__(self, forecast: Forecast, limits: dict[str, float], pull: float, rate: float | None) -> None:
        super().__init__()
        self.forecast: Forecast = forecast
        self.limits: dict[str, float] = limits
        self.pull: float = pull
        self.rate: float | None = rate
        device = next(forecast.allocation.model.parameters()).device
        self.register_buffer("multipliers", torch.zeros(len(limits), device=device))
        self._slopes: tuple[object, list[dict[int, float]]] | None = None

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
            return _Train(bits, T, T, bits)
        steps = follow(holder.steps, learned)
        return _Train(bits * (steps / T), steps, T, bits)

    def soft(self) -> dict[str, Tensor]:
        """The cost of every budget [], with gradients."""
        trains = {name: self._train(name) for name in self.forecast.neurons}
        sites = [self._site(site, trains) for site in self.forecast.sites]
        return {name: torch.as_tensor(self._cost(name, sites, trains)).to(self.multipliers) for name in self.limits}

    def _site(self, site: Site, trains: dict[str, _Train]) -> _Soft:
        row = site.row
        weights = None if site.weights is None else _width(self.forecast.allocation.weights[site.weights][1])
        bits = row.weight_bits if weights is None else weights
        if not site.forms:
            return _Soft(row, bits, [(row.inputs, row.time_bits, row.steps)])
        sent = {name: self._sent(name, trains) for name in site.sources}
        return _Soft(row, bits, [(count, *_form(form, sent, trains)) for count, form in site.forms])

    def _sent(self, node: str, trains: dict[str, _Train]) -> tuple[SpikeFormat, ...]:
        """Alphabets of a train at its steps, from plain records, which compiled code can read."""
        forecast = self.forecast
        given, path = forecast.edges.sent[node], forecast.paths.get(node, "")
        if node not in trains:
            return forecast.of_product(node, lambda name: self._sent(name, trains)) or given
        if ("spikes", path, 0) in forecast.place:
            holder = forecast.allocation.spikes[path]
            given = getattr(holder, "formats", (holder.format,))
        T = trains[node].T
        return given[:T] + given[-1:] * (T - len(given))

    def _cost(self, name: str, sites: list[_Soft], trains: dict[str, _Train]) -> Tensor | float:
        forecast = self.forecast
        if name == "size":
            learned = sum(s.row.size_bits + s.row.weights * (s.weights - s.row.weight_bits) for s in sites)
            return (forecast.fixed_bits + learned) / 8
        if name == "latency" and forecast.latency is not None:
            return forecast.latency.soft()
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
            parts = [part for s in chosen for part in s.parts]
            mean_spike = sum(count * bits / steps for count, bits, steps in parts) / max(inputs, 1)
            return mean_weight * mean_spike * (sum(count * steps for count, _, steps in parts) / max(inputs, 1))
        rates = {} if name == "s-ace" else forecast.rates
        return sum(s.row.macs * rates.get(s.row.name, 1.0) * s.weights * s.bits for s in chosen)

    def forward(self) -> Tensor:
        """The penalty []."""
        costs = self.soft()
        limits = torch.tensor(list(self.limits.values())).to(self.multipliers)
        over = (torch.stack(list(costs.values())) / limits).clamp(min=1e-12).log()
        return (self.multipliers * over + 0.5 * self.pull * over.clamp(min=0).square()).sum()

    def slopes(self) -> list[dict[int, float]]:
        """Of every budget: id of a learned parameter → its ``Σ (∂g/∂B)²``; known for the widths, T and rates in use."""
        now = self.forecast.state, tuple(self.forecast.rates.items())
        if self._slopes is None or self._slopes[0] != now:
            self._slopes = now, [self._slope(cost) for cost in self._costs()]
        return self._slopes[1]

    @torch.enable_grad()
    def _costs(self) -> list[Tensor]:
        return list(self.soft().values())

    def _slope(self, cost: Tensor) -> dict[int, float]:
        learned = _learned(self.forecast)
        if not cost.requires_grad:
            return {}
        grads = torch.autograd.grad(cost, learned, retain_graph=True, allow_unused=True)
        square = max(float(cost.detach()), 1e-12) ** 2
        return {id(p): float(g.square().sum()) / square for p, g in zip(learned, grads, strict=True) if g is not None}

    def rates(self, optimiser: torch.optim.Optimizer) -> list[float]:
        """η of every budget."""
        if self.rate is not None:
            return [self.rate] * len(self.limits)
        if not isinstance(optimiser, torch.optim.SGD):
            return [_RATE] * len(self.limits)
        speed = {
            id(p): group["lr"] / (1 - group["momentum"]) for group in optimiser.param_groups for p in group["params"]
        }
        return [0.25 * self.pull**2 * sum(speed.get(p, 0.0) * s for p, s in slopes.items()) for slopes in self.slopes()]

    @torch.no_grad()
    def settle(self, used: list[float], optimiser: torch.optim.Optimizer) -> None:
        """After a step of the optimiser: the multipliers follow the share of every budget in use."""
        over = torch.tensor(used).clamp(min=1e-12).log()
        self.multipliers.add_((torch.tensor(self.rates(optimiser)) * over).to(self.multipliers)).clamp_(min=0)


def _form(
    form: Form, sent: dict[str, tuple[SpikeFormat, ...]], trains: dict[str, _Train]
) -> tuple[Tensor | float, Tensor | int]:
    """(``Σ_t b^t``, T) of a form. A bit of a train counts by its share of the range, as in ``d log2 Σ_i m_i·2^b_i``; a
    step more of the longest train brings the mean bits of the steps there are."""
    over = [form.bits(sent, t) for t in range(max(len(sent[name]) for name, _ in form.terms))]
    over = [max(over)] * form.steps if form.steps else over
    bits: Tensor | float = sum(over)
    if form.real or any(record.real for name, _ in form.terms for record in sent[name]):
        shares = dict.fromkeys((name for name, _ in form.terms), 0.0)
    else:
        ranges = {name: count * max(record.levels - 1 for record in sent[name]) for name, count in form.terms}
        shares = {name: span / sum(ranges.values()) for name, span in ranges.items()}
    for name, share in shares.items():
        width = trains[name].width if name in trains else 0
        if isinstance(width, Tensor):
            bits = bits + share * (width - width.detach())
    longest = form.terms[0][0]
    for name, _ in form.terms:
        longest = name if len(sent[name]) > len(sent[longest]) else longest
    if form.steps or longest not in trains:
        return bits, len(over)
    steps = trains[longest].steps
    return bits * (steps / trains[longest].T), steps


def _learned(forecast: Forecast) -> list[Tensor]:
    """The parameters behind the levers that are trained."""
    found: dict[int, Tensor] = {}
    for lever in forecast.levers:
        raw = (
            forecast.allocation.refined[lever.name].raw_steps
            if lever.kind == "steps"
            else forecast.part(lever).raw_bits
        )
        if raw is not None and raw.requires_grad:
            found[id(raw)] = raw
    return list(found.values())


def _width(part: Widths) -> Tensor:
    return part.width.float() if part.raw_bits is None else follow(part.width, part.raw_bits.abs())
