"""Tracing a user's module for `upgrade`: leaves, names and lines, training against evaluation."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from bitspike.checks import bad_value
from bitspike.graph.modes import UntraceableError, cut, note_mode, watched
from bitspike.layers import Detach

_TORCH = os.path.dirname(torch.__file__) + os.sep
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_ROOT = "model"
_DROPOUTS = ("dropout", "alpha_dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout")


class _OneInput(nn.Module):
    """The model called with one input, so that its other arguments take their defaults."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Any) -> Any:
        return self.model(x)


class _Tracer(fx.Tracer):
    def __init__(self, leaf: Callable[[nn.Module, str], bool]) -> None:
        super().__init__()
        self.leaf = leaf
        self.path: list[str] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return self.leaf(m, path_of(module_qualified_name))

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        self.path.append(path_of(self.path_of_module(m)))
        result = super().call_module(m, forward, args, kwargs)
        self.path.pop()
        return result

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        node.meta["inside"] = self.path[-1] if self.path else ""
        node.meta["line"] = _line()
        note_mode(node)
        return node


def path_of(target: str) -> str:
    """A traced module's name in the user's model."""
    return target.removeprefix(_ROOT).removeprefix(".")


def _line() -> str:
    """ " (file:line)" of the user's code that is being traced; "" where only torch's containers call."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if frame.f_code is trace_user.__code__:
            return ""
        if name != __file__ and not name.startswith((_TORCH, "<eval_with_key>")):
            return f" ({name}:{frame.f_lineno})"
        frame = frame.f_back
    return ""


def place(node: fx.Node) -> str:
    """Where a node comes from: its module or function, the module around it and the line."""
    inside, line = node.meta.get("inside", ""), node.meta.get("line", "")
    if node.op == "call_module":
        return f"module {path_of(str(node.target))!r}{line}"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    where = f"module {inside!r}" if inside else "the forward"
    return f"{name} in {where}{line}"


def is_torch_layer(module: nn.Module) -> bool:
    """Whether a module is one of torch's layers, or of a class derived from one (containers are neither)."""
    names = (c.__module__ for c in type(module).__mro__ if c is not nn.Module and c not in _CONTAINERS)
    derived = any(n.startswith(("torch.nn.modules", "torch.nn.intrinsic", "torch.ao.nn")) for n in names)
    return derived and not isinstance(module, _CONTAINERS)


def trace_user(
    model: nn.Module, leaf: Callable[[nn.Module, str], bool], evaluation: bool = False
) -> tuple[nn.Module, fx.Graph]:
    """Trace a model in evaluation mode; targets start at the returned root.

    Args:
        model: a private copy; left in evaluation mode.
        leaf: (module, name) → whether it is called whole.
        evaluation: the model is done with training: what it does there is not looked at, and dropout is gone.

    Raises:
        ValueError: the code cannot be traced, keeps a value of the forward as state, or takes another path in training.
    """
    root = _OneInput(model)
    before = {module: dict(vars(module)) for module in model.modules()} if evaluation else {}
    other = _traced(root.train(not evaluation), leaf)
    _forget(before)
    graph = _traced(root.eval(), leaf)
    _forget(before)
    _kept_state(model)
    _same_code(root, other, graph)
    if evaluation:
        _without_dropout(graph)
    return root, graph


def _forget(before: dict[nn.Module, dict[str, Any]]) -> None:
    """Put attributes of modules that hold values of a traced call back to what they were; a model that reads what an
    earlier call left there gives another result the second time, and is refused for that."""
    for module, attributes in before.items():
        for key in [key for key, value in vars(module).items() if isinstance(value, fx.Proxy)]:
            if key in attributes:
                setattr(module, key, attributes[key])
            else:
                delattr(module, key)
        for held in [value for value in vars(module).values() if type(value) is dict]:
            for key in [key for key, value in held.items() if isinstance(value, fx.Proxy)]:
                del held[key]


