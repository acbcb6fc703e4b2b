"""What a network costs per sample: operations by kind, bits, bytes; one pass over the graph on real samples.

Counting rule (design): a synapse adds or subtracts where its spikes or its weights are ±1 or ternary; multi-bit
spikes against other weights shift and add once per set bit; every other pair is a multiplication. Silent neurons cost
nothing; factors that are powers of two are shifts. Zero padding is counted as if it were data, and so are zero weights.
Every rule reads formats, T and parts; none reads the class of a neuron. docs/cost.md has all formulas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, finite, integer
from bitspike.cost.bits import formats_over_time
from bitspike.cost.elements import (
    POOLS,
    amplitude_row,
    attention_row,
    neuron_row,
    pool_row,
    rectifier_row,
    scaling_row,
    squeeze_row,
    sum_row,
    windows_row,
)
from bitspike.cost.memory import Memory
from bitspike.cost.place import place
from bitspike.cost.record import Cost, LayerCost
from bitspike.cost.synapse import Train, synapse_row
from bitspike.formats import SpikeFormat
from bitspike.graph import Graph, Node, trace
from bitspike.layers import (
    Affine,
    BatchNorm,
    Encoder,
    Gain,
    Potential,
    Restimulate,
    Squeeze,
    StepReadout,
    Synapse,
    TimeLayer,
    Windows,
)
from bitspike.neurons import Neuron


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
        ValueError: NaN or inf in the samples, or an untraceable network.

    >>> from bitspike.layers import Linear; from bitspike.neurons import LIF
    >>> net = nn.Sequential(LIF(), Linear(4, 3, bias=False))
    >>> c = cost(net, torch.tensor([[[2.0, 2.0, 0.0, 0.0]]])); c.total("adds"), c.total("multiplications")
    (6.0, 0.0)
    """
    finite("cost", "the sample", x)
    integer("cost", "input_bits", input_bits, 1, 64)
    graph = net if isinstance(net, Graph) else trace(net)
    if x.dim() <= graph.batch_axis or not x.shape[graph.batch_axis]:
        must = "the samples must be [B, ...] ([T, B, ...] without encoder), B >= 1"
        raise bad_value("cost", must, list(x.shape), "pass samples to measure rates on")
    graph.check_input("cost", x)
    counter = _Counter(graph, memory or Memory(), input_bits)
    graph.run(x, handler=counter)
    counter.result.samples = x.shape[graph.batch_axis]
    place(counter.result)
    return counter.result


