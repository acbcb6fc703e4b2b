"""The most bytes that activations take up at one moment, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.checks import integer
from bitspike.cost.elements import states_of
from bitspike.formats import formats_over_time
from bitspike.graph import Edges, Graph, Node, trace
from bitspike.layers import (
    Encoder,
    MatrixProduct,
    MaxPool2d,
    Restimulate,
    Synapse,
    TallyMaxPool2d,
    TallyPool,
    TimeLayer,
)
from bitspike.neurons import Neuron
from bitspike.upgrade.norms import measures

_READS_ALL = (Synapse, MatrixProduct, MaxPool2d, TallyMaxPool2d, TallyPool, Restimulate)


@dataclass(frozen=True)
class Moment:
    """While a node writes its value.

    Attributes:
        node: its name. trains: neuron → spikes of one step, of the trains in memory. other_bits: real values in memory.
        neurons: numbers kept from step to step there, a membrane a neuron and what `Neuron.extra_cost` adds; 0 where
            the node is no neuron.
    """

    node: str
    trains: dict[str, int]
    other_bits: int
    neurons: int


@dataclass
class Activations:
    """When what is in memory, per sample.

    Attributes:
        moments: in order. time_bits: neuron → ``Σ_t b_s^t``. steps: neuron → T. membrane_bits: of one membrane.
    """

    membrane_bits: int
    moments: list[Moment] = field(default_factory=list)
    time_bits: dict[str, int] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)

    def bits(
        self, moment: Moment, time_bits: Mapping[str, int] | None = None, steps: Mapping[str, int] | None = None
    ) -> int:
        """Bits in memory at a moment, for these trains or other ones."""
        widths, times = self.time_bits if time_bits is None else time_bits, self.steps if steps is None else steps
        membranes = moment.neurons * self.membrane_bits if times.get(moment.node, 1) > 1 else 0
        return moment.other_bits + membranes + sum(n * widths[name] for name, n in moment.trains.items())

    @property
    def peak_bytes(self) -> float:
        """The most of all moments."""
        return max((self.bits(moment) for moment in self.moments), default=0) / 8


@torch.no_grad()
def activations(net: nn.Module | Graph, x: Tensor, membrane_bits: int = 32, input_bits: int = 32) -> Activations:
    """What is in memory while a network runs one sample, layer by layer with all time steps of a layer (as `Memory`).

        peak = max over writes of  Σ n·Σ_t b_s^t (trains) + 32 bits a real value + n·membrane_bits (the neurons, T > 1)

    Sums, means, slices and concatenations of spikes are formed where they are read, as all is that no synapse is in.
    In memory are the input, spike trains (at their stored bits), the output, and real values between a synapse and the
    next neuron where two layers read them, or one that reads more than it needs for one value (synapse, pool,
    attention, a norm that measures). All else is formed where it is read. A value stays until its last reader has
    written. Weights and working registers do not count.

    Args:
        net: network in evaluation mode, or its graph. x: inputs [B, ...]. membrane_bits: of one membrane.
        input_bits: stored bits of one value of the input.

    >>> from bitspike.layers import Linear; from bitspike.neurons import LIF
    >>> net = nn.Sequential(Linear(4, 8), LIF(), Linear(8, 2))
    >>> activations(net, torch.zeros(3, 1, 4)).peak_bytes  # 3·4 inputs, 3 steps of 8 spikes and 8 membranes
    83.0
    """
    integer("activations", "membrane_bits", membrane_bits, 1, 64)
    integer("activations", "input_bits", input_bits, 1, 64)
    graph = net if isinstance(net, Graph) else trace(net)
    found = Activations(membrane_bits)
    plan = _Plan(graph, found, x)
    for node in graph.of_kind("input"):
        plan.store(node, other_bits=x.numel() // plan.samples * input_bits)
    graph.run(x, handler=plan)
    plan.finish()
    return found


class _Plan:
    """Handler of the run: which values are stored, from which write to which."""

    def __init__(self, graph: Graph, found: Activations, x: Tensor) -> None:
        self.graph, self.found, self.samples = graph, found, x.shape[graph.batch_axis]
        self.edges = Edges(graph, x)
        self.carries: dict[str, set[str]] = {}  # node → stored values that it is formed from
        self.current: set[str] = set()  # nodes with a synapse or a sum since the last stored value
        self.order: list[str] = []
        self.last: dict[str, int] = {}
        self.size: dict[str, tuple[str | None, int]] = {}  # stored value → (its neuron, spikes a step) or (None, bits)
        self.neurons: dict[str, int] = {}

    def __call__(self, node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        spikes = self.edges.note(node, value)
        if node.kind in ("split", "select", "concat") and not isinstance(value, Tensor):
            self.carries[node.name] = self._reads(node)
            return value
        module, values = node.module, value.numel() // self.samples
        if isinstance(module, Neuron):
            steps = len(value)
            formats = formats_over_time(getattr(module, "formats", (module.format,)), steps)
            self.found.time_bits[node.name], self.found.steps[node.name] = sum(f.bits for f in formats), steps
            states = states_of(module, args[0]) or 1
            self.store(node, neuron=node.name, spikes=values // steps)
            self.neurons[node.name] *= states
        elif isinstance(module, Encoder) and node.format is not None:
            self.store(node, other_bits=values * node.format.bits)
        else:
            self.carries[node.name] = self._reads(node)
            adds = isinstance(module, TimeLayer) and module.scaling == "add"
            whole = spikes is not None and spikes.whole
            behind = isinstance(module, (Synapse, MatrixProduct)) or (
                (adds or node.kind in ("add", "function")) and not whole
            )
            if behind or any(name in self.current for name in node.inputs):
                self.current.add(node.name)
                if self._waits(node):
                    self.store(node, other_bits=32 * values)
        return value

    def _reads(self, node: Node) -> set[str]:
        return set().union(*(self.carries[name] for name in node.inputs))

    def _waits(self, node: Node) -> bool:
        readers = [self.graph[name] for name in node.consumers]
        whole = any(_reads_all(reader.module) or reader.kind == "output" for reader in readers)
        return whole or len(readers) > 1

    def store(self, node: Node, neuron: str | None = None, spikes: int = 0, other_bits: int = 0) -> None:
        """Note a stored value, and that what it is formed from was in memory until now."""
        place = len(self.order)
        self.order.append(node.name)
        for name in self._reads(node):
            self.last[name] = place
        self.last[node.name] = place
        self.carries[node.name] = {node.name}
        self.current.discard(node.name)
        self.size[node.name] = (neuron, spikes if neuron else other_bits)
        self.neurons[node.name] = spikes

    def finish(self) -> None:
        """The moments."""
        for place, name in enumerate(self.order):
            alive = [other for other in self.order[: place + 1] if self.last[other] >= place]
            trains = {other: size for other in alive for neuron, size in [self.size[other]] if neuron}
            other_bits = sum(size for other in alive for neuron, size in [self.size[other]] if not neuron)
            self.found.moments.append(Moment(name, trains, other_bits, self.neurons[name]))


def _reads_all(module: nn.Module | None) -> bool:
    """Whether a layer reads more than one value for one of its own."""
    pools = isinstance(module, TimeLayer) and module.pooled(None) is not None
    return isinstance(module, _READS_ALL) or pools or bool(measures(module))
