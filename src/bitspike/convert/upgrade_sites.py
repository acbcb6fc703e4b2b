"""Where `upgrade` puts neurons: activations by class, as modules, functions or methods, and what a mapping says of them."""

from __future__ import annotations

import copy
import fnmatch
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Union

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from bitspike.checks import bad_type, bad_value
from bitspike.convert.upgrade_trace import is_torch_layer, path_of, place
from bitspike.layers import TimeLayer
from bitspike.neurons import Neuron

Choice = Union[nn.Module, None, Callable[[Any], Any]]
Replacements = Mapping[Union[type[nn.Module], str], Choice]
KEEP = object()  # no key of the mapping speaks of a site

_NAMES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu", nn.ReLU6: "relu6", nn.LeakyReLU: "leaky_relu", nn.PReLU: "prelu", nn.RReLU: "rrelu",
    nn.ELU: "elu", nn.SELU: "selu", nn.CELU: "celu", nn.GELU: "gelu", nn.SiLU: "silu", nn.Mish: "mish", nn.GLU: "glu",
    nn.Softplus: "softplus", nn.Softsign: "softsign", nn.Softmax: "softmax", nn.LogSoftmax: "log_softmax",
    nn.Sigmoid: "sigmoid", nn.LogSigmoid: "logsigmoid", nn.Hardsigmoid: "hardsigmoid", nn.Tanh: "tanh",
    nn.Hardtanh: "hardtanh", nn.Hardswish: "hardswish", nn.Hardshrink: "hardshrink", nn.Softshrink: "softshrink",
    nn.Tanhshrink: "tanhshrink", nn.Threshold: "threshold",
}  # fmt: skip
_METHODS = {name: kind for kind, name in _NAMES.items() if hasattr(Tensor, name)}
_FUNCTIONS = {getattr(home, name): kind for kind, name in _NAMES.items() for home in (F, torch) if hasattr(home, name)}
_CLAMPS = ("clamp", "clamp_min", "clip")


def activation(root: nn.Module, node: fx.Node) -> type[nn.Module] | None:
    """The class of activation that a call is, or None."""
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        return type(module) if isinstance(module, tuple(_NAMES)) else None
    if _is_relu(node):
        return nn.ReLU
    if node.op == "call_method":
        return _METHODS.get(str(node.target))
    return _FUNCTIONS.get(node.target) if node.op == "call_function" else None


def _is_relu(node: fx.Node) -> bool:
    """``clamp(x, min=0)`` in one of its spellings."""
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    if node.op not in ("call_method", "call_function") or name not in _CLAMPS:
        return False
    limits = {**dict(zip(("min", "max"), node.args[1:], strict=False)), **node.kwargs}
    return limits.get("min") == 0 and limits.get("max") is None


def remembers(module: nn.Module) -> str:
    """Why a foreign module is known to keep a state between calls; "" if it is not.

    SpikingJelly's stateful modules list their memories, snnTorch's neurons derive from its SpikingNeuron.
    """
    if getattr(module, "_memories", None):
        return f"SpikingJelly's {type(module).__name__}"
    if any(c.__name__ == "SpikingNeuron" for c in type(module).__mro__):
        return f"snnTorch's {type(module).__name__}"
    return ""


