"""What a network costs per sample: operations by kind, bits, bytes; one pass over the graph on real samples.

Counting rule (design): a synapse adds or subtracts where its spikes or its weights are ±1 or ternary; multi-bit
spikes against other weights shift and add once per set bit; every other pair is a multiplication. Silent neurons cost
nothing; factors that are powers of two are shifts. Zero padding is counted as if it were data, and so are zero weights.
Every rule reads formats, T and parts; none reads the class of a neuron. docs/cost.md has all formulas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitspike.checks import bad_value, finite, integer
from bitspike.cost.elements import (
    POOLS,
    amplitude_row,
    attention_row,
    averages_row,
    neuron_row,
    pool_row,
    rectifier_row,
    scaling_row,
    squeeze_row,
    states_of,
    sum_row,
    windows_row,
)
from bitspike.cost.memory import Memory
from bitspike.cost.norms import constant_row, measured_row
from bitspike.cost.place import place
from bitspike.cost.products import product_row
from bitspike.cost.record import Cost, LayerCost
from bitspike.cost.synapse import Train, synapse_row
from bitspike.formats import SpikeFormat, formats_over_time, union
from bitspike.graph import Edges, Graph, Node, roles, trace, unseen
from bitspike.layers import (
    Affine,
    BatchNorm,
    Encoder,
    Gain,
    PairProduct,
    Potential,
    Recurrent,
    Restimulate,
    Squeeze,
    StepReadout,
    Synapse,
    TimeLayer,
    Windows,
    check_numbers,
)
from bitspike.layers.base import changed_by
from bitspike.neurons import Neuron
from bitspike.upgrade.norms import constants, is_constant, measured, measures

_FED_BACK = ("before", "synapse", "behind")


@torch.no_grad()
def cost(net: nn.Module | Graph, x: Tensor, memory: Memory | None = None, input_bits: int = 32) -> Cost:
    """Measure a network on samples.

    Args:
        net: network in evaluation mode, or its graph; count the *folded* one for deployment. x: inputs [B, ...].
        memory: hierarchy that bytes are counted for, default `Memory()`.
        input_bits: stored bits of one value of the network's input, where no encoder turns it into spikes.

    Returns:
        `Cost` per sample (means over the B samples).

    Raises:
        ValueError: NaN or inf in the samples or the weights, or an untraceable network.

    >>> from bitspike.layers import Linear; from bitspike.neurons import LIF
    >>> net = nn.Sequential(LIF(), Linear(4, 3, bias=False))
    >>> c = cost(net, torch.tensor([[[2.0, 2.0, 0.0, 0.0]]])); c.total("adds"), c.total("multiplications")
    (6.0, 0.0)
    """
    finite("cost", "the sample", x)
    integer("cost", "input_bits", input_bits, 1, 64)
    graph = net if isinstance(net, Graph) else trace(net)
    check_numbers("cost", graph.model)
    if x.dim() <= graph.batch_axis or not x.shape[graph.batch_axis]:
        must = "the samples must be [B, ...] ([T, B, ...] without encoder), B >= 1"
        raise bad_value("cost", must, list(x.shape), "pass samples to measure rates on")
    graph.check_input("cost", x)
    counter = _Counter(graph, x, memory or Memory(), input_bits)
    counter.result.uncounted += unseen(graph, is_constant)
    graph.run(x, handler=counter)
    counter.result.samples = x.shape[graph.batch_axis]
    place(counter.result)
    return counter.result


class _Counter:
    """Handler of the run.

    Attributes:
        edges: what every edge carries. trains: node → its spikes at all steps of their trains, where its value is a sum
            or mean over time. timed: nodes whose value begins with a time axis. roles: node → role of a synapse.
    """

    def __init__(self, graph: Graph, x: Tensor, memory: Memory, input_bits: int) -> None:
        self.graph, self.memory, self.input_bits = graph, memory, input_bits
        self.result = Cost(0, memory=memory)
        self.edges = Edges(graph, x)
        self.trains: dict[str, Any] = {}
        self.left = {node.name: len(node.consumers) for node in graph}
        self.timed = graph.timed
        self.roles = roles(graph)
        self.seen: list[tuple[str, str, nn.Module]] = []

    def __call__(self, node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        before = len(self.result.layers)
        self._count(node, args, value)
        self._once(node, self.result.layers[before:])
        if self.edges.note(node, value) is not None:
            self._keep_train(node, args, value)
        for name in node.inputs:
            self.left[name] -= 1
            if not self.left[name]:
                self.trains.pop(name, None)
        return value

    def _count(self, node: Node, args: tuple[Any, ...], value: Any) -> None:
        module, layers, elements, memory = node.module, self.result.layers, self.result.elements, self.memory
        if isinstance(module, Synapse):
            layers.append(self._synapse(node, module, args[0], value))
        elif isinstance(module, (Affine, BatchNorm, Gain)):
            layers.append(scaling_row(node, module, args[0], value, self._spiking(node.inputs[0]), memory))
        elif isinstance(module, Neuron):
            formats = formats_over_time(tuple(getattr(module, "formats", (module.format,))), len(value))
            if not (module.emission.scale() == 1).all():
                layers.append(amplitude_row(node, module, value, formats, memory))
            elements.append(neuron_row(node, module, value, formats, memory))
            if isinstance(module, Recurrent):
                layers.extend(self._recurrent(node, module, value))
            if len(value) > 1 and states_of(module, args[0]) is None:
                self.result.uncounted.append(f"{node.name}.state")
        elif isinstance(module, Restimulate) and module.weight is not None:
            layers.append(attention_row(node, module, args[0], memory))
            self.result.uncounted.append(f"{node.name}.sigmoid")
        elif isinstance(module, PairProduct):
            both = [self.edges.spikes.get(str(n)) for n in self.graph.items[node.name].args]
            layers.append(product_row(node, module, args, both))
        elif isinstance(module, POOLS):
            elements.append(pool_row(node, module, args[0], value))
        elif isinstance(module, TimeLayer) and (found := module.pool_windows(tuple(args[0].shape))) is not None:
            elements.append(averages_row(node, *found, args[0], value))
        elif measures(module) and (norm := measured(module, tuple(args[0].shape))) is not None:
            layers.append(measured_row(node, norm, args[0], memory))
        elif (known := constants(module)) is not None:
            layers.append(constant_row(node, sum(p.numel() for p in known[2]) + 2 * len(known[0]), args[0], memory))
        elif isinstance(module, nn.ReLU):
            elements.append(rectifier_row(node, value, node.name in self.timed))
        elif node.kind == "add" or (isinstance(module, TimeLayer) and module.scaling == "add"):
            elements.append(sum_row(node, self._operands(node, value), value, node.name in self.timed))
        elif isinstance(module, Windows):
            if len(args[0]) != module.T or module.factor(module.T) != 1:  # frames that pass cost nothing
                elements.append(windows_row(node, module, args[0]))
        elif isinstance(module, Squeeze):
            if (len(args[0]) > 1 or module.divisor(1) != 1) and not module.passes(len(args[0])):
                elements.append(squeeze_row(node, args[0], value))
        elif isinstance(module, TimeLayer) and _over_time(module, args[0], value):
            if len(args[0]) > 1:  # holding one step costs nothing
                elements.append(squeeze_row(node, args[0], value))
        elif node.kind == "function" or (module is not None and not _free(module)):
            self.result.uncounted.append(_named(node))

    def _spiking(self, name: str) -> bool:
        spikes = self.edges.spikes.get(name)
        return spikes is not None and spikes.whole

    def _operands(self, node: Node, value: Tensor) -> list[tuple[SpikeFormat, ...] | None]:
        found: list[tuple[SpikeFormat, ...] | None] = []
        for name in node.inputs:
            spikes = self.edges.spikes.get(name)
            over = [given for _, given in spikes.parts] if spikes is not None and spikes.whole else []
            length = max((len(given) for given in over if given), default=0)
            steps = [union([formats_over_time(given or (), length)[t] for given in over]) for t in range(length)]
            found.append(None if not steps or None in steps else tuple(f for f in steps if f is not None))
        return found

    def _synapse(self, node: Node, module: Synapse, x: Tensor, y: Tensor) -> LayerCost:
        before = self.graph[node.inputs[0]]
        bits = self._raw_bits(before)
        spikes = self.edges.spikes.get(before.name)
        train = None
        if spikes is not None:
            train = Train(spikes.trains(self.edges.sent), self.trains.get(before.name))
        return synapse_row(node, module, x, y, spikes, bits, self.memory, train, self.roles.get(node.name))

    def _recurrent(self, node: Node, module: Recurrent, s: Tensor) -> list[LayerCost]:
        """The synapse that spikes of the step before pass, what folding put around it, and the addition of its current.

        At the first step nothing was sent.
        """
        sent = torch.cat([torch.zeros_like(s[:1]), s[:-1]])
        spikes, rows = self.edges.note(node, s), []
        own = {name: replace(node, name=f"{node.name}.{name}", path=f"{node.path}.{name}") for name in _FED_BACK}
        if isinstance(module.before, Gain):
            rows.append(scaling_row(own["before"], module.before, sent, sent, True, self.memory))
        currents = module.synapse(module.before(sent))
        role = module.synapse.role
        rows.append(synapse_row(own["synapse"], module.synapse, sent, currents, spikes, 32, self.memory, None, role))
        summed = float(s[1:].numel()) / s.shape[1]
        rows[-1].adds += summed
        rows[-1].fixed_adds += summed
        if isinstance(module.behind, Affine):
            behind = scaling_row(own["behind"], module.behind, currents, currents, False, self.memory)
            rows.append(behind)
        return rows

    def _keep_train(self, node: Node, args: tuple[Any, ...], value: Any) -> None:
        """The spikes at all steps of their trains, behind a sum or mean over time and what follows."""
        module = node.module
        if isinstance(module, (Neuron, Encoder, PairProduct, Windows)):  # their frames are the steps
            return
        given = self.graph.given(node.name, args)
        held = {name: self.trains.get(name, x) for name, x in given.items()}
        counts = {len(x) for x in held.values() if isinstance(x, Tensor)}
        alone = next(iter(given.values()))
        if isinstance(module, Squeeze) or (
            len(given) == 1 and isinstance(module, TimeLayer) and _over_time(module, alone, value)
        ):
            train = next(iter(held.values()))
        elif len(counts) > 1 or self.trains.keys() & held.keys():
            longest = max(counts, default=0)
            train = self.graph.again(node.name, {name: _longer(x, longest) for name, x in held.items()})
        else:
            return
        if not isinstance(train, Tensor) or len(train) != len(value):
            self.trains[node.name] = train

    def _once(self, node: Node, rows: list[LayerCost]) -> None:
        """A module that is called again brings no new numbers, unless folding has made other ones of it."""
        module = node.module
        if not rows or module is None:
            return
        origin = getattr(module, "origin", "")
        for kind, name, other in self.seen:
            if other is module or (origin and name == origin and kind == rows[0].kind and _same(module, other)):
                for row in rows:
                    row.parameters = row.weights = row.size_bits = 0
                return
        self.seen.append((rows[0].kind, origin, module))

    def _raw_bits(self, node: Node) -> int:
        """Bits of values that are those of the network's input, moved or added up by pools; 32 of all others."""
        if node.kind == "input" or (isinstance(node.module, Encoder) and node.format is None):
            return self.input_bits
        module = node.module
        if (isinstance(module, TimeLayer) and module.keeps_format) or isinstance(module, (nn.Identity, nn.Dropout)):
            return self._raw_bits(self.graph[node.inputs[0]])
        if node.kind in ("split", "select"):
            return self._raw_bits(self.graph[node.inputs[0]])
        pooled = module.pooled(self.edges.shapes.get(node.inputs[0])) if isinstance(module, TimeLayer) else None
        bits = self._raw_bits(self.graph[node.inputs[0]]) if pooled is not None else 32
        return 32 if pooled is None else min((pooled[0] * (2**bits - 1)).bit_length(), 32)


