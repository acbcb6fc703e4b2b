"""What `upgrade` may replace, and what a mapping says of it: activations as modules, functions or methods."""

from __future__ import annotations

import copy
import fnmatch
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from bitspike.checks import bad_type, bad_value
from bitspike.layers import TimeLayer
from bitspike.neurons import Neuron

Choice = nn.Module | Callable[[Any], Any] | None
Replacements = Mapping[type[nn.Module] | str, Choice]
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
ACTIVATIONS = tuple(_NAMES)
_CLAMPS = ("clamp", "clamp_min", "clip")


def activation(root: nn.Module, node: fx.Node) -> type[nn.Module] | None:
    """The class of activation that a call is, or None."""
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        return type(module) if isinstance(module, ACTIVATIONS) else None
    limits = clamped(node.target, node.args, node.kwargs) if node.op in ("call_method", "call_function") else None
    if limits is not None:
        return _clamp(limits)
    if node.op == "call_method":
        return _METHODS.get(str(node.target))
    return _FUNCTIONS.get(node.target) if node.op == "call_function" else None


def _clamp(limits: tuple[float, float]) -> type[nn.Module] | None:
    return nn.ReLU if limits == (0, math.inf) else nn.Hardtanh if math.isfinite(sum(limits)) else None


def activation_function(target: Any, args: Any, kwargs: Any) -> type[nn.Module] | None:
    """The class of activation that a call of a function or method of torch is, in place or not; None if it is none."""
    name = getattr(target, "__name__", "")
    homes = [home for home in (F, torch, Tensor) if getattr(home, name, None) is target]
    if not homes:
        return None
    plain = name.removesuffix("_")
    limits = clamped(plain, args, kwargs)
    return _clamp(limits) if limits is not None else next((k for k, n in _NAMES.items() if n == plain), None)


def clamped(target: Any, args: Any, kwargs: Any) -> tuple[float, float] | None:
    """Least and greatest value of a ``clamp`` between numbers, in one of its spellings; infinite where it has none."""
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    if name not in _CLAMPS:
        return None
    limits = {**dict(zip(("min", "max"), args[1:], strict=False)), **kwargs}
    low, high = limits.get("min"), limits.get("max")
    low, high = (-math.inf if low is None else low), (math.inf if high is None else high)
    return (low, high) if isinstance(low, (int, float)) and isinstance(high, (int, float)) else None


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
        self.mapping = mapping
        self.used: set[Any] = set()
        self.classes: tuple[type[nn.Module], ...] = tuple(key for key in mapping if isinstance(key, type))
        self.names: list[str] = [key for key in mapping if isinstance(key, str)]

    def leaf(self, module: nn.Module, name: str) -> bool:
        """Whether the mapping speaks of a module itself."""
        single = bool(name) and not list(module.children()) and not isinstance(module, nn.Sequential)
        named = single and any(fnmatch.fnmatchcase(name, pattern) for pattern in self.names)
        return named or isinstance(module, self.classes)

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

    def replaces(self, name: str, kind: type[nn.Module]) -> bool:
        """Whether the mapping would put something at a place."""
        before = set(self.used)
        choice = self.of(name, kind)
        self.used = before
        return choice is not KEEP and choice is not None

    def check_used(self, sites: list[str], inside: list[str]) -> None:
        """Raise `ValueError` if a key spoke of nothing; ``inside``: places that a leaf holds."""
        idle = [_shown(key) for key in self.mapping if key not in self.used]
        if idle:
            must = f"every key must match a place; these are: {', '.join(sites) or 'none'}"
            must += f" (not those inside of leaves, which run whole: {', '.join(inside)})" if inside else ""
            raise bad_value("upgrade", must, f"{', '.join(idle)} that match none", "correct or remove them")


def _shown(key: type | str) -> str:
    return repr(key) if isinstance(key, str) else key.__name__


def instance(
    choice: Choice, module: nn.Module | None, where: str, like: Tensor, channel_dim: int | None = None
) -> nn.Module | None:
    """The module for one site: a copy of the prototype, sized for ``like`` [B, C, ...]; None: leave the site alone.

    Args:
        choice: value of the mapping. module: what is replaced; None for a function. where: for messages.
        channel_dim: axis of the channels of ``like``, if known; what a neuron was told itself goes before it.
    """
    made = choice if choice is None or isinstance(choice, nn.Module) else choice(module)
    if made is None:
        return None
    if isinstance(made, Neuron):
        told = made.emission.channel_dim or channel_dim
        if like.dim() == 3 and told is None and made.format.amplitude == "channel":
            must = "which of three axes the channels are must be known where neurons have numbers per channel"
            todo = "map to neuron.replicate(1, channel_dim=-1) for tokens [B, N, F], channel_dim=1 for [B, C, L]"
            raise bad_value(f"upgrade {where}", must, list(like.shape), todo)
        sides = like.shape[1:] or (1,)
        return made.replicate(sides[-1] if told == -1 else sides[0], told).to(like)
    if not isinstance(made, (TimeLayer, nn.Identity, nn.Dropout, nn.ReLU)):
        must = "the mapping must give a neuron, a TimeLayer, nn.Identity or nn.Dropout"
        raise bad_type(f"upgrade {where}", must, type(made).__name__, "other layers belong into the model")
    return copy.deepcopy(made).to(like)
