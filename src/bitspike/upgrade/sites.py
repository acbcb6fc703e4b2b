"""Where `upgrade` puts neurons: every call of an activation, and its name."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from bitspike.checks import bad_value
from bitspike.layers import TimeLayer
from bitspike.upgrade.axes import channel_dim_of
from bitspike.upgrade.mapping import KEEP, Choices, activation, remembers
from bitspike.upgrade.trace import is_torch_layer, path_of, place


@dataclass
class Site:
    """One call that may become a neuron.

    Attributes:
        node: the call. name: unique. kind: class of the activation. module: what is called, None for a function.
        memory: what it remembers, see `remembers`. choice: value of the mapping, or `KEEP`.
        channel_dim: axis of the channels of its input, see `channel_dim_of`.
    """

    node: fx.Node
    name: str
    kind: type[nn.Module]
    module: nn.Module | None
    memory: str
    choice: Any
    channel_dim: int | None = None

    @property
    def replaced(self) -> bool:
        """Whether the mapping puts something here."""
        return self.choice is not KEEP and self.choice is not None

    @property
    def stands_in(self) -> bool:
        """Whether a ReLU stands in for it while the network is checked: it may remember."""
        return self.replaced and self.module is not None and not is_torch_layer(self.module)


class Names:
    """Unique names for the modules of the new network, the user's own where they are free."""

    def __init__(self, taken: list[str]) -> None:
        self.reserved: set[str] = set(taken)
        self.used: set[str] = set()

    def take(self, wanted: str, own: bool) -> str:
        """``wanted``, or with _1, _2, ... behind it; ``own``: it is the name of the user's module itself."""
        parts = [part + "_" if hasattr(fx.GraphModule, part) else part for part in wanted.split(".")]
        wanted = name = ".".join(parts)
        count = 0
        while self._clashes(name, own and not count):
            count += 1
            name = f"{wanted}_{count}"
        self.used.add(name)
        return name

    def _clashes(self, name: str, own: bool) -> bool:
        others = self.used if own else self.used | self.reserved
        return name in others or any(o.startswith(name + ".") or name.startswith(o + ".") for o in others)


def wanted_name(node: fx.Node) -> str:
    """The user's name of the module, or the module around a function and the function's name."""
    if node.op == "call_module":
        return path_of(str(node.target)) or "model"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "function")
    return ".".join(part for part in (node.meta["inside"], name.strip("_")) if part)


def find_sites(root: nn.Module, graph: fx.Graph, choices: Choices, names: Names) -> list[Site]:
    """Every activation, mapped module and neuron with memory that is called, in order.

    Raises:
        ValueError: a neuron with memory is called more than once (a loop over time), or its membrane is used.
    """
    sites = []
    for node in graph.nodes:
        kind, module = activation(root, node), None
        wanted = wanted_name(node)
        if node.op == "call_module":
            module = root.get_submodule(str(node.target))
            if choices.exact(module, wanted) or (choices.leaf(module, wanted) and not _is_layer(module)):
                kind = type(module)
        if kind is not None:
            name = names.take(wanted, own=module is not None)
            memory = remembers(module) if module is not None else ""
            sites.append(Site(node, name, kind, module, memory, choices.of(name, kind), channel_dim_of(root, node)))
    for site in sites:
        if site.memory or _hands_on_state(site):
            _once(site, [other.node for other in sites if other.module is site.module])
            _spikes_only(site)
    return sites


def _is_layer(module: nn.Module) -> bool:
    """Whether a module is a layer that only its class or full name means, no pattern."""
    return is_torch_layer(module) or isinstance(module, TimeLayer)


def _hands_on_state(site: Site) -> bool:
    """Whether a mapped module returns a tuple, as neurons do that hand their membrane on."""
    return site.stands_in and any(_part(user) is not None for user in site.node.users)


def _part(user: fx.Node) -> int | None:
    """Which part of a tuple a node takes."""
    taken = user.args[1] if user.target is operator.getitem else None
    return taken if isinstance(taken, int) else None


def _once(site: Site, calls: list[fx.Node]) -> None:
    if len(calls) > 1:
        must = f"{place(site.node)}, {site.memory or 'a neuron with state'}, must be called once in a forward"
        todo = "bitspike does the time: upgrade a module that is one step of the loop over time"
        raise bad_value("upgrade", must, f"{len(calls)} calls, which share its membrane", todo)


def _spikes_only(site: Site) -> None:
    for user in site.node.users:
        if _part(user):
            reader = next(iter(user.users))
            must = f"the membrane of {place(site.node)} must not be used; bitspike's neurons return spikes alone"
            where = "the return of the forward" if reader.op == "output" else place(reader)
            raise bad_value("upgrade", must, f"a use in {where}", "return and use the spikes only")


def called(graph: fx.Graph) -> list[str]:
    """Names of the modules that a graph calls."""
    return [wanted_name(node) for node in graph.nodes if node.op == "call_module"]


def put(home: nn.Module, name: str, module: nn.Module) -> None:
    """Set a submodule by its dotted name; containers on the way are made."""
    *parents, own = name.split(".")
    for parent in parents:
        if not hasattr(home, parent):
            home.add_module(parent, nn.Module())
        home = getattr(home, parent)
    setattr(home, own, module)
