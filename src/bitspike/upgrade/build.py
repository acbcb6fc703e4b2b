"""Writing a user's graph anew over [T, B, ...]: layers over time where they are exact, the rest with time merged."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from bitspike.checks import bad_value
from bitspike.graph import adds
from bitspike.graph.modes import without_gradient
from bitspike.graph.moves import axis_of, joined, kind_of
from bitspike.layers import Detach, Flatten, GlobalAvgPool, Product
from bitspike.upgrade.check import Values
from bitspike.upgrade.layers import Merged, SameSize
from bitspike.upgrade.parts import moves, reads_size, resizes_to
from bitspike.upgrade.pointwise import Pointwise, moving
from bitspike.upgrade.sites import Names, Site, put, wanted_name
from bitspike.upgrade.trace import Root, place
from bitspike.upgrade.translate import as_module, flattens, is_pointwise, merged, norm_mode, translated

_BROADCASTING = (*(operator.mul, operator.add, operator.sub, operator.truediv), *("mul", "add", "sub", "div"),
                 *(torch.mul, torch.add, torch.sub, torch.div))  # fmt: skip

_PRODUCTS = (operator.mul, "mul", "multiply", torch.mul, torch.multiply)
_SQUARES = (torch.square, "square")
_POWERS = (operator.pow, torch.pow, "pow")


@dataclass
class Built:
    """The network over [T, B, ...], activations still the original ones.

    Attributes:
        body: its graph. origin: node of the body → node of the user's graph. neurons: sites to be replaced.
        modules: pairs of a layer and the user's module that it was.
        depends: nodes whose value depends on the input.
        translated, merged: name → class of the user's layer, or its function.
    """

    body: fx.GraphModule
    origin: dict[str, fx.Node] = field(default_factory=dict)
    neurons: list[Site] = field(default_factory=list)
    modules: list[tuple[nn.Module, nn.Module]] = field(default_factory=list)
    depends: set[fx.Node] = field(default_factory=set)
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

    def __init__(self, root: Root, graph: fx.Graph, values: Values, sites: list[Site], names: Names, norm: str) -> None:
        self.root: Root = root
        self.graph = graph
        self.names: Names = names
        self.norm: str = norm
        self.recorded = values
        self.value: dict[fx.Node, Any] = {node: found[0] for node, found in values.items() if found}
        self.sites: dict[fx.Node, Site] = {site.node: site for site in sites}
        self.new: fx.Graph = fx.Graph()
        self.home: nn.Module = nn.Module()
        self.timed: dict[fx.Node, fx.Node] = {}
        self.carries: set[fx.Node] = set()
        self.own: dict[tuple[int, type[nn.Module]], str] = {}
        self.built: Built = Built(fx.GraphModule(nn.Module(), fx.Graph()))

    def build(self) -> Built:
        """The new graph; raises `ValueError` for what cannot run over time, naming its place."""
        for node in self.graph.nodes:
            if node.op == "output":
                self.new.output(self._output(node))
            elif node.op == "placeholder":
                self._keep(node, self.new.placeholder("x"))
                self._look_at_size(node)
                self.carries.add(node)
                self.batch: Any = self.value[node].shape[0]
            elif self._holds_samples(node):
                self._translate(node)
        self.new.lint()
        self.built.depends = self.carries
        self.built.body = fx.GraphModule(self.home, self.new, "Body")
        return self.built

    def _look_at_size(self, node: fx.Node) -> None:
        """Behind the input, look at its shape, if the code was written down for one."""
        if self.root.fixed_shape is not None:
            name = self.names.take("same_size", own=False)
            put(self.home, name, SameSize(self.root.fixed_shape))
            self.timed[node] = self.new.call_module(name, (self.timed[node],))

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
        elif first is not None and self._detaches(node):
            name = self.names.take(wanted_name(node), own=True)
            put(self.home, name, Detach())
            self._keep(node, self.new.call_module(name, (self.timed[first],)))
        elif (only := self._nothing_added(node)) is not None:
            self.timed[node] = self.timed[only]
        elif self._within(node, value, first):
            return
        elif self._plain_sum(node):
            self._keep(node, self.new.call_function(operator.add, tuple(self.timed[a] for a in node.args)))  # type: ignore
        elif self._plain_product(node):
            name = self._named(node, Product(), None)
            self._keep(node, self.new.call_module(name, tuple(self.timed[a] for a in _factors(node))))
            self.built.translated[name] = _function(node)
        elif self._stacks(node):
            self._join_stacked(node)
        elif self._joins_channels(node):
            parts = [self.timed[part] for part in joined(node)]
            self._keep(node, self.new.call_function(torch.cat, (parts, axis_of(node, value.dim()) + 1)))
        else:
            self._layer(node, first)

    def _nothing_added(self, node: fx.Node) -> fx.Node | None:
        """The value to which a call adds the number 0, as ``sum([a, b])`` does first."""
        if not adds(node) or node.kwargs or sorted(isinstance(a, fx.Node) for a in node.args) != [False, True]:
            return None
        number, only = sorted(node.args, key=lambda a: isinstance(a, fx.Node))
        return only if number == 0 and only in self.timed else None  # type: ignore[return-value]

    def _within(self, node: fx.Node, value: Tensor, source: fx.Node | None) -> bool:
        """Whether a value is left to the calls that read it: one of several moves in a row, or a mask or index."""
        if any(user.op == "output" for user in node.users):
            return False
        if not (value.is_floating_point() or value.is_complex()):
            return True
        flattens = source is not None and self._flattens(node, source)
        return _rearranges(node) and not flattens and self._moved_on(node)

    def _moved_on(self, node: fx.Node) -> bool:
        """Whether all readers of a value but copies move it on."""
        copies = [user for user in node.users if _copies(user)]
        others = [user for user in node.users if user not in copies]
        on = all(reads_size(u) or (_rearranges(u) and not self._broadcasts(u)) for u in others)
        return bool(node.users) and on and all(self._moved_on(u) for u in copies)

    def _broadcasts(self, node: fx.Node) -> bool:
        """Whether a call expands axes for products and sums alone, which do that by themselves."""
        if node.op != "call_method" or node.target not in ("expand", "expand_as") or not node.users:
            return False
        shape, source = self.value[node].shape, node.all_input_nodes[0]
        return self.value[source].dim() == len(shape) and all(
            user.target in _BROADCASTING
            and len(user.all_input_nodes) == len(user.args)
            and all(isinstance(self.value[a], Tensor) and self.value[a].shape == shape for a in user.all_input_nodes)
            and any(a is not node and not self._is_expanded(a) for a in user.all_input_nodes)
            for user in node.users
        )

    @staticmethod
    def _is_expanded(node: Any) -> bool:
        return isinstance(node, fx.Node) and node.op == "call_method" and node.target in ("expand", "expand_as")

    def _stacks(self, node: fx.Node) -> bool:
        """Whether a call puts values over time side by side along a new axis behind the batch."""
        parts = joined(node) if node.op == "call_function" and _function(node) == "stack" else ()
        fits = bool(parts) and all(part in self.timed and not self._is_pooled(part) for part in parts)
        return fits and axis_of(node, self.value[node].dim()) >= 1

    def _join_stacked(self, node: fx.Node) -> None:
        """Write a stack as a concatenation of what has an axis more."""
        axis, parts = axis_of(node, self.value[node].dim()), []
        for part in joined(node):
            last = axis == self.value[part].dim()
            more = nn.Unflatten(-1, (-1, 1)) if last else nn.Unflatten(axis, (1, -1))
            name = self.names.take(wanted_name(node), own=False)
            put(self.home, name, merged(more, place(node)))
            parts.append(self.new.call_module(name, (self.timed[part],)))
            parts[-1].name = self._free(f"{node.name}_{len(parts)}")
        self._keep(node, self.new.call_function(torch.cat, (parts, axis + 1)))

    def _free(self, name: str) -> str:
        """The name, with _ behind it as long as a node of the user has it."""
        while any(other.name == name for other in self.graph.nodes):
            name += "_"
        return name

    def _joins_channels(self, node: fx.Node) -> bool:
        """Whether a call puts channels or places of values over time side by side, for which a fold knows factors."""
        parts = joined(node) if node.op == "call_function" and kind_of(node) == "concat" else ()
        fits = bool(parts) and all(part in self.timed and not self._is_pooled(part) for part in parts)
        return fits and axis_of(node, self.value[node].dim()) >= 1

    def _site(self, site: Site, source: fx.Node | None) -> None:
        if source is None:
            must = f"{place(site.node)} must have the batch as axis 0 of its input"
            raise bad_value("upgrade", must, "another axis, or no tensor", "permute it after the activation")
        original = nn.ReLU() if site.stands_in else self._closure(site.node)[0]
        put(self.home, site.name, Merged(original, place(site.node)))
        self._keep(site.node, self.new.call_module(site.name, (self.timed[source],)))
        self.built.neurons.append(site)

    def _passes(self, node: fx.Node, source: fx.Node) -> bool:
        """Whether a call does nothing over time: copies, and flattening what is flat."""
        if _copies(node):
            return True
        if self._broadcasts(node):
            return True
        x, y = self.value[source], self.value[node]
        flat = x.dim() == 2 or self._is_pooled(source)
        return flat and x.dim() >= 2 and flattens(self.root, node, x, y)

    def _detaches(self, node: fx.Node) -> bool:
        return node.op == "call_module" and isinstance(self.root.get_submodule(str(node.target)), Detach)

    def _is_pooled(self, node: fx.Node) -> bool:
        made = self.timed[node]
        if self._detaches(node):
            return self._is_pooled(node.args[0])  # type: ignore[arg-type]
        return made.op == "call_module" and isinstance(self.home.get_submodule(str(made.target)), GlobalAvgPool)

    def _plain_sum(self, node: fx.Node) -> bool:
        if not adds(node) or len(node.args) != 2 or node.kwargs or any(a not in self.timed for a in node.args):
            return False
        left, right = (self.value[a] for a in node.args)  # type: ignore[index]
        return left.dim() == right.dim() and not any(self._is_pooled(a) for a in node.args)  # type: ignore[arg-type]

    def _plain_product(self, node: fx.Node) -> bool:
        """Whether a call multiplies two values over time, channel by channel, as a gate does, or one by itself.

        Where nothing becomes a neuron (`ann2snn`) products stay merged: what makes spikes of them comes later.
        """
        factors = _factors(node)
        spiking = any(site.replaced for site in self.sites.values())
        if not factors or not spiking or any(a not in self.timed for a in factors):
            return False
        left, right = (self.value[a] for a in factors)
        alike = left.dim() == right.dim() >= 2 and left.shape[:1] == right.shape[:1]
        pooled = left.dim() > 2 and any(self._is_pooled(a) for a in factors)
        floats = left.is_floating_point() and right.is_floating_point()
        return alike and floats and not pooled and Product().fits((1, *left.shape), (1, *right.shape))

    def _layer(self, node: fx.Node, source: fx.Node | None) -> None:
        module = as_module(self.root, node, self.value[node]) if source is not None else None
        made: nn.Module | None = None
        if source is not None and self._flattens(node, source):
            made = Flatten()
        elif source is not None and is_pointwise(module, self.value[source]):
            return self._pointwise(node, source, module)  # type: ignore[arg-type]
        elif source is not None and module is not None:
            made = translated(module, self.value[source])
            if isinstance(made, GlobalAvgPool) and not self._may_drop_axes(node):
                return self._pool_with_axes(node, source, made, module)
        inputs: tuple[fx.Node, ...] = (source,) if source is not None else ()
        if made is None and module is not None:
            made = merged(module, place(node))
        elif made is None:
            body, inputs = self._closure(node)
            alone = len(inputs) == 1 or resizes_to(body)
            made = merged(body, place(node)) if alone else Merged(body, place(node))
        norm_mode(made, self.norm, place(node))
        name = self._named(node, made, module if node.op == "call_module" else None)
        self._keep(node, self.new.call_module(name, tuple(self.timed[n] for n in inputs)))
        what = type(module).__name__ if module is not None else _function(node)
        (self.built.merged if isinstance(made, Merged) else self.built.translated)[name] = what

    def _pointwise(self, node: fx.Node, source: fx.Node, linear: nn.Linear) -> None:
        """A linear map of the last axis: the axis goes in front, to the channels, and back."""
        name = self._named(node, Pointwise(linear), linear)
        self.built.translated[name] = type(linear).__name__
        made = self.timed[source]
        for step, place_of in (("front", (-1, 1)), ("", ()), ("back", (1, -1))):
            if not step:
                made = self.new.call_module(name, (made,))
                continue
            beside = self.names.take(f"{name}_{step}", own=False)
            put(self.home, beside, merged(moving(*place_of), place(node)))
            made = self.new.call_module(beside, (made,))
            made.name = self._free(f"{node.name}_{step}")
        self._keep(node, made)

    def _pool_with_axes(self, node: fx.Node, source: fx.Node, pool: GlobalAvgPool, module: nn.Module) -> None:
        """A mean over all places whose two axes of length 1 are read: they are put back behind it."""
        name = self._named(node, pool, module if node.op == "call_module" else None)
        self._keep(node, self.new.call_module(name, (self.timed[source],)))
        self.built.translated[name] = type(module).__name__
        behind = self.names.take(f"{name}_axes", own=False)
        put(self.home, behind, merged(nn.Unflatten(1, (-1, 1, 1)), place(node)))
        made = self.new.call_module(behind, (self.timed[node],))
        made.name = self._free(f"{node.name}_axes")
        self.timed[node] = made

    def _named(self, node: fx.Node, made: nn.Module, module: nn.Module | None) -> str:
        """Add a layer under its name, unless one that stands for the same module of the user is there: its name."""
        key = (id(module), type(made))
        if module is None or node in self.sites or key not in self.own:
            site = self.sites.get(node)
            name = site.name if site else self.names.take(wanted_name(node), own=node.op == "call_module")
            put(self.home, name, made)
            self.own.setdefault(key, name)
            if module is not None:
                self.built.modules.append((made, module))
        return self.own[key] if module is not None and node not in self.sites else name

    def _flattens(self, node: fx.Node, source: fx.Node) -> bool:
        return self.value[source].dim() > 2 and flattens(self.root, node, self.value[source], self.value[node])

    def _may_drop_axes(self, node: fx.Node) -> bool:
        """Whether [T, B, C] can stand for [T, B, C, 1, 1]: nothing but flattening follows."""
        y = self.value[node]
        return y.dim() == 2 or all(
            reads_batch(user)
            or (self._detaches(user) and self._may_drop_axes(user))
            or (user.op != "output" and user.args[0] is node and flattens(self.root, user, y, self.value[user]))
            for user in node.users
        )

    def _closure(self, node: fx.Node) -> tuple[nn.Module, tuple[fx.Node, ...]]:
        """A module for [B, ...] that computes a node from nodes over time, and those nodes."""
        inner, inputs = fx.Graph(), []
        copied: dict[fx.Node, Any] = {}
        main = self._moved_by(node)
        if main is not None:  # whose values are read, before those whose sizes are
            inputs.append(main)
            copied[main] = inner.placeholder(main.name)
        pending = [node]
        while pending:
            item = pending[-1]
            if item not in copied and main is not None and (known := self._known_size(item, main)) is not None:
                axis, size = known
                copied[item] = inner.call_method("size", (copied[main], 0)) if axis == 0 else size
                pending.pop()
                continue
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
                copied[item] = inner.node_copy(item, lambda n: copied[n])
        inner.output(copied[node])
        return fx.GraphModule(self.root, inner, "Part"), tuple(inputs)

    def _moved_by(self, node: fx.Node) -> fx.Node | None:
        """The value over time that a call, or several moves in a row, begin with."""
        while node.args and isinstance(node.args[0], fx.Node):
            node = node.args[0]
            if node in self.timed:
                return node
            if not moves(node):
                return None
        return None

    def _known_size(self, item: fx.Node, main: fx.Node) -> tuple[int, int] | None:
        """(axis, size) where a call reads the batch or the channels of images other than ``main``."""
        of = item.args[0] if item.args else None
        if item.target is operator.getitem and isinstance(of, fx.Node) and reads_size(of) and len(of.args) < 3:
            whole, axis = of.args[0], item.args[1]
        elif item.op == "call_method" and item.target == "size" and len(item.args) == 2:
            whole, axis = of, item.args[1]
        else:
            return None
        known = whole in self.timed and whole is not main and axis in (0, 1)
        if not known or (axis == 1 and self.value[whole].dim() < 4):  # type: ignore[index]
            return None
        return int(axis), int(self.value[whole].shape[axis])  # type: ignore[index,arg-type]

    def _keep(self, node: fx.Node, made: fx.Node) -> None:
        made.name = node.name
        made.meta["grad"] = not without_gradient(node)
        self.timed[node] = made
        self.built.origin[node.name] = node

    def _output(self, node: fx.Node) -> Any:
        """What the new graph returns: tensors over time, alone or in tuples, lists and dicts."""
        found = node.args[0]
        if isinstance(found, fx.Node) and found not in self.timed and isinstance(self.value.get(found), (tuple, list)):
            found = self._parts(found)
        parts, spec = tree_flatten(found)
        if not parts or not all(isinstance(part, fx.Node) and part in self.timed for part in parts):
            value: Any = self.value.get(found) if isinstance(found, fx.Node) else found
            shown = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            must = "the forward must return tensors [B, ...] made of its input, or tuples, lists or dicts of them"
            todo = "wrap the model in a module that does"
            raise bad_value("upgrade", must, shown.removeprefix("immutable_"), todo)
        return tree_unflatten([self.timed[part] for part in parts], spec)

    def _parts(self, node: fx.Node) -> Any:
        """Nodes of the parts of a tuple of tensors, which a call has returned and the forward returns as it is."""
        value = self.value[node]
        taken = {user.args[1]: user for user in node.users if user.target is operator.getitem}
        for index in range(len(value)):
            if index not in taken:
                with self.graph.inserting_after(node):
                    taken[index] = self.graph.call_function(operator.getitem, (node, index))
                taken[index].meta |= {"inside": node.meta.get("inside", ""), "line": node.meta.get("line", "")}
                self.recorded[taken[index]] = [found[index] for found in self.recorded[node]]
                self.value[taken[index]] = value[index]
                if self._holds_samples(taken[index]):
                    self._translate(taken[index])
        return [taken[index] for index in range(len(value))]


def _copies(node: fx.Node) -> bool:
    return node.op != "call_module" and _function(node) in ("contiguous", "clone")


def _factors(node: fx.Node) -> tuple[fx.Node, ...]:
    """The two values that a call multiplies; the same twice where it squares one; none where it does neither."""
    given = node.args
    if node.op == "call_module" or node.kwargs:
        return ()
    if (node.target in _SQUARES and len(given) == 1) or (node.target in _POWERS and given[1:] == (2,)):
        given = (given[0], given[0])
    elif node.target not in _PRODUCTS or len(given) != 2:
        return ()
    return given if all(isinstance(a, fx.Node) for a in given) else ()  # type: ignore[return-value]


def _rearranges(node: fx.Node) -> bool:
    """Whether a call moves the values of one tensor."""
    return moves(node) and kind_of(node) != "concat" and _function(node) != "stack"


def reads_batch(node: fx.Node) -> bool:
    """Whether a call only reads the size of axis 0."""
    if node.op == "call_method" and node.target == "size":
        return node.args[1:] == (0,)
    if node.target is getattr and node.args[1] == "shape":
        return all(user.target is operator.getitem and user.args[1] == 0 for user in node.users)
    return False


def _function(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
