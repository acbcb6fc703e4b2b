"""What runs inside of layers that `upgrade` leaves whole: activations, norms and weights that no pass sees."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.overrides import TorchFunctionMode

from bitspike.neurons import Neuron
from bitspike.upgrade.layers import Merged
from bitspike.upgrade.mapping import ACTIVATIONS, Choices, activation_function
from bitspike.upgrade.report import UpgradeReport
from bitspike.upgrade.trace import is_torch_layer, path_of

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm, nn.RMSNorm)
_WEIGHTED = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.Embedding, nn.RNNBase)
_SHOWN = 8
_WORK = ("linear", "bilinear", "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm",
         *(f"conv{turned}{axes}d" for turned in ("", "_transpose") for axes in (1, 2, 3)))  # fmt: skip


@dataclass
class Inside:
    """What was found.

    Attributes:
        activations: place → class, those of the mapping among them. others: norms, and layers with weights, place →
            class or function. normed: targets of the layers in which a batch norm runs.
    """

    activations: dict[str, type[nn.Module]] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    normed: set[str] = field(default_factory=set)

    def tell(self, report: UpgradeReport, choices: Choices) -> None:
        """Add it to a report, and warn of activations that the mapping would have replaced, had they been seen."""
        report.left_alone |= {name: kind.__name__ for name, kind in self.activations.items()}
        report.inside = dict(self.others)
        names = self._wanted(choices)
        if names:
            shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            warnings.warn(
                f"upgrade: {len(names)} activations that the mapping names stay as they are inside of layers that run "
                f"whole: {shown}; make leaves of smaller parts, around the code that cannot be traced alone.",
                UserWarning,
                stacklevel=4,
            )

    def _wanted(self, choices: Choices) -> list[str]:
        return [name for name, kind in self.activations.items() if choices.replaces(name, kind)]


@torch.no_grad()
def look_inside(body: fx.GraphModule, sequence: Tensor, choices: Choices) -> Inside:
    """Run a network over time once, in evaluation mode, and look into the layers that it calls whole.

    Modules are found whether they are called or not, functions where they are called.
    """
    found = Inside()
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it hides the activation
    try:
        _Looker(body, choices, found).run(sequence)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return found


def look_at_modules(root: nn.Module, graph: fx.Graph, choices: Choices) -> Inside:
    """The same without running: modules alone, in a user's graph."""
    found = Inside()
    for node in graph.nodes:
        if node.op == "call_module":
            module = root.get_submodule(str(node.target))
            for name, part, holder in _parts(module, path_of(str(node.target))):
                _note(found, name, part, holder, str(node.target), choices)
    return found


class _Looker(fx.Interpreter):
    def __init__(self, body: fx.GraphModule, choices: Choices, found: Inside) -> None:
        super().__init__(body, garbage_collect_values=True)
        self.choices, self.found = choices, found
        self.extra_traceback = False

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module = self.submodules[target]
        whole = module.body if isinstance(module, Merged) else module
        if not _closed(whole):
            return super().call_module(target, args, kwargs)
        paths = {}
        for name, part, holder in _parts(whole, str(target)):
            _note(self.found, name, part, holder, str(target), self.choices)
            paths[part] = name
        with _stack(paths) as stack, _Spy(self.found, str(target), stack):
            return super().call_module(target, args, kwargs)


def _closed(module: nn.Module) -> bool:
    """Whether a layer may hold what is not seen: it has parts or code of its own, and is none of ours."""
    if isinstance(module, Neuron) or type(module).__module__.startswith("bitspike."):
        return False
    code = isinstance(module, fx.GraphModule)
    return code or any(module.children()) or not type(module).forward.__module__.startswith("torch.")


def _parts(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module, nn.Module]]:
    """(name, module, layer it is a part of): the layer itself first; of code around layers, those layers."""
    if isinstance(module, fx.GraphModule):
        for node in module.graph.nodes:
            if node.op == "call_module":
                yield from _parts(module.get_submodule(str(node.target)), path_of(str(node.target)))
    elif _closed(module):
        for own, part in module.named_modules():
            yield ".".join(filter(None, (name, own))), part, module


def _note(found: Inside, name: str, part: nn.Module, holder: nn.Module, target: str, choices: Choices) -> None:
    if isinstance(part, _BatchNorm):
        found.normed.add(target)
    if part is holder:
        return
    if isinstance(part, (*ACTIVATIONS, *choices.classes)):
        found.activations[name] = type(part)
    elif isinstance(part, (*_NORMS, *_WEIGHTED)):
        found.others[name] = type(part).__name__


@contextmanager
def _stack(paths: dict[nn.Module, str]) -> Iterator[list[tuple[str, nn.Module]]]:
    """The modules that run at the moment, innermost last."""
    running: list[tuple[str, nn.Module]] = []
    hooks = []
    for module, name in paths.items():
        hooks.append(module.register_forward_pre_hook(lambda m, _, name=name: running.append((name, m))))
        hooks.append(module.register_forward_hook(lambda *_: running.pop() and None))
    try:
        yield running
    finally:
        for hook in hooks:
            hook.remove()


class _Spy(TorchFunctionMode):
    """Notes activations and other work that code does without a module."""

    def __init__(self, found: Inside, target: str, running: list[tuple[str, nn.Module]]) -> None:
        super().__init__()
        self.found, self.target, self.running = found, target, running

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.running:
            self._note(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))

    def _note(self, func: Any, args: Any, kwargs: dict[str, Any]) -> None:
        name, module = self.running[-1]
        kind = activation_function(func, args, kwargs)
        called = getattr(func, "__name__", "").strip("_")
        if kind is not None and not isinstance(module, ACTIVATIONS):
            self.found.activations[f"{name}.{called}"] = kind
        elif called in _WORK:
            if called == "batch_norm":
                self.found.normed.add(self.target)
            if not is_torch_layer(module):
                self.found.others[f"{name}.{called}"] = called
