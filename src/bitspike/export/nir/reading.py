"""A graph of NIR as a network of bitspike."""

from __future__ import annotations

import keyword
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from bitspike.checks import bad_value, one_of, positive
from bitspike.export.nir import cells, pools, synapses
from bitspike.export.nir.package import CONVENTIONS, NOTE, VERSION, Convention, package
from bitspike.export.nir.wiring import ends, flat, in_order
from bitspike.graph import Graph
from bitspike.graph.traced import Traced
from bitspike.layers import Affine, Gain, GlobalAvgPool, MeanReadout, Repeat, Synapse, TimeLayer
from bitspike.lower.wire import Refused

_SYNAPSES = ("Affine", "Linear", "Conv1d", "Conv2d")
_CELLS = ("IF", "LIF", "Threshold")
_UNSAID = {
    "CubaLIF": "its synapses have a state of their own; make it with LIF",
    "CubaLI": "it integrates without firing; end with an Affine, or with LIF",
    "LI": "it integrates without firing; end with an Affine, or with LIF",
    "I": "it integrates without firing; end with an Affine, or with LIF",
    "Delay": "layers here have no delays",
}
_UNTOLD = {
    "snntorch": "snnTorch writes a reset by subtraction, its default, as one to 0; the network must have been made "
    "with reset_mechanism='zero'",
    "sinabs": "the file does not say what fires and resets; the layers must have Sinabs' defaults, MultiSpike and "
    "MembraneSubtract, and no min_v_mem",
}
_MOST = 2**24


def read_nir(path: str | Path, dt: float | None = None, maker: str = "nir") -> Traced:
    """A network of bitspike from a file of NIR.

    A file that bitspike wrote gives the network it was written from, bit for bit, with its encoder and read-out. Any
    other gives one that takes a sequence [T, B, ...] and returns the output of every step.

    Args:
        path: of the file.
        dt: time step of the LIF nodes, in seconds, which NIR does not hold; files of bitspike know it, snnTorch's is
            1e-4, Norse's 1e-3 unless told.
        maker: who wrote it: "nir", "snntorch", "norse" or "sinabs", where its neurons are not those that NIR defines:
            Sinabs writes one of a soft reset, several spikes a step and τ in steps, up to 255 spikes here.
            a warning tells what the files of a maker leave open.

    Returns:
        The network, in evaluation mode; its ``graph`` can be folded, compiled and written again.

    Raises:
        ValueError: no file of NIR, or nodes that are no layers here: all of them, by name.
        ImportError: the package nir is not installed.
    """
    one_of("read_nir", "maker", maker, tuple(CONVENTIONS))
    if dt is not None:
        positive("read_nir", "dt", dt)
    nir, where = package("read_nir"), f"read_nir {path}"
    if not Path(path).is_file():
        got = "a folder" if Path(path).is_dir() else "nothing of this name"
        raise bad_value(where, "the file must be one of NIR", got, "check the path")
    try:
        graph = nir.read(str(path), type_check=False)
    except (OSError, KeyError, ValueError, TypeError, AssertionError) as error:
        got = f"{type(error).__name__}: {error}"
        raise bad_value(where, "the file must be one of NIR", got, "write it with nir.write") from error
    if type(graph).__name__ != "NIRGraph":
        raise bad_value(where, "it must hold a graph", type(graph).__name__, "put the node into a NIRGraph")
    reader = _Reader(where, graph, dt, maker)
    if maker in _UNTOLD:
        warnings.warn(f"{where}: {_UNTOLD[maker]}", UserWarning, stacklevel=2)
    return Traced(reader.read())


