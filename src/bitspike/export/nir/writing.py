"""A folded network as a graph of NIR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from bitspike.checks import bad_value
from bitspike.export.nir import cells, pools, synapses
from bitspike.export.nir.package import NOTE, VERSION, Convention, refuse_for
from bitspike.graph import Graph, Node
from bitspike.graph.moves import summands
from bitspike.layers import (
    Affine,
    AvgPool2d,
    Detach,
    DropPath,
    Encoder,
    Flatten,
    Gain,
    GlobalAvgPool,
    Join,
    MeanReadout,
    Repeat,
    Squeeze,
    StepReadout,
    SumPool2d,
    Synapse,
)
from bitspike.layers.base import changed_by
from bitspike.lower.wire import Refused
from bitspike.neurons import Neuron
from bitspike.upgrade.layers import Merged, SameSize

_SAME = (nn.Identity, nn.Dropout, Detach, DropPath, StepReadout, SameSize)
_ADVICE = {
    "MaxPool2d": "train AvgPool2d or SumPool2d",
    "TallyMaxPool2d": "train AvgPool2d or SumPool2d",
    "BatchNorm": "fold the network first",
    "Squeeze": "train one T for all layers",
    "Windows": "train one T for all layers",
    "Join": "train one T for all layers",
    "UnarySynapse": "write the network before expand_unary, if its neurons are LIF",
}


@dataclass
class Written:
    """What became of a network.

    Attributes:
        nodes: of NIR, by name. edges: (from, to), in the order in which a node adds them up. lost: what has no word.
        notes: what its readers have to know.
    """

    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Writer:
    """Goes through a graph once; ``ends`` holds of every node the nodes of NIR whose outputs add up to its value."""

    def __init__(self, nir: Any, graph: Graph, reader: str, convention: Convention, shape: tuple[int, ...]) -> None:
        self.nir: Any = nir
        self.graph: Graph = graph
        self.reader: str = reader
        self.convention: Convention = convention
        inputs = [node.name for node in graph.of_kind("input")]
        if len(inputs) != 1:
            raise bad_value("export to nir", "the network must take one value", inputs, "write its parts apart")
        self.dtype: torch.dtype = _dtype(graph)
        self.kind: np.dtype[Any] = torch.empty(0, dtype=self.dtype).numpy().dtype
        self.shapes: dict[str, tuple[int, ...]] = _shapes(graph, shape, self.dtype)
        self.made: Written = Written()
        self.ends: dict[str, tuple[str, ...]] = {}
        self.readout: str = "steps"
        self.timed: frozenset[str] = graph.timed
        self.steps: int = next((node.module.T for node in graph if isinstance(node.module, Encoder)), 0)

    def write(self) -> Written:
        """All nodes; what cannot be said is in ``lost``, by name."""
        for node in self.graph:
            try:
                self._write(node)
            except Refused as reason:
                self._lose(node, str(reason))
        notes: dict[str, Any] = {}
        for name, made in self.made.nodes.items():  # older releases of nir read none of a node
            notes |= {f"{NOTE}.{name}.{key}": value for key, value in made.metadata.items()}
            made.metadata = {}
        self.made.metadata = {
            **notes,
            NOTE: VERSION,
            "reader": self.reader,
            "dt": self.convention.dt,
            "T": self.steps,
            "encoder": "repeat" if self.steps else "none",
            "readout": self.readout,
            "spikes": "{0,1}",
            "type": str(self.kind),
        }
        return self.made

    def _lose(self, node: Node, reason: str) -> None:
        what = type(node.module).__name__ if node.module is not None else node.kind
        inner = f" of {type(node.module.body).__name__}" if type(node.module) is Merged else ""
        self.made.lost.append(f"{node.name} ({what}{inner}): {reason}")
        self.ends[node.name] = tuple(name for before in node.inputs for name in self.ends.get(before, ()))

    def _add(self, name: str, made: Any, sources: tuple[str, ...]) -> tuple[str, ...]:
        refuse_for(self.reader, self.convention, made)
        while name in self.made.nodes:
            name += "_"
        self.made.nodes[name] = made
        self.made.edges += [(source, name) for source in sources]
        return (name,)

    def _write(self, node: Node) -> None:
        module, before = node.module, node.inputs
        if node.kind == "input":
            self._input(node)
        elif node.kind == "output":
            self._output(node)
        elif isinstance(module, Encoder):
            if type(module) is not Repeat:
                todo = "leave the encoder out of the network, and feed what it sends"
                raise Refused(f"NIR begins behind the encoder, and what this one sends is no constant; {todo}")
            if self.steps != module.T:
                raise Refused("the network has another encoder with other steps; use one")
            self.ends[node.name] = self.ends[before[0]]
        elif isinstance(module, MeanReadout):
            self._readout(node, module)
        elif isinstance(module, _SAME) or (isinstance(module, Squeeze) and module.passes(self.graph[before[0]].T)):
            self.ends[node.name] = self.ends[before[0]]
        elif node.name not in self.timed:
            raise Refused("it lies before the encoder, and NIR begins behind it; put the encoder first")
        elif node.kind == "add" or isinstance(module, Join):
            self._sum(node)
        else:
            made = self._layer(node)
            if made is not None:
                self.ends[node.name] = self._add(node.name, made, self.ends[before[0]])
            if isinstance(module, GlobalAvgPool):
                flat = self.nir.Flatten(
                    input_type=np.array([*self._shape(before[0])[:1], 1, 1]), start_dim=0, end_dim=-1
                )
                self.ends[node.name] = self._add(f"{node.name}_flat", flat, self.ends[node.name])

    def _layer(self, node: Node) -> Any:
        """The node of NIR for a layer; None where that of the layer before stands for both."""
        module, nir = node.module, self.nir
        if module is not None and (changes := changed_by(module)):
            raise Refused(f"it does more than its class says ({changes}); remove that, or make it permanent")
        shape = self._shape(node.inputs[0])
        if isinstance(module, Neuron):
            return self._neuron(module, shape)
        if isinstance(module, Synapse):
            affine = self._affine_behind(node)
            note = synapses.note_of(module, affine)
            made = synapses.written(nir, module, affine, shape, note)
            made.metadata = note
            return made
        if isinstance(module, Affine):
            before = self.graph[node.inputs[0]]
            if isinstance(before.module, Synapse) and self._affine_behind(before) is module:
                self.ends[node.name] = self.ends[before.name]
                return None
            return _affine(nir, module, shape, self.kind)
        if isinstance(module, Gain):
            return pools.scale(nir, module, shape, self.kind)
        if isinstance(module, (AvgPool2d, SumPool2d, GlobalAvgPool)):
            made = pools.written(nir, module, shape)
            made.metadata = {"layer": type(module).__name__}
            return made
        if type(module) is Flatten:
            return nir.Flatten(input_type=np.array(shape), start_dim=0, end_dim=-1)
        if type(module) is Merged and (found := pools.merged(nir, module.body, shape)) is not None:
            return found
        what = "NIR has no such node"
        todo = _ADVICE.get(type(module).__name__, "use layers that it has: linear, convolution, LIF, pools of sums")
        raise Refused(f"{what}; {todo}")

    def _neuron(self, module: Neuron, shape: tuple[int, ...]) -> Any:
        numbers = cells.numbers_of(module, self.dtype)
        if module.channels() and len(shape) > 1 and module.emission.channel_dim == -1:
            raise Refused("its channels are the last axis; put them first, behind the batch")
        made = cells.written(self.nir, numbers, shape, self.convention)
        made.metadata = cells.exact(module)
        return made

    def _affine_behind(self, node: Node) -> Affine | None:
        if len(node.consumers) != 1 or node.module is None:
            return None
        module = self.graph[node.consumers[0]].module
        integers = isinstance(node.module, Synapse) and not node.module.quantizer.format.real
        return module if integers and isinstance(module, Affine) else None

    def _input(self, node: Node) -> None:
        shape = self.shapes[node.name][1 if self.graph.batch_axis == 0 else 2 :]
        self.ends[node.name] = self._add("input", self.nir.Input(input_type=np.array(shape)), ())

    def _output(self, node: Node) -> None:
        if len(node.inputs) != 1 or not isinstance(self.graph.items[node.name].args[0], fx.Node):
            names = ", ".join(self.graph.outputs)
            raise Refused(f"the network must return one value; write its parts apart, graph.only(name) of {names}")
        shape = self.shapes[node.inputs[0]]
        kept = shape[1:] if self.readout == "mean" else shape[2:]
        self._add("output", self.nir.Output(output_type=np.array(kept)), self.ends[node.inputs[0]])

    def _readout(self, node: Node, module: MeanReadout) -> None:
        if any(self.graph[name].kind != "output" for name in node.consumers):
            raise Refused("NIR has no mean over time, which only the reader can take, of the output")
        if module.keep is not None:
            raise Refused("it leaves steps out, and NIR has no word for steps; take MeanReadout()")
        self.readout = "mean"
        self.ends[node.name] = self.ends[node.inputs[0]]
        self.made.notes.append("the output is that of every step; the network's is its mean over the steps")

    def _sum(self, node: Node) -> None:
        """A sum is several edges into whatever reads it; in the network's order, and none of them twice."""
        parts = [item.name for item in summands(self.graph.items[node.name])]
        if not parts:
            raise Refused("a number is added, or one of the values counts several times; write it as a layer")
        if len({self.shapes[name] for name in parts}) > 1:
            raise Refused("its values differ in their shapes; bring them to one, with the same T")
        found: list[str] = []
        for place, before in enumerate(parts):
            names = self.ends[before]
            if (place and len(names) > 1) or set(names) & set(found):
                one = self.nir.Scale(scale=np.ones(self._shape(before), self.kind))
                names = self._add(f"{node.name}_{place}", one, names)
            found += names
        self.ends[node.name] = tuple(found)

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self.shapes:
            raise Refused("it reads a part of several values, which NIR has no word for; make them layers apart")
        return self.shapes[name][2:]