def _without_dropout(graph: fx.Graph) -> None:
    """Bridge dropout functions that do nothing in evaluation mode."""
    for node in list(graph.nodes):
        if _is_dropout(node) and node.kwargs.get("training") is False and isinstance(node.args[0], fx.Node):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _traced(root: _OneInput, leaf: Callable[[nn.Module, str], bool]) -> fx.Graph:
    tracer = _Tracer(leaf)
    try:
        with watched():
            return tracer.trace(root)
    except Exception as error:
        where = tracer.path[-1] if tracer.path else ""
        frames = [
            f
            for f in traceback.extract_tb(error.__traceback__)
            if f.filename != __file__ and not f.filename.startswith(_TORCH)
        ]
        line = f"{frames[-1].filename}:{frames[-1].lineno} ({frames[-1].line})" if frames else "its call"
        must = "the forward must be traceable with one input and without running it"
        named = f"module {where!r}" if where else type(root.model).__name__
        got = f"{type(error).__name__} in {named} at {line}: {error}"
        todo = "move code that branches on values or shapes into a module of its own and name its class in leaves"
        if "item assignment" in str(error):
            todo = "write it as a new tensor (torch.where, torch.cat)"
        if "'len' is not supported" in str(error):
            todo = "write x.shape[0] for len(x)"
        if isinstance(error, UntraceableError):
            todo = error.todo or "put it into a module of its own and name its class in leaves"
        raise bad_value("upgrade", must, got, todo) from error


def _kept_state(model: nn.Module) -> None:
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            held = value.values() if isinstance(value, dict) else [value]
            if any(isinstance(v, fx.Proxy) for v in held):
                must = f"module {name or type(model).__name__!r} must keep no value of the forward"
                todo = f"map its class to a neuron: {{{type(module).__name__}: LIF(...)}}"
                raise bad_value("upgrade", must, f"state in its attribute {key!r}", todo)


def _same_code(root: nn.Module, training: fx.Graph, evaluation: fx.Graph) -> None:
    """Turn dropout functions that follow the training mode into modules; refuse any other difference."""
    ours, other = list(evaluation.nodes), list(training.nodes)
    seen = [_described(root, graph) for graph in (evaluation, training)]
    different = [a for a, here, there in zip(ours, *seen, strict=False) if here != there]
    if different or len(ours) != len(other):
        first = different[0] if different else ours[min(len(other), len(ours)) - 1]
        must = "the forward must do the same in training and in evaluation, and the same in every call"
        todo = "put the part that reads self.training or draws numbers into a module of its own, its class into leaves"
        raise bad_value("upgrade", must, f"a difference at {place(first)}", todo)
    for a, b in zip(ours, other, strict=True):
        if _is_dropout(a) and a.kwargs.get("training") != b.kwargs.get("training"):
            a.meta["dropout"] = True
        a.meta["grad"] = b.meta["grad"]  # of a block that reads self.training, what it does in training


def stop_gradients(root: nn.Module, graph: fx.Graph) -> None:
    """Put a `Detach` where the forward stops gradients: ``no_grad`` and its kin, ``x.detach()``."""
    home = root.get_submodule(_ROOT)

    def add(name: str) -> str:
        name = name.removeprefix(f"{_ROOT}_")
        while hasattr(home, name):
            name += "_"
        home.add_module(name, Detach())
        return f"{_ROOT}.{name}"

    cut(graph, add)


def _is_dropout(node: fx.Node) -> bool:
    return node.op == "call_function" and getattr(node.target, "__name__", "") in _DROPOUTS


def _described(root: nn.Module, graph: fx.Graph) -> list[str]:
    """One line a node, in which other nodes are numbers; a dropout's training argument is left out."""
    number = {node: f"%{i}" for i, node in enumerate(graph.nodes)}
    found = []
    for node in graph.nodes:
        kwargs = {k: v for k, v in node.kwargs.items() if k != "training" or not _is_dropout(node)}
        args, kwargs = fx.node.map_arg((node.args, kwargs), lambda n: number[n])
        constant = node.op == "get_attr" and str(node.target).startswith("_tensor_constant")
        target = getattr(root, str(node.target)) if constant else node.target
        found.append(f"{node.op} {target} {args} {kwargs}")
    return found
