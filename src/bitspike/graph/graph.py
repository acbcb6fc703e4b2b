"""The one traced graph of a network, which fold, cost, observe, convert, lower and stream all read.

Neurons, layers over time and torch's own modules are leaves; containers are traced through. Every call site is a
node of its own, so a module used twice is two nodes.
"""

from __future__ import annotations

import operator
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitspike.checks import bad_value
from bitspike.formats import SpikeFormat, formats_over_time
from bitspike.graph.modes import UntraceableError, cut, note_mode, watched
from bitspike.graph.moves import kind_of
from bitspike.graph.outputs import outputs_of, part_for
from bitspike.graph.spikes import Spikes, follow
from bitspike.layers import Detach, Encoder, Join, MeanReadout, PairProduct, Squeeze, Synapse, TimeLayer, Windows
from bitspike.layers.encoders.base import check_intensities
from bitspike.neurons import Neuron

_SIZES = "bitspike_sizes"
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

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        note_mode(node)
        return node


@dataclass(frozen=True)
class Node:
    """One call site.

    Attributes:
        name: unique in the graph. path: the module's name in the network ("" where there is none).
        module: the module called, or None for the input, the output and plain functions.
        kind: "input", "output", "neuron", "synapse", "layer" (any other module); of functions "add", "concat", "split",
            "select" (a slice, or a piece of a split) or "function".
        inputs: names of the nodes it reads. consumers: names of the nodes that read it.
        T: time steps of its output; 0 where a sample has no time axis (before an encoder, after a mean read-out).
        format: alphabet of its output where it is made of spikes, of their sums or means, else None (real-valued, or
            not known without running; `Graph.edges` knows more).
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
    """Nodes in execution order, and one interpreter for all passes. ``items``: name → node as traced by torch.fx."""

    def __init__(self, model: nn.Module, traced: fx.Graph) -> None:
        self.model = model
        self.fx = traced
        self.items: dict[str, Any] = {item.name: item for item in traced.nodes}
        self._nodes: dict[str, Node] = {}
        self._static: dict[str, Spikes | None] = {}
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
    def sample_shape(self) -> tuple[int, ...] | None:
        """Shape of one sample (of one step of it, without encoder), where a pass has run the network on some."""
        for node in self.of_kind("input"):
            sizes = self.items[node.name].meta.get(_SIZES)
            return None if sizes is None else tuple(sizes[self.batch_axis + 1 :])
        return None

    def note_sample(self, sample: Tensor) -> None:
        """Keep the shape of a network's input for `sample_shape`; copies of the graph keep it, too."""
        for node in self.of_kind("input"):
            self.items[node.name].meta[_SIZES] = tuple(sample.shape)

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

    @property
    def reads_indices(self) -> bool:
        """Whether a layer right behind the input, or behind what only repeats it, reads numbers of words."""
        passes = {node.name for node in self.of_kind("input")}
        for node in self:
            if passes.intersection(node.inputs):
                if getattr(node.module, "reads_indices", False):
                    return True
                if getattr(node.module, "repeats", False) or getattr(node.module, "keeps_format", False):
                    passes.add(node.name)
        return False

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

    @property
    def outputs(self) -> dict[str, str]:
        """Output → node: keys of dicts and places in tuples, joined by dots ("p3", "0", "inner.1"); "": alone."""
        return {name: item.name for name, item in outputs_of(self.fx).items()}

    def only(self, output: str) -> Graph:
        """The part of the network that makes one of its outputs; all layers are shared.

        Raises:
            ValueError: ``output`` is none of `outputs`.
        """
        return Graph(self.model, part_for(self.fx, output))

    def follow(
        self, name: str, known: Mapping[str, Spikes | None], shapes: Mapping[str, tuple[int, ...]]
    ) -> Spikes | None:
        """What the output of a node carries, from what those before it carry and the shapes that are known."""
        node = self._nodes[name]
        steps = {n: shapes[n][0] if n in shapes else self._nodes[n].T for n in node.inputs}
        return follow(self.items[name], node.module, known, shapes, steps)

    def given(self, name: str, args: tuple[Any, ...]) -> dict[str, Any]:
        """The values of the nodes before a node, from the arguments that a handler got."""
        found: dict[str, Any] = {}
        for item, value in zip(self.items[name].args, args, strict=True):
            inner = zip(item, value, strict=True) if isinstance(item, (list, tuple)) else ((item, value),)
            found |= {node.name: each for node, each in inner if isinstance(node, fx.Node)}
        return found

    def again(self, name: str, values: Mapping[str, Any]) -> Any:
        """A node run on other values of its inputs."""
        item = self.items[name]
        args = fx.node.map_arg(item.args, lambda n: values[n.name])
        if item.op == "call_module":
            return self.model.get_submodule(str(item.target))(*args)
        call: Any = getattr(Tensor, item.target) if isinstance(item.target, str) else item.target
        return call(*args, **item.kwargs)

    @torch.no_grad()
    def edges(self, *inputs: Tensor) -> Edges:
        """What every edge carries, shapes known: from one run on what the network takes."""
        found = Edges(self, *inputs)

        def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
            value = call()
            found.note(node, value)
            return value

        self.run(*inputs, handler=note)
        return found

    def _describe(self, item: fx.Node) -> Node:
        inputs = tuple(n.name for n in item.all_input_nodes)
        module = self.model.get_submodule(str(item.target)) if item.op == "call_module" else None
        before = [self._nodes[name] for name in inputs]
        steps = max((node.T for node in before), default=0)
        times = {node.name: node.T for node in before}
        spikes = follow(item, module, self._static, {}, times)
        self._static[item.name] = spikes
        sources: tuple[str, ...] = ()
        if isinstance(module, Neuron):
            kind, sources = "neuron", (item.name,)
        elif isinstance(module, Synapse):
            kind = "synapse"
        elif module is not None:
            kind = "layer"
            if isinstance(module, (nn.Identity, nn.Dropout)):
                sources = before[0].sources
            elif isinstance(module, Encoder):
                steps = module.T
            elif isinstance(module, MeanReadout):
                steps = 0
            elif isinstance(module, Join):
                steps = module.steps([node.T for node in before])
            elif isinstance(module, Squeeze):
                steps, sources = module.T, before[0].sources
            elif isinstance(module, Windows):
                frames = module.frames or steps
                sources = before[0].sources if frames and module.divisor(frames) == 1 else ()
                steps = module.T
            elif isinstance(module, TimeLayer) and module.scaling in ("linear", "positive") and before:
                sources = before[0].sources
        elif item.op in ("placeholder", "output"):
            kind = "input" if item.op == "placeholder" else "output"
        else:
            kind = kind_of(item)
        consumers = tuple(user.name for user in item.users)
        path = str(item.target) if module is not None else ""
        record = module.format if isinstance(module, Neuron) else None if spikes is None else spikes.format
        return Node(item.name, path, module, kind, inputs, consumers, steps, record, sources)