class _Reader:
    def __init__(self, where: str, graph: Any, dt: float | None, maker: str) -> None:
        self.where, self.lost = where, dict[str, str]()
        self.note = graph.metadata or {}
        self.ours = NOTE in self.note
        self.nodes, self.edges = flat(where, graph)
        self.convention: Convention = CONVENTIONS[maker]
        self.dt = dt
        if self.ours:
            self._own(where, maker)
        elif dt is None:
            self.dt = {"snntorch": 1e-4, "norse": 1e-3}.get(maker)
        self.kind = self._type()

    def _own(self, where: str, maker: str) -> None:
        version = self.note[NOTE]
        if int(np.asarray(version)) != VERSION:
            raise bad_value(where, f"it must be version {VERSION} of bitspike's", version, "read it with that release")
        if maker != "nir":
            raise bad_value(where, "a file of bitspike is read as it was written", f"maker={maker!r}", "leave it out")
        reader = _text(self.note.get("reader", "nir"))
        self.convention = CONVENTIONS[one_of(where, "reader", reader, tuple(CONVENTIONS))]
        if self.dt not in (None, self.convention.dt):
            raise bad_value(where, f"its time step is {self.convention.dt:g}", f"dt={self.dt:g}", "leave it out")
        self.dt = self.convention.dt
        if reader == "sinabs":  # it holds what NIR defines; the habits are the reader's
            self.convention = CONVENTIONS["nir"]

    def _type(self) -> Any:
        names = ("weight", "v_threshold", "threshold", "scale")
        found = [getattr(node, name, None) for node in self.nodes.values() for name in names]
        wide = any(getattr(array, "dtype", None) == np.float64 for array in found if array is not None)
        named = _text(self.note.get("type", "")) if self.ours else ""
        return np.dtype(named or ("float64" if wide and self.ours else "float32"))

    def read(self) -> Graph:
        """The graph; raises where any node is none of ours."""
        inputs, outputs = ends(self.where, self.nodes)
        root, traced = nn.Module(), fx.Graph()
        values: dict[str, fx.Node] = {}
        for name in in_order(self.where, self.nodes, self.edges):
            if name == inputs:
                values[name] = self._begin(root, traced)
                continue
            sources = [values[a] for a, b in self.edges if b == name]
            if not sources:
                self.lost[name] = "nothing leads to it"
                values[name] = values.get(inputs) or self._begin(root, traced)
                continue
            value = sources[0]
            for other in sources[1:]:
                value = traced.call_function(torch.add, (value, other))
            for place, layer in enumerate(self._layers(name) if name != outputs else ()):
                value = _call(root, traced, f"{name}_{place}" if place else name, layer, value)
            values[name] = value
        if self.lost:
            kinds = {name: type(self.nodes[name]).__name__ for name in self.lost}
            told = "; ".join(f"{name} ({kinds[name]}): {why}" for name, why in self.lost.items())
            must = "every node must be a layer here"
            raise bad_value(self.where, must, f"{len(self.lost)} that are none: {told}", "change these")
        traced.output(self._end(root, traced, values[outputs]))
        module = fx.GraphModule(root, traced)
        module.eval()
        return self._run(Graph(module, module.graph), inputs)

    def _layers(self, name: str) -> list[nn.Module]:
        """The layers of a node; of one that has none something in its place, and a word why."""
        try:
            return self._made(name, self.nodes[name], type(self.nodes[name]).__name__)
        except Refused as reason:
            self.lost[name] = str(reason)
        except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
            self.lost[name] = f"it cannot be read ({type(error).__name__}: {error})"
        return [nn.Identity()]

    def _begin(self, root: nn.Module, traced: fx.Graph) -> fx.Node:
        value = traced.placeholder("x")
        steps = int(np.asarray(self.note.get("T", 0))) if self.ours else 0
        return _call(root, traced, "encoder", Repeat(steps), value) if steps else value

    def _end(self, root: nn.Module, traced: fx.Graph, value: fx.Node) -> fx.Node:
        mean = self.ours and _text(self.note.get("readout", "")) == "mean"
        return _call(root, traced, "readout", MeanReadout(), value) if mean else value

    def _made(self, name: str, node: Any, kind: str) -> list[nn.Module]:
        note = self._note(name)
        if kind in _SYNAPSES:
            made = synapses.read(node, kind, self.kind)
            if note.get("layer") == "Affine":
                return [_diagonal(made)]
            return [*(synapses.recalled(made, note) if note else [made])]
        if kind in _CELLS:
            return self._cell(node, kind, note)
        if kind in ("AvgPool2d", "SumPool2d"):
            pool = pools.read(node, kind)
            return [GlobalAvgPool()] if note.get("layer") == "GlobalAvgPool" and kind == "AvgPool2d" else [pool]
        if kind == "Flatten":
            return [pools.flatten(node)]
        if kind == "Pass":
            return [nn.Identity()]
        if kind == "Scale":
            return [pools.gain(node, self.kind)]
        raise Refused(_UNSAID.get(kind, "there is no such layer here"))

    def _note(self, name: str) -> dict[str, Any]:
        """What bitspike wrote down of a node."""
        start = f"{NOTE}.{name}."
        found = {key[len(start) :]: value for key, value in self.note.items() if key.startswith(start)}
        found = found if self.ours else {}
        return {key: _text(value) if isinstance(value, (bytes, str)) else value for key, value in found.items()}

    def _cell(self, node: Any, kind: str, note: Mapping[str, Any]) -> list[nn.Module]:
        if note:
            dtype = torch.from_numpy(np.empty(0, self.kind)).dtype
            neuron = cells.recalled(dict(note), dtype)
            shape = tuple(np.asarray(node.v_threshold).shape)
            again = cells.written(package(self.where), cells.numbers_of(neuron, dtype), shape, self.convention)
            for name in ("tau", "r", "v_leak", "v_threshold", "v_reset"):
                if not np.array_equal(getattr(again, name, 0), getattr(node, name, 0)):
                    raise Refused(synapses.CHANGED)
            return [neuron]
        made = cells.read(node, kind, self.convention, self.dt, self.kind)
        gain, shift = (torch.from_numpy(np.ascontiguousarray(part, self.kind)) for part in (made.gain, made.shift))
        if bool((shift != 0).any()):
            return [Affine(gain, shift), made.neuron]
        return [made.neuron] if bool((gain == 1).all()) else [Gain(gain), made.neuron]

    def _run(self, graph: Graph, inputs: str) -> Graph:
        """Run it once on a sample of the file's shape, so that what does not fit is told here."""
        dtype = torch.from_numpy(np.empty(0, self.kind)).dtype
        shape = getattr(self.nodes[inputs], "input_type", {}).get("input")
        if shape is None:
            return graph
        sizes = tuple(int(n) for n in np.ravel(shape))
        if not sizes or min(sizes) < 1 or math.prod(sizes) > _MOST:
            must = f"a sample must have 1 to {_MOST:,} numbers"
            raise bad_value(self.where, must, list(sizes), "name its shape in the node Input")
        sample = torch.zeros((1, *sizes) if graph.batch_axis == 0 else (1, 1, *sizes), dtype=dtype)
        try:
            with torch.no_grad():
                graph.run(sample)
        except (ValueError, TypeError, RuntimeError) as error:
            must = f"its layers must take a sample of its input's shape {list(sizes)}"
            raise bad_value(self.where, must, str(error).splitlines()[0], "check the shapes of its nodes") from error
        graph.note_sample(sample)
        return graph


def _call(root: nn.Module, traced: fx.Graph, name: str, layer: nn.Module, value: fx.Node) -> fx.Node:
    plain = re.sub(r"\W", "_", name)
    if not plain.isidentifier() or keyword.iskeyword(plain):
        plain = f"node_{plain}"
    while hasattr(root, plain):
        plain += "_"
    root.add_module(plain, layer)
    return traced.call_module(plain, (value,))


def _diagonal(made: Synapse) -> TimeLayer:
    """The affine map that was written as a diagonal map of channels."""
    weight, bias = made.weight.detach(), made.bias
    square = weight.reshape(weight.shape[:2]) if weight[0, 0].numel() == 1 else weight.new_zeros(0, 0)
    scale = square.diagonal()
    if bias is None or len(scale) != len(bias) or not torch.equal(scale.diag(), square):
        raise Refused(synapses.CHANGED)
    return Affine(scale.clone(), bias.detach().clone())


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