class Choices:
    """A checked mapping, and which of its keys have been used.

    Args:
        mapping: class of module, or name or shell pattern of a site → prototype, function of the module, or None.
    """

    def __init__(self, mapping: Replacements) -> None:
        if not isinstance(mapping, Mapping) or not mapping:
            must = "the mapping must be a dict with an entry, such as {nn.ReLU: MultiBit()}"
            raise bad_type("upgrade", must, type(mapping).__name__ if mapping else "none", "say what becomes a neuron")
        for key, value in mapping.items():
            if not isinstance(key, str) and not (isinstance(key, type) and issubclass(key, nn.Module)):
                must = "a key must be a class of modules or the name of a place"
                raise bad_type("upgrade", must, key, "nn.ReLU stands for F.relu, torch.relu and x.relu() too")
            if isinstance(value, type) or not (value is None or isinstance(value, nn.Module) or callable(value)):
                must = f"the value of {_shown(key)} must be a neuron, a function of the module, or None (left alone)"
                raise bad_type("upgrade", must, value, "pass an object, such as LIF(), not its class")
        self.mapping, self.used = mapping, set[Any]()
        self.classes = tuple(key for key in mapping if isinstance(key, type))
        self.names = [key for key in mapping if isinstance(key, str)]

    def leaf(self, module: nn.Module, name: str) -> bool:
        """Whether the mapping speaks of a module itself."""
        named = any(fnmatch.fnmatchcase(name, pattern) for pattern in self.names) and not list(module.children())
        return isinstance(module, self.classes) or (named and bool(name))

    def exact(self, module: nn.Module, name: str) -> bool:
        """Whether the class or the full name of a module is a key."""
        return isinstance(module, self.classes) or name in self.names

    def of(self, name: str, kind: type[nn.Module] | None) -> Any:
        """What to put at a site: its exact name comes first, then patterns in order, then the nearest class."""
        found = [p for p in self.names if p == name] or [p for p in self.names if fnmatch.fnmatchcase(name, p)]
        keys: list[Any] = [*found, *(c for c in (kind.__mro__ if kind else ()) if c in self.mapping)]
        if not keys:
            return KEEP
        self.used.add(keys[0])
        return self.mapping[keys[0]]

    def check_used(self, sites: list[str]) -> None:
        """Raise `ValueError` if a key spoke of nothing."""
        idle = [_shown(key) for key in self.mapping if key not in self.used]
        if idle:
            must = f"every key must match a place; these are: {', '.join(sites) or 'none'}"
            raise bad_value("upgrade", must, f"{', '.join(idle)} that match none", "correct or remove them")


def _shown(key: type | str) -> str:
    return repr(key) if isinstance(key, str) else key.__name__


@dataclass
class Site:
    """One call that may become a neuron.

    Attributes:
        node: the call. name: unique. kind: class of the activation. module: what is called, None for a function.
        memory: what it remembers, see `remembers`. choice: value of the mapping, or `KEEP`.
    """

    node: fx.Node
    name: str
    kind: type[nn.Module]
    module: nn.Module | None
    memory: str
    choice: Any

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
        self.reserved, self.used = set(taken), set[str]()

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
            if choices.leaf(module, wanted) and not (is_torch_layer(module) and not choices.exact(module, wanted)):
                kind = type(module)
        if kind is not None:
            name = names.take(wanted, own=module is not None)
            memory = remembers(module) if module is not None else ""
            sites.append(Site(node, name, kind, module, memory, choices.of(name, kind)))
    for site in sites:
        if site.memory or _hands_on_state(site):
            _once(site, [other.node for other in sites if other.module is site.module])
            _spikes_only(site)
    return sites


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


def instance(choice: Choice, module: nn.Module | None, where: str, like: Tensor) -> nn.Module | None:
    """The module for one site: a copy of the prototype, sized for ``like`` [B, C, ...]; None: leave the site alone.

    Args:
        choice: value of the mapping. module: what is replaced; None for a function. where: for messages.
    """
    made = choice if choice is None or isinstance(choice, nn.Module) else choice(module)
    if made is None:
        return None
    if isinstance(made, Neuron):
        return made.replicate(like.shape[1] if like.dim() > 1 else 1).to(like)
    if not isinstance(made, (TimeLayer, nn.Identity, nn.Dropout, nn.ReLU)):
        must = "the mapping must give a neuron, a TimeLayer, nn.Identity or nn.Dropout"
        raise bad_type(f"upgrade {where}", must, type(made).__name__, "other layers belong into the model")
    return copy.deepcopy(made).to(like)
