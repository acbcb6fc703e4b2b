"""Writing a user's graph anew over [T, B, ...]: layers over time where they are exact, the rest with time merged."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from bitspike.checks import bad_value
from bitspike.convert.upgrade_check import Values
from bitspike.convert.upgrade_layers import Merged
from bitspike.convert.upgrade_sites import Names, Site, wanted_name
from bitspike.convert.upgrade_trace import place
from bitspike.convert.upgrade_translate import as_module, flattens, merged, norm_mode, translated
from bitspike.graph import adds
from bitspike.layers import Flatten, GlobalAvgPool


@dataclass
class Built:
    """The network over [T, B, ...], activations still the original ones.

    Attributes:
        body: its graph. origin: node of the body → node of the user's graph. targets: site → name of its module.
        translated, merged: name → class of the user's layer, or its function.
    """

    body: fx.GraphModule
    origin: dict[str, fx.Node] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    translated: dict[str, str] = field(default_factory=dict)
    merged: dict[str, str] = field(default_factory=dict)


class Builder:
    """One pass over a user's graph.

    A value that depends on the input and has the batch in front is a node [T, B, ...] of the new graph. Everything
    else (sizes, parameters, tuples, tensors with the batch elsewhere) moves into the layers that read it.

    Args:
        root, graph: of the user. values: of `record`. sites: of `find_sites`. names: the same as there.
        norm: mode of batch norms.
    """

    def __init__(
        self, root: nn.Module, graph: fx.Graph, values: Values, sites: list[Site], names: Names, norm: str
    ) -> None:
        self.root, self.graph, self.names, self.norm = root, graph, names, norm
        self.value: dict[fx.Node, Any] = {node: found[0] for node, found in values.items() if found}
        self.sites = {site.node: site for site in sites}
        self.new, self.home = fx.Graph(), nn.Module()
        self.timed: dict[fx.Node, fx.Node] = {}
        self.carries: set[fx.Node] = set()
        self.own: dict[tuple[int, type[nn.Module]], str] = {}
        self.built = Built(fx.GraphModule(nn.Module(), fx.Graph()))

    def build(self) -> Built:
        """The new graph; raises `ValueError` for what cannot run over time, naming its place."""
        for node in self.graph.nodes:
            if node.op == "output":
                self.new.output(self._output(node))
            elif node.op == "placeholder":
                self._keep(node, self.new.placeholder("x"))
                self.carries.add(node)
                self.batch = self.value[node].shape[0]
            elif self._holds_samples(node):
                self._translate(node)
        self.new.lint()
        self.built.body = fx.GraphModule(self.home, self.new, "Body")
        return self.built

    def _holds_samples(self, node: fx.Node) -> bool:
        """Whether the value of a node is made of tensors that depend on the input."""
        tensors = any(isinstance(v, Tensor) for v in tree_leaves(self.value.get(node)))
        if tensors and any(source in self.carries for source in node.all_input_nodes):
            self.carries.add(node)
        return node in self.carries

    def _translate(self, node: fx.Node) -> None:
        site, value = self.sites.get(node), self.value[node]
        source = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        first = source if source in self.timed else None
        if site is not None and site.replaced:
            self._site(site, first)
        elif source is not None and source in self.sites and isinstance(self.value[source], tuple):
            self.timed[node] = self.timed[source]  # spikes of a neuron that returns a tuple
        elif not isinstance(value, Tensor) or value.dim() == 0 or value.shape[0] != self.batch:
            return
        elif first is not None and self._passes(node, first):
            self.timed[node] = self.timed[first]
        elif self._plain_sum(node):
            self._keep(node, self.new.call_function(operator.add, tuple(self.timed[a] for a in node.args)))  # type: ignore
        else:
            self._layer(node, first)

    def _site(self, site: Site, source: fx.Node | None) -> None:
        if source is None:
            must = f"{place(site.node)} must have the batch as axis 0 of its input"
            raise bad_value("upgrade", must, "another axis, or no tensor", "permute it after the activation")
        body: nn.Module = nn.ReLU() if site.memory or isinstance(self.value[site.node], tuple) else nn.Identity()
        if isinstance(body, nn.Identity):
            body, _ = self._closure(site.node)
        self.home.add_module  # noqa: B018
        name = self._call(site.node, (source,), Merged(body, site.name), site.name)
        self.built.targets[site.name] = name

    def _passes(self, node: fx.Node, source: fx.Node) -> bool:
        """Whether a call does nothing over time: copies, and flattening what is flat."""
        name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
        if name in ("contiguous", "clone"):
            return True
        x, y = self.value[source], self.value[node]
        flat = x.dim() == 2 or self._is_pooled(source)
        return flat and x.dim() >= 2 and flattens(self.root, node, x, y)

    def _is_pooled(self, node: fx.Node) -> bool:
        made = self.timed[node]
        return made.op == "call_module" and isinstance(self.home.get_submodule(str(made.target)), GlobalAvgPool)

    def _plain_sum(self, node: fx.Node) -> bool:
        if not adds(node) or len(node.args) != 2 or node.kwargs or any(a not in self.timed for a in node.args):
            return False
        left, right = (self.value[a] for a in node.args)  # type: ignore[index]
        return left.dim() == right.dim() and not any(self._is_pooled(a) for a in node.args)  # type: ignore[arg-type]

    def _layer(self, node: fx.Node, source: fx.Node | None) -> None:
        module = as_module(self.root, node, self.value[node]) if source is not None else None
        made: nn.Module | None = None
        if source is not None and self._flattens(node, source):
            made = Flatten()
        elif source is not None and module is not None:
            made = translated(module, self.value[source])
            if isinstance(made, GlobalAvgPool) and not self._may_drop_axes(node):
                made = None
        what = type(module).__name__ if module is not None else getattr(node.target, "__name__", str(node.target))
        inputs: tuple[fx.Node, ...] = (source,) if source is not None else ()
        if made is None and module is not None:
            made = merged(module, place(node))
        elif made is None:
            body, inputs = self._closure(node)
            made = Merged(body, place(node))
        norm_mode(made, self.norm, place(node))
        name = self._call(node, inputs, made)
        (self.built.merged if isinstance(made, Merged) else self.built.translated)[name] = what

    def _flattens(self, node: fx.Node, source: fx.Node) -> bool:
        return self.value[source].dim() > 2 and flattens(self.root, node, self.value[source], self.value[node])

    def _may_drop_axes(self, node: fx.Node) -> bool:
        """Whether [T, B, C] can stand for [T, B, C, 1, 1]: nothing but flattening follows."""
        y = self.value[node]
        return y.dim() == 2 or all(
            user.op != "output" and user.args[0] is node and flattens(self.root, user, y, self.value[user])
            for user in node.users
        )

    def _closure(self, node: fx.Node) -> tuple[nn.Module, tuple[fx.Node, ...]]:
        """A module for [B, ...] that computes a node from nodes over time, and those nodes."""
        inner, inputs = fx.Graph(), []
        copied: dict[fx.Node, fx.Node] = {}
        pending = [node]
        while pending:
            item = pending[-1]
            before = [] if item in self.timed else [n for n in item.all_input_nodes if n not in copied]
            if before:
                pending += before
                continue
            pending.pop()
            if item in copied:
                continue
            if item in self.timed:
                inputs.append(item)
                copied[item] = inner.placeholder(item.name)
            else:
                self._refuse_inside(item, node)
                copied[item] = inner.node_copy(item, lambda n: copied[n])
        inner.output(copied[node])
        ordered = [n for n in inner.nodes if n.op == "placeholder"]
        for later in ordered[1:]:
            ordered[0].append(later)  # placeholders come first, in the order of `inputs`
            ordered[0] = later
        return fx.GraphModule(self.root, inner, "Part"), tuple(inputs)

    def _refuse_inside(self, item: fx.Node, node: fx.Node) -> None:
        if item is not node and item in self.sites and self.sites[item].replaced and item in self.carries:
            must = f"{place(item)} must have the batch as axis 0 of its output"
            raise bad_value("upgrade", must, "another axis", "permute after the activation")

    def _call(self, node: fx.Node, inputs: tuple[fx.Node, ...], made: nn.Module, name: str = "") -> str:
        """Add a module under a free name, or call the one that stands for the same module of the user again."""
        own = self.root.get_submodule(str(node.target)) if node.op == "call_module" and not name else None
        key = (id(own), type(made))
        if own is not None and key in self.own:
            name = self.own[key]
        else:
            name = name or self.names.take(wanted_name(node), own=own is not None)
            _put(self.home, name, made)
            if own is not None:
                self.own[key] = name
        called = self.new.call_module(name, tuple(self.timed[n] for n in inputs))
        self._keep(node, called)
        return name

    def _keep(self, node: fx.Node, made: fx.Node) -> None:
        made.name = node.name
        self.timed[node] = made
        self.built.origin[node.name] = node

    def _output(self, node: fx.Node) -> fx.Node:
        found = node.args[0]
        if isinstance(found, fx.Node) and found in self.timed and self.value[found] is not None:
            return self.timed[found]
        must = "the forward must return one tensor with the batch as axis 0"
        got = type(self.value.get(found, found)).__name__ if isinstance(found, fx.Node) else type(found).__name__
        todo = "return the logits alone; wrap the model in a module that does"
        raise bad_value("upgrade", must, f"{got} ({node.meta.get('line')})", todo)


def _put(home: nn.Module, name: str, module: nn.Module) -> None:
    *parents, own = name.split(".")
    for parent in parents:
        if not hasattr(home, parent):
            home.add_module(parent, nn.Module())
        home = getattr(home, parent)
    home.add_module(own, module)


def called(graph: fx.Graph) -> Iterator[str]:
    """Names of the modules that a graph calls."""
    return (wanted_name(node) for node in graph.nodes if node.op == "call_module")