class Edges:
    """What every edge of a graph carries, noted while it runs.

    Attributes:
        spikes: node → what it carries, None where that is not made of spikes. shapes: node → shape of its value.
        sent: neuron, encoder or product → alphabets of its train at its steps.
    """

    def __init__(self, graph: Graph, *inputs: Tensor) -> None:
        self.graph = graph
        self.spikes: dict[str, Spikes | None] = {}
        self.sent: dict[str, tuple[SpikeFormat, ...]] = {}
        names = [node.name for node in graph.of_kind("input")]
        self.shapes: dict[str, tuple[int, ...]] = {name: tuple(x.shape) for name, x in zip(names, inputs, strict=False)}

    def note(self, node: Node, value: Any) -> Spikes | None:
        """Take down a node that has run, and say what it carries."""
        if isinstance(value, Tensor):
            self.shapes[node.name] = tuple(value.shape)
        found = self.graph.follow(node.name, self.spikes, self.shapes)
        self.spikes[node.name] = found
        if isinstance(node.module, (Neuron, Encoder, PairProduct)) and found is not None:
            for form, formats in found.parts:  # of a product one for all parts that meet
                self.sent[form.terms[0][0]] = formats_over_time(formats or (), len(value))
        return found


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
    for module in model.modules():
        if callable(follow := getattr(module, "follow", None)):
            follow()  # widths and steps that were written into buffers
    tracer = _Tracer()
    try:
        with watched():
            traced = tracer.trace(model)
    except Exception as error:
        where = tracer.path[-1] if tracer.path else type(model).__name__
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/torch/" not in f.filename]
        line = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown line"
        must = "the network must be traceable without running it"
        got = f"{type(error).__name__} in module {where!r} at {line}: {error}"
        todo = "move the branch on tensor values into a leaf layer (a TimeLayer)"
        if isinstance(error, UntraceableError):
            todo = error.todo or "call it in a leaf layer (a TimeLayer)"
        raise bad_value("graph", must, got, todo) from error
    for item in traced.nodes:
        item.type = None  # a hint that is a string, as under `from __future__ import annotations`, cannot be pickled
    return Graph(_with_detaches(model, traced), traced)


def _with_detaches(model: nn.Module, traced: fx.Graph) -> nn.Module:
    """The model; where its forward stops gradients, a module with the same layers that has a `Detach` there."""
    added: dict[str, nn.Module] = {}

    def add(name: str) -> str:
        while hasattr(model, name) or name in added:
            name += "_"
        added[name] = Detach()
        return name

    cut(traced, add)
    if not added:
        return model
    targets = {str(item.target) for item in traced.nodes if item.op in ("call_module", "get_attr")}
    held = {name: added[name] if name in added else operator.attrgetter(name)(model) for name in targets}
    whole = fx.GraphModule(held, traced, type(model).__name__)
    whole.training = model.training
    return whole