def _longer(x: Any, steps: int) -> Any:
    """Spikes [T, B, ...] and silence up to so many steps."""
    if not isinstance(x, Tensor) or len(x) == steps:
        return x
    return torch.cat([x, x.new_zeros(steps - len(x), *x.shape[1:])])


def _same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules hold equal numbers."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(value, second[key]) for key, value in first.items())


def _named(node: Node) -> str:
    """The node; where it stands for modules of the user's inside a layer, those as well, and what changes weights."""
    if node.module is not None and (changes := changed_by(*node.module.modules())):
        return f"{node.name} ({changes})"
    for module in node.module.modules() if node.module is not None else ():
        if isinstance(module, fx.GraphModule):
            inner = [n for n in module.graph.nodes if n.op == "call_module"]
            names = [f"{n.target}: {type(module.get_submodule(str(n.target))).__name__}" for n in inner]
            if names:
                return f"{node.name} ({', '.join(names)})"
    return node.name


def _over_time(module: TimeLayer, x: Any, y: Any) -> bool:
    """Whether a layer sums, averages or holds steps: linear, only the number of steps changes."""
    return isinstance(x, Tensor) and module.scaling == "linear" and x.shape[1:] == y.shape[1:] and len(x) != len(y)


def _free(module: nn.Module) -> bool:
    """Whether a layer without a rule moves values and computes nothing; encoders are left out by rule."""
    moves = isinstance(module, TimeLayer) and module.keeps_format
    return moves or isinstance(module, (Encoder, Potential, StepReadout, nn.Identity, nn.Dropout))