class _Counter:
    """Handler of the run.

    Attributes:
        scales: value of one level of every node made of spikes. records: formats of its steps (the last one for later
            ones). trains: what each neuron sent. timed: nodes whose value begins with a time axis.
    """

    def __init__(self, graph: Graph, memory: Memory, input_bits: int) -> None:
        self.graph, self.memory, self.input_bits = graph, memory, input_bits
        self.result = Cost(0, memory=memory)
        self.scales: dict[str, Tensor] = {}
        self.records: dict[str, tuple[SpikeFormat, ...]] = {}
        self.trains: dict[str, Train] = {}
        self.timed = graph.timed

    def __call__(self, node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        self._count(node, args, value)
        if node.format is not None:
            self._carry(node, node.format, args)
        return value

    def _count(self, node: Node, args: tuple[Any, ...], value: Any) -> None:
        module, layers, elements, memory = node.module, self.result.layers, self.result.elements, self.memory
        if isinstance(module, Synapse):
            layers.append(self._synapse(node, module, args[0], value))
        elif isinstance(module, (Affine, BatchNorm, Gain)):
            spiking = self.graph[node.inputs[0]].format is not None
            layers.append(scaling_row(node, module, args[0], value, spiking, memory))
        elif isinstance(module, Neuron):
            formats = formats_over_time(_records(module), len(value))
            if not (module.emission.scale() == 1).all():
                layers.append(amplitude_row(node, module, value, formats, memory))
            elements.append(neuron_row(node, module, value, formats, memory))
            self.trains[node.name] = Train(formats, elements[-1].rate)
        elif isinstance(module, Restimulate) and module.weight is not None:
            layers.append(attention_row(node, module, args[0], memory))
            self.result.uncounted.append(f"{node.name}.sigmoid")
        elif isinstance(module, POOLS):
            elements.append(pool_row(node, module, args[0], value))
        elif isinstance(module, nn.ReLU):
            elements.append(rectifier_row(node, value, node.name in self.timed))
        elif node.kind == "add" or (isinstance(module, TimeLayer) and module.scaling == "add"):
            operands = [self.records.get(name) for name in node.inputs]
            elements.append(sum_row(node, operands, value, node.name in self.timed))
        elif isinstance(module, Windows):
            if len(args[0]) != module.T:  # frames that pass cost nothing
                elements.append(windows_row(node, module, args[0]))
        elif isinstance(module, Squeeze):
            if len(args[0]) > 1 and not module.passes(len(args[0])):
                elements.append(squeeze_row(node, args[0], value))
        elif isinstance(module, TimeLayer) and _over_time(module, args[0], value):
            if len(args[0]) > 1:  # holding one step costs nothing
                elements.append(squeeze_row(node, args[0], value))
        elif node.kind == "function" or (module is not None and not _free(module)):
            self.result.uncounted.append(node.name)

    def _synapse(self, node: Node, module: Synapse, x: Tensor, y: Tensor) -> LayerCost:
        before = self.graph[node.inputs[0]]
        bits = self.input_bits if self._raw(before) else 32
        source = self.trains.get(before.sources[0]) if len(before.sources) == 1 else None
        train = source if source is not None and len(source.formats) != len(x) else None
        if before.format is None:
            return synapse_row(node, module, x, y, None, torch.ones(()), bits, self.memory, train)
        formats = formats_over_time(self.records[before.name], len(x))
        return synapse_row(node, module, x, y, formats, self.scales[before.name], bits, self.memory, train)

    def _raw(self, node: Node) -> bool:
        """Whether a node's values are those of the network's input, moved at most."""
        if node.kind == "input" or (isinstance(node.module, Encoder) and node.format is None):
            return True
        keeps = isinstance(node.module, TimeLayer) and node.module.keeps_format
        moves = keeps or isinstance(node.module, (nn.Identity, nn.Dropout))
        return moves and self._raw(self.graph[node.inputs[0]])

    def _carry(self, node: Node, spikes: SpikeFormat, args: tuple[Any, ...]) -> None:
        module = node.module
        if isinstance(module, Neuron):
            self.scales[node.name], self.records[node.name] = module.emission.scale(), _records(module)
            return
        if isinstance(module, Encoder):
            self.scales[node.name], self.records[node.name] = torch.ones((), dtype=torch.float64), (spikes,)
            return
        scale, records = self.scales[node.inputs[0]], self.records[node.inputs[0]]
        carried = module.carry(scale, tuple(args[0].shape)) if isinstance(module, TimeLayer) else scale
        changed = spikes not in records  # a layer may change the alphabet
        self.scales[node.name], self.records[node.name] = carried, (spikes,) if changed else records


def _records(neuron: Neuron) -> tuple[SpikeFormat, ...]:
    """Formats of the steps, where a neuron names them in ``formats``; else the one it has."""
    return tuple(getattr(neuron, "formats", (neuron.format,)))


def _over_time(module: TimeLayer, x: Tensor, y: Tensor) -> bool:
    """Whether a layer sums, averages or holds steps: linear, only the number of steps changes."""
    return module.scaling == "linear" and x.shape[1:] == y.shape[1:] and len(x) != len(y)


def _free(module: nn.Module) -> bool:
    """Whether a layer without a rule moves values and computes nothing; encoders are left out by rule."""
    moves = isinstance(module, TimeLayer) and module.keeps_format
    return moves or isinstance(module, (Encoder, Potential, StepReadout, nn.Identity, nn.Dropout))
