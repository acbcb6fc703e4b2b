"""The one traced graph of a network, which fold, cost, observe, convert, lower and stream all read.

Neurons, layers over time and torch's own modules are leaves; containers are traced through. Every call site is a
node of its own, so a module used twice is two nodes.
"""

from __future__ import annotations

import operator
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitspike.checks import bad_value
from bitspike.formats import SpikeFormat
from bitspike.layers import Encoder, Gain, Join, MeanReadout, Squeeze, SumPool2d, Synapse, TimeLayer, Windows
from bitspike.layers.encoders.base import check_intensities
from bitspike.neurons import Neuron

Handler = Callable[["Node", Callable[[], Any], tuple[Any, ...]], Any]


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        super().__init__()
        self.path: list[str] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (Neuron, TimeLayer)) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        self.path.append(self.path_of_module(m))
        result = super().call_module(m, forward, args, kwargs)
        self.path.pop()
        return result


@dataclass(frozen=True)
class Node:
    """One call site.

    Attributes:
        name: unique in the graph. path: the module's name in the network ("" where there is none).
        module: the module called, or None for the input, the output and plain functions.
        kind: "input", "output", "neuron", "synapse", "layer" (any other module), "add" or "function".
        inputs: names of the nodes it reads. consumers: names of the nodes that read it.
        T: time steps of its output; 0 where a sample has no time axis (before an encoder, after a mean read-out).
        format: alphabet of its output where it is made of spikes unchanged, else None (real-valued).
        sources: names of the neurons whose spikes reach it through pools and flattening alone.
    """

    name: str
    path: str
    module: nn.Module | None
    kind: str
    inputs: tuple[str, ...]
    consumers: tuple[str, ...]
    T: int
    format: SpikeFormat | None
    sources: tuple[str, ...]


class Graph:
    """Nodes in execution order, and one interpreter for all passes."""

    def __init__(self, model: nn.Module, traced: fx.Graph) -> None:
        self.model = model
        self.fx = traced
        self._nodes: dict[str, Node] = {}
        for item in traced.nodes:
            self._nodes[item.name] = self._describe(item)

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    @property
    def batch_axis(self) -> int:
        """Axis of the batch in the network's input: 0 for samples, 1 for sequences (a network without encoder)."""
        return 0 if any(isinstance(node.module, Encoder) for node in self) else 1

    @property
    def timed(self) -> frozenset[str]:
        """Names of the nodes whose value begins with a time axis, [T, B, ...]."""
        found: set[str] = set()
        for node in self:
            starts = isinstance(node.module, Encoder) or (node.kind == "input" and self.batch_axis == 1)
            if starts or (not isinstance(node.module, MeanReadout) and found.intersection(node.inputs)):
                found.add(node.name)
        return frozenset(found)

    def check_input(self, where: str, x: Tensor) -> None:
        """Raise `ValueError` unless an input lies in the range that the encoders which take it read."""
        takers = (node for node in self if any(self[name].kind == "input" for name in node.inputs))
        if any(isinstance(node.module, Encoder) and node.module.intensities for node in takers):
            check_intensities(where, x)

    def of_kind(self, kind: str) -> list[Node]:
        """The nodes of one kind, in order."""
        return [node for node in self if node.kind == kind]

    def run(self, *inputs: Tensor, handler: Handler | None = None) -> Any:
        """Execute the graph.

        Args:
            inputs: what the network takes.
            handler: called for every module and function as ``handler(node, call, args)``; what it returns becomes
                the node's value, ``call()`` computes the ordinary one.
        """
        return _Interpreter(self, handler).run(*inputs)

    def showing(self, names: Sequence[str]) -> fx.GraphModule:
        """The network as a module that returns (its output, [the values of these nodes]); all layers are shared.

        Unlike `run` it is plain code, which `torch.compile` takes in one graph.
        """
        copied = fx.Graph()
        values: dict[fx.Node, Any] = {}
        output = copied.graph_copy(self.fx, values)
        found = {old.name: new for old, new in values.items()}
        copied.output((output, [found[name] for name in names]))
        return fx.GraphModule(self.model, copied)

    def _describe(self, item: fx.Node) -> Node:
        inputs = tuple(n.name for n in item.all_input_nodes)
        module = self.model.get_submodule(str(item.target)) if item.op == "call_module" else None
        before = [self._nodes[name] for name in inputs]
        steps = max((node.T for node in before), default=0)
        spikes: SpikeFormat | None = None
        sources: tuple[str, ...] = ()
        if isinstance(module, Neuron):
            kind, spikes, sources = "neuron", module.format, (item.name,)
        elif isinstance(module, Synapse):
            kind = "synapse"
        elif module is not None:
            kind = "layer"
            if isinstance(module, (nn.Identity, nn.Dropout)):
                spikes, sources = before[0].format, before[0].sources
            elif isinstance(module, Encoder):
                steps, spikes = module.T, module.format
            elif isinstance(module, MeanReadout):
                steps = 0
            elif isinstance(module, Join):
                steps = module.steps([node.T for node in before])
            elif isinstance(module, (Gain, SumPool2d)):
                spikes, sources = module.format_of(before[0].format), before[0].sources
            elif isinstance(module, Squeeze):
                spikes = module.format_of(before[0].format, steps)
                steps, sources = module.T, before[0].sources
            elif isinstance(module, Windows):
                frames = module.frames or steps
                spikes = module.format_of(before[0].format, frames)
                sources = before[0].sources if frames and module.divisor(frames) == 1 else ()
                steps = module.T
            elif isinstance(module, TimeLayer) and module.scaling != "none" and len(before) == 1:
                sources = before[0].sources
                spikes = before[0].format if module.keeps_format else None
        elif item.op in ("placeholder", "output"):
            kind = "input" if item.op == "placeholder" else "output"
        else:
            kind = "add" if adds(item) else "function"
        consumers = tuple(user.name for user in item.users)
        path = str(item.target) if module is not None else ""
        return Node(item.name, path, module, kind, inputs, consumers, steps, spikes, sources)


_ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")


def adds(item: fx.Node) -> bool:
    """Whether a traced node is a plain addition."""
    return item.op in ("call_function", "call_method") and item.target in _ADDITIONS


class _Interpreter(fx.Interpreter):
    def __init__(self, graph: Graph, handler: Handler | None) -> None:
        super().__init__(graph.model, garbage_collect_values=True, graph=graph.fx)
        self.nodes, self.handler = graph, handler
        self.extra_traceback = False  # our errors name the layer, in one line

    def run_node(self, n: fx.Node) -> Any:
        if self.handler is None or n.op in ("placeholder", "output", "get_attr"):
            return super().run_node(n)
        args, _ = self.fetch_args_kwargs_from_env(n)
        return self.handler(self.nodes[n.name], lambda: fx.Interpreter.run_node(self, n), args)


def trace(model: nn.Module) -> Graph:
    """Trace a network once.

    Args:
        model: a module of layers over time, neurons, torch modules, containers and plain additions.

    Returns:
        Its `Graph`, which shares the parameters with the model and runs like it (``graph.run(x)``). `fold`, `cost`,
        `observe` and `stream` trace by themselves; trace once where they are called often.

    Raises:
        ValueError: the code cannot be traced (data-dependent control flow, ...); names module and line.

    >>> from bitspike.layers import Linear; from bitspike.neurons import LIF
    >>> [node.kind for node in trace(nn.Sequential(Linear(2, 3), LIF()))]
    ['input', 'synapse', 'neuron', 'output']
    """
    tracer = _Tracer()
    try:
        traced = tracer.trace(model)
    except Exception as error:
        where = tracer.path[-1] if tracer.path else type(model).__name__
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/torch/" not in f.filename]
        line = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown line"
        must = "the network must be traceable without running it"
        got = f"{type(error).__name__} in module {where!r} at {line}: {error}"
        todo = "move the branch on tensor values into a leaf layer (a TimeLayer)"
        raise bad_value("graph", must, got, todo) from error
    for item in traced.nodes:
        item.type = None  # a hint that is a string, as under `from __future__ import annotations`, cannot be pickled
    return Graph(model, traced)
