"""Tracing a user's module for `upgrade`: leaves, names and lines, training against evaluation, no in-place writes."""

from __future__ import annotations

import operator
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitspike.checks import bad_value

_TORCH = os.path.dirname(torch.__file__) + os.sep
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_ROOT = "model"
_DROPOUTS = ("dropout", "alpha_dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout")
_SAME_OUT_OF_PLACE = {getattr(operator, f"i{n}"): getattr(operator, n) for n in ("add", "sub", "mul", "truediv")}


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
        return node


def path_of(target: str) -> str:
    """A traced module's name in the user's model."""
    return target.removeprefix(_ROOT).removeprefix(".")


def _line() -> str:
    frame = sys._getframe(1)
    while frame.f_back is not None:
        name = frame.f_code.co_filename
        if name != __file__ and not name.startswith((_TORCH, "<eval_with_key>")):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "an unknown line"


def place(node: fx.Node) -> str:
    """Where a node comes from: its module or function, the module around it and the line."""
    inside = node.meta.get("inside", "")
    if node.op == "call_module":
        return f"module {path_of(str(node.target))!r} ({node.meta.get('line')})"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return f"{name} in {f'module {inside!r}' if inside else 'the forward'} ({node.meta.get('line')})"


def is_torch_layer(module: nn.Module) -> bool:
    """Whether a module is one of torch's layers, or of a class derived from one (containers are neither)."""
    names = (c.__module__ for c in type(module).__mro__ if c is not nn.Module and c not in _CONTAINERS)
    derived = any(n.startswith(("torch.nn.modules", "torch.nn.intrinsic", "torch.ao.nn")) for n in names)
    return derived and not isinstance(module, _CONTAINERS)


def trace_user(model: nn.Module, leaf: Callable[[nn.Module, str], bool]) -> tuple[nn.Module, fx.Graph]:
    """Trace a model in evaluation mode, without in-place writes; targets start at the returned root.

    Args:
        model: a private copy; left in evaluation mode, its leaves no longer write in place.
        leaf: (module, name) → whether it is called whole.

    Raises:
        ValueError: the code cannot be traced, keeps a value of the forward as state, or takes another path in training.
    """
    root = _OneInput(model)
    training = _traced(root.train(), leaf)
    graph = _traced(root.eval(), leaf)
    _kept_state(model)
    _same_code(training, graph)
    _out_of_place(root, graph)
    graph.eliminate_dead_code()
    graph.lint()
    return root, graph


def _traced(root: _OneInput, leaf: Callable[[nn.Module, str], bool]) -> fx.Graph:
    tracer = _Tracer(leaf)
    try:
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
        got = f"{type(error).__name__} in {f'module {where!r}' if where else type(root.model).__name__} at {line}: {error}"
        todo = "move code that branches on values or shapes into a module of its own and name its class in leaves"
        raise bad_value("upgrade", must, got, todo) from error


def _kept_state(model: nn.Module) -> None:
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            held = value.values() if isinstance(value, dict) else [value]
            if any(isinstance(v, fx.Proxy) for v in held):
                must = f"module {name or type(model).__name__!r} must keep no value of the forward"
                todo = f"map its class to a neuron: {{{type(module).__name__}: LIF(...)}}"
                raise bad_value("upgrade", must, f"state in its attribute {key!r}", todo)


def _same_code(training: fx.Graph, evaluation: fx.Graph) -> None:
    """Turn dropout functions that follow the training mode into modules; refuse any other difference."""
    ours, other = list(evaluation.nodes), list(training.nodes)
    seen = [_described(graph) for graph in (evaluation, training)]
    different = [a for a, here, there in zip(ours, *seen, strict=False) if here != there]
    if different or len(ours) != len(other):
        first = different[0] if different else ours[min(len(other), len(ours)) - 1]
        must = "the forward must do the same in training and in evaluation, and the same in every call"
        todo = "put the part that reads self.training or draws numbers into a module of its own, its class into leaves"
        raise bad_value("upgrade", must, f"a difference at {place(first)}", todo)
    for a, b in zip(ours, other, strict=True):
        if _is_dropout(a) and a.kwargs.get("training") != b.kwargs.get("training"):
            a.meta["dropout"] = True


def _is_dropout(node: fx.Node) -> bool:
    return node.op == "call_function" and getattr(node.target, "__name__", "") in _DROPOUTS


def _described(graph: fx.Graph) -> list[str]:
    """One line a node, in which other nodes are numbers; a dropout's training argument is left out."""
    number = {node: f"%{i}" for i, node in enumerate(graph.nodes)}
    found = []
    for node in graph.nodes:
        kwargs = {k: v for k, v in node.kwargs.items() if k != "training" or not _is_dropout(node)}
        args, kwargs = fx.node.map_arg((node.args, kwargs), lambda n: number[n])
        target = getattr(graph.owning_module, str(node.target), None) if node.op == "get_attr" else node.target
        found.append(f"{node.op} {target} {args} {kwargs}")
    return found


def _out_of_place(root: nn.Module, graph: fx.Graph) -> None:
    """Replace every in-place operation by the ordinary one; later readers of what it wrote to read its result."""
    for node in list(graph.nodes):
        if not _writes(root, node):
            continue
        written = node.args[0] if node.args else None
        if not isinstance(written, fx.Node) or node.target is operator.setitem:
            must = "an in-place write must return what it wrote"
            raise bad_value("upgrade", must, place(node), "write it as a new tensor (torch.where, torch.cat)")
        before = set()
        for other in graph.nodes:
            if other is node:
                break
            before.add(other)
        node.meta["was_in_place"] = True
        written.replace_all_uses_with(
            node, delete_user_cb=lambda user, b=before, n=node: user not in b and user is not n
        )
        _pure(node)
    for module in root.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]


def _writes(root: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return getattr(root.get_submodule(str(node.target)), "inplace", False) is True
    if node.op == "call_method":
        return str(node.target).endswith("_") and not str(node.target).endswith("__")
    if node.op != "call_function":
        return False
    name = getattr(node.target, "__name__", "")
    written = name.endswith("_") and not name.startswith("_")
    return written or node.kwargs.get("inplace") is True or name in ("iadd", "isub", "imul", "itruediv", "setitem")


def _pure(node: fx.Node) -> None:
    if node.op == "call_module":
        return
    if node.kwargs.get("inplace"):
        node.kwargs = {**node.kwargs, "inplace": False}
    target = node.target
    if isinstance(target, str):
        plain = target[:-1] if hasattr(Tensor, target[:-1]) else None
    elif target in _SAME_OUT_OF_PLACE:
        node.target = _SAME_OUT_OF_PLACE[target]
        return
    else:
        name = target.__name__
        plain = (
            getattr(torch, name[:-1], None) or getattr(nn.functional, name[:-1], None) if name.endswith("_") else target
        )
    if plain is None:
        must = "an in-place operation must have an ordinary form"
        raise bad_value("upgrade", must, place(node), "write it out of place")
    node.target = plain
