"""The exact cost of every allocation of bits and time steps, from one count of the network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bitspike.allocation.repair import State
from bitspike.allocation.widths import Allocation
from bitspike.checks import bad_value
from bitspike.cost import SCOPES, Activations, Cost, LayerCost, activations, bit_budget, cost
from bitspike.cost.synapse import put_widths
from bitspike.fold.folding import fold
from bitspike.formats import SpikeFormat, formats_over_time, multiplied_over_time
from bitspike.functional import Widths
from bitspike.graph import Form, Graph, trace
from bitspike.graph.graph import Edges
from bitspike.graph.meeting import meeting, pair_of
from bitspike.layers import PairProduct, Product, Refined

if TYPE_CHECKING:
    from bitspike.allocation.latency import Latency

_SAMPLES = 2


@dataclass(frozen=True)
class Lever:
    """A learned whole number: the bits of the weights or spikes (at one time step) of a module, or T of a refined one.

    Attributes:
        kind: "weights", "spikes" or "steps". name: module. row: time step of spike bits. low, high: bounds.
    """

    kind: str
    name: str
    row: int
    low: int
    high: int


@dataclass(frozen=True)
class Site:
    """A synapse: its row as counted, its quantizer, and what it reads: (inputs, form) of every part of spikes."""

    row: LayerCost
    weights: str | None
    forms: tuple[tuple[int, Form], ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """Neurons and encoders whose trains it reads, in order."""
        return tuple(sorted({name for _, form in self.forms for name, _ in form.terms}))


class Forecast:
    """Cost of a network with other bits and T: rows of `cost` with other widths, summed by the formulas of `Cost`.

    Counted is the folded network of `generic`, so that values of factors change nothing. Factors that folding leaves
    out where T is 1 are counted for every T: the size may be a few bytes less than forecast, all else is exact.

    Args:
        allocation: of the network. x: a few samples. scope: of ace metrics and bit budget. input_bits: of the input.
        rates: synapse (node name) → rate, for NS-ACE; else 1.
    """

    def __init__(
        self,
        allocation: Allocation,
        x: Tensor,
        scope: str = "all",
        input_bits: int = 32,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        self.allocation: Allocation = allocation
        self.without: tuple[str, ...] = SCOPES[scope]
        self.input_bits: int = input_bits
        x = x[:_SAMPLES].cpu()  # folding, whose float32 checks a GPU may fail, and counting happen on the CPU
        graph = fold(generic(allocation.model).cpu(), x).graph
        self.counted: Cost = cost(graph, x, input_bits=input_bits)
        self.memory: Activations = activations(graph, x, input_bits=input_bits)
        # folding renames modules
        self.paths: dict[str, str] = {node.name: node.path for node in trace(allocation.model)}
        self.levers: list[Lever] = _levers(allocation)
        self.place: dict[tuple[str, str, int], int] = {
            (lever.kind, lever.name, lever.row): i for i, lever in enumerate(self.levers)
        }
        self.rates: dict[str, float] = dict(rates or {})
        self.neurons: dict[str, LayerCost] = {row.name: row for row in self.counted.elements if row.kind == "neuron"}
        names = {id(m): name for name, m in allocation.model.named_modules()}
        self.holders: dict[str, str] = {names[id(m.neuron)]: name for name, m in allocation.refined.items()}
        self.edges: Edges = graph.edges(x)
        self.sites: list[Site] = [self._site(graph, row) for row in self.counted.synapses]
        self.fixed_bits: int = int(self.counted.total("size_bits")) - sum(site.row.size_bits for site in self.sites)
        self._rows: dict[tuple[int, int, tuple[tuple[SpikeFormat, ...], ...]], LayerCost] = {}
        self._bits: dict[tuple[str, str, int], int] = {}
        self._formats: dict[tuple[str, int], SpikeFormat] = {}
        self.latency: Latency | None = None
        """What "latency" is; None until its times are known."""

    def _site(self, graph: Graph, row: LayerCost) -> Site:
        path = self.paths[row.name]
        weights = path if ("weights", path, 0) in self.place else None
        spikes = self.edges.spikes[graph[row.name].inputs[0]]
        if spikes is None:
            return Site(row, weights, ())
        forms = [form for form, _ in spikes.parts]
        return Site(row, weights, tuple(zip(spikes.counts(row.inputs), forms, strict=True)))

    @property
    def state(self) -> State:
        """The widths and T in use."""
        found = []
        for lever in self.levers:
            if lever.kind == "steps":
                found.append(self.allocation.refined[lever.name].time_steps)
            else:
                found.append(int(self.part(lever).width.reshape(-1)[lever.row]))
        return tuple(found)

    def part(self, lever: Lever) -> Widths:
        """The quantizer or neuron of a lever."""
        allocation = self.allocation
        return allocation.weights[lever.name][1] if lever.kind == "weights" else allocation.spikes[lever.name]

    def weight_bits(self, site: Site, state: State) -> int:
        """Stored bits of the weights of a synapse."""
        if site.weights is None:
            return site.row.weight_bits
        return self._stored("weights", site.weights, state[self.place["weights", site.weights, 0]])

    def _stored(self, kind: str, name: str, width: int) -> int:
        """Stored bits of a width."""
        key = (kind, name, width)
        if key not in self._bits:
            quantizer = self.allocation.weights[name][1]
            low, high, stride = quantizer.levels(width)
            self._bits[key] = replace(quantizer.format, low=low, high=high, stride=stride).bits
        return self._bits[key]

    def _format(self, name: str, width: int) -> SpikeFormat:
        """Alphabet of the spikes of a width."""
        if (name, width) not in self._formats:
            neuron = self.allocation.spikes[name]
            low, high, _ = neuron.levels(width)
            unary = high if neuron.format.unary else 0
            self._formats[name, width] = replace(neuron.format, low=low, high=high, unary=unary)
        return self._formats[name, width]

    def formats(self, node: str, state: State) -> tuple[SpikeFormat, ...]:
        """Alphabets of what a neuron or encoder (node name) sends at each of its steps."""
        path = self.paths.get(node, "")
        if node not in self.neurons:
            return self.of_product(node, lambda name: self.formats(name, state)) or self.edges.sent[node]
        T = self.steps(node, state)
        if ("spikes", path, 0) not in self.place:
            return formats_over_time(self.edges.sent[node], T)
        last = self.allocation.spikes[path].width.numel() - 1
        return tuple(self._format(path, state[self.place["spikes", path, min(t, last)]]) for t in range(T))

    def of_product(self, train: str, sent: Callable[[str], tuple[SpikeFormat, ...]]) -> tuple[SpikeFormat, ...] | None:
        """Alphabets of a product of spikes (name of its train), given those of trains; None where they are those
        measured."""
        node, pair = pair_of(train)
        graph = self.edges.graph
        module, names = graph[node].module, [str(n) for n in graph.items[node].args]
        both = [self.edges.spikes[name] for name in names] if isinstance(module, PairProduct) else []
        met = meeting([None if one is None else one.channels for one in both]) if both else None
        if not isinstance(module, PairProduct) or met is None:
            return None
        given = []
        for spikes, part in zip(both, met[0][pair], strict=True):
            form, formats = spikes.parts[part] if spikes is not None else (None, None)
            if form is None or formats is None:
                return None
            now = form.formats(self.edges.sent)
            if formats_over_time(formats, len(now)) != now:
                return None
            given.append(form.formats({term: sent(term) for term, _ in form.terms}))
        a, b = given
        count = module.summands(*(self.edges.shapes.get(name) for name in names))
        return multiplied_over_time(a, b, count, names[0] == names[1] and isinstance(module, Product))

    def train(self, node: str, state: State) -> tuple[int, ...]:
        """Bits of the spikes of a neuron (node name) at each of its steps."""
        return tuple(record.bits for record in self.formats(node, state))

    def steps(self, node: str, state: State) -> int:
        """T of a neuron (node name)."""
        place = self.place.get(("steps", self.holders.get(self.paths[node], ""), 0))
        return self.neurons[node].T if place is None else state[place]

    def measured(self, rates: Mapping[str, float]) -> None:
        """From now on these are the rates."""
        self.rates = dict(rates)
        self._rows.clear()

    def rows(self, state: State) -> list[LayerCost]:
        """The rows of the synapses."""
        sent = {name: self.formats(name, state) for name in {name for site in self.sites for name in site.sources}}
        return [self._row(index, site, self.weight_bits(site, state), sent) for index, site in enumerate(self.sites)]

    def _row(self, index: int, site: Site, bits: int, sent: Mapping[str, tuple[SpikeFormat, ...]]) -> LayerCost:
        key = (index, bits, tuple(sent[name] for name in site.sources))
        if key not in self._rows:
            old = site.row
            row = replace(old, weight_bits=bits, size_bits=old.size_bits + old.weights * (bits - old.weight_bits))
            if site.forms:
                over = [(count, tuple(r.bits for r in form.formats(sent))) for count, form in site.forms]
                put_widths(row, over)
                row.part_rates = row.part_rates if row.parts else ()
                row.train_steps = 0 if len(row.step_bits) == old.T else len(row.step_bits)
            if old.name in self.rates:
                row.rate = row.spike_rate = self.rates[old.name]
                row.part_rates = ()
            self._rows[key] = row
        return self._rows[key]

    def size_bits(self, state: State) -> int:
        """Weights as packed, with scales, biases and affine maps."""
        return self.fixed_bits + sum(row.size_bits for row in self.rows(state))

    def moments(self, state: State) -> list[int]:
        """Bits in memory at every moment of `activations`."""
        steps = {name: self.steps(name, state) for name in self.memory.steps}
        widths = {name: sum(self.train(name, state)) for name in self.memory.time_bits}
        return [self.memory.bits(moment, widths, steps) for moment in self.memory.moments]

    def values(self, names: list[str], state: State) -> dict[str, list[float]]:
        """Figures of budgets; of "activations" one per moment, the greatest of which counts."""
        counted = Cost(1, list(self.rows(state)))
        return {name: figure(name, counted, self, state) for name in names}


def figure(name: str, counted: Cost, forecast: Forecast, state: State) -> list[float]:
    """One figure of a forecast."""
    if name == "size":
        return [forecast.size_bits(state) / 8]
    if name == "activations":
        return [bits / 8 for bits in forecast.moments(state)]
    if name == "latency":
        if forecast.latency is None:
            raise bad_value("Forecast", "latency needs a table of times", "none", "set Forecast.latency")
        return [forecast.latency(state)]
    return [ace_figure(name, counted, forecast.without)]


def ace_figure(name: str, counted: Cost, without: tuple[str, ...]) -> float:
    """Bit budget, S-ACE or NS-ACE of the synapses counted, leaving out roles."""
    if name == "bit-budget":
        return bit_budget(counted, without)["bit_budget"]
    return counted.total(name.replace("-", "_"), without)


def exact(name: str, counted: Cost, memory: Activations, scope: str) -> float:
    """A figure as counted on a network, not forecast."""
    if name == "size":
        return counted.size_bytes
    return memory.peak_bytes if name == "activations" else ace_figure(name, counted, SCOPES[scope])


def _levers(allocation: Allocation) -> list[Lever]:
    found = []
    for name, (_, part) in allocation.weights.items():
        if part.raw_bits is not None:
            found.append(Lever("weights", name, 0, part.least_bits, part.bound))
    for name, neuron in allocation.spikes.items():
        if neuron.raw_bits is not None:
            rows = range(neuron.width.numel())
            found += [Lever("spikes", name, row, neuron.least_bits, neuron.bound) for row in rows]
    for name, refined in allocation.refined.items():
        if refined.raw_steps is not None:
            found.append(Lever("steps", name, 0, 1, refined.bound))
    return found


@torch.no_grad()
def generic(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose trained factors and statistics are no special values, such as 1 or 0, T neither.

    A factor of exactly 1 is left out of a folded network; a trained one never is 1 by chance.
    """
    twin = copy.deepcopy(model).eval()
    generator = torch.Generator().manual_seed(0)
    for name, value in [*twin.named_parameters(), *twin.named_buffers()]:
        statistic = "running" in name or isinstance(value, nn.Parameter)
        if statistic and value.is_floating_point() and not name.endswith(("raw_bits", "raw_steps")):
            noise = torch.rand(value.shape, generator=generator).to(value)
            value.mul_(1 + 0.1 * noise).add_(1e-3 * noise)
    for module in twin.modules():
        if isinstance(module, Refined) and module.raw_steps is not None:
            module.set_steps(module.bound)
    return twin