def _affine(nir: Any, module: Affine, shape: tuple[int, ...], kind: Any) -> Any:
    """An affine map that no synapse takes in, as a diagonal map of channels."""
    channels = shape[0]
    scale, shift = (
        np.ascontiguousarray(np.broadcast_to(t.detach().cpu().numpy(), (channels,))).astype(kind)
        for t in (module.scale, module.shift)
    )
    note = {"layer": "Affine"}
    if len(shape) == 1:
        return nir.Affine(weight=np.diag(scale), bias=shift, metadata=note)
    if len(shape) not in (2, 3):
        raise Refused("NIR has affine maps of channels of 1 or 2 dimensions")
    weight = np.diag(scale).reshape(channels, channels, *[1] * (len(shape) - 1))
    one: Any = 1 if len(shape) == 2 else (1, 1)
    none: Any = 0 if len(shape) == 2 else (0, 0)
    sizes: Any = shape[1] if len(shape) == 2 else tuple(shape[1:])
    make = nir.Conv1d if len(shape) == 2 else nir.Conv2d
    return make(sizes, weight, one, none, one, 1, shift, metadata=note)


def _dtype(graph: Graph) -> torch.dtype:
    """The one floating type of a network's numbers."""
    tensors = [t for t in (*graph.model.parameters(), *graph.model.buffers()) if t.is_floating_point()]
    kinds = {t.dtype for t in tensors} or {torch.float32}
    if len(kinds) > 1 or kinds - {torch.float32, torch.float64} or any(t.device.type != "cpu" for t in tensors):
        got = ", ".join(sorted({f"{t.dtype} on {t.device.type}" for t in tensors}))
        raise bad_value(
            "export to nir", "the network must be float32 or float64, on the CPU", got, "call .float().cpu()"
        )
    return kinds.pop()


@torch.no_grad()
def _shapes(graph: Graph, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, tuple[int, ...]]:
    """Shape of the value of every node, for one sample."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        if isinstance(value, Tensor):
            shapes[node.name] = tuple(value.shape)
        return value

    sizes = (1, *shape) if graph.batch_axis == 0 else (1, 1, *shape)
    graph.run(torch.zeros(sizes, dtype=dtype), handler=note)
    for node in graph.of_kind("input"):
        shapes[node.name] = sizes
    return shapes
