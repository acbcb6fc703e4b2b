"""Tracing a user's module for `upgrade`: leaves, names and lines, training against evaluation."""

from __future__ import annotations

import copy
import difflib
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitspike.checks import bad_value
from bitspike.graph import modes
from bitspike.graph.modes import UntraceableError, cut, note_mode, watched
from bitspike.layers import Detach
from bitspike.upgrade.recorded import recorded

_TORCH = os.path.dirname(torch.__file__) + os.sep
_HERE = os.path.dirname(__file__) + os.sep, os.path.dirname(modes.__file__) + os.sep
_FEW = 5
_REMEDY = "move code that branches on values into a module of its own and name its class in leaves"
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_ROOT = "model"
_DROPOUTS = ("dropout", "alpha_dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout")


class Root(nn.Module):
    """The model called with one input, so that its other arguments take their defaults.

    Attributes:
        fixed_shape: of a sample, where the code has read sizes that hold for it alone; else None.
        only_in_training: places where training mode takes another way, which the graph leaves out.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.fixed_shape: tuple[int, ...] | None = None
        self.only_in_training: list[str] = []

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
        if not name.startswith((_TORCH, *_HERE, "<eval_with_key>")) and os.sep + "einops" + os.sep not in name:
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
    model: nn.Module,
    leaf: Callable[[nn.Module, str], bool],
    sample: Tensor | None = None,
    evaluation: bool = False,
) -> tuple[Root, fx.Graph]:
    """Trace a model in evaluation mode; targets start at the returned root.

    Symbolically first, for inputs of any size. What that refuses is run on the sample instead, see `recorded`.

    Args:
        model: a private copy; left in evaluation mode.
        leaf: (module, name) → whether it is called whole.
        sample: inputs [B, ...], or None: nothing is run.
        evaluation: the model is done with training: what it does there is not looked at, and dropout is gone.

    Raises:
        ValueError: the code cannot be traced, or keeps a value of the forward as state.
    """
    root = Root(model)
    before = {module: dict(vars(module)) for module in model.modules()} if evaluation else {}
    try:
        training: fx.Graph | None = _traced(root.train(not evaluation), leaf)
        _forget(before)
        graph = _traced(root.eval(), leaf)
        _forget(before)
        _kept_state(model, lambda value: isinstance(value, fx.Proxy))
    except ValueError as error:
        if sample is None or not len(sample) or isinstance(error.__cause__, UntraceableError):
            raise
        graph, training = _run(root, leaf, sample, error, evaluation)
    root.eval()
    root.only_in_training = _other_code(root, training, graph)
    if evaluation and root.only_in_training:
        must = "the forward must do the same in every call"
        todo = "put what draws numbers or keeps a state into a module of its own and name its class in leaves"
        raise bad_value("upgrade", must, f"a difference at {root.only_in_training[0]}", todo)
    if evaluation:
        _without_dropout(graph)
    return root, graph


def _run(
    root: Root, leaf: Callable[[nn.Module, str], bool], sample: Tensor, refused: ValueError, evaluation: bool
) -> tuple[fx.Graph, fx.Graph | None]:
    """The graphs of runs in evaluation and in training mode; None where training code cannot be followed."""
    few = sample.detach()[:_FEW]
    few = torch.cat([few, few]) if len(few) == 1 else few
    try:
        run = recorded(root.eval(), leaf, few, _line)
    except UntraceableError as error:
        must = "the forward must be traceable, or run on a sample in a way that values do not decide"
        todo = error.todo or _REMEDY
        raise bad_value("upgrade", must, error, todo) from refused
    except Exception as error:
        must, got = "the model must run on the sample", f"{type(error).__name__}: {error}"
        raise bad_value("upgrade", must, got, f"pass another; it is run because {refused}") from error
    root.fixed_shape = tuple(sample.shape[1:])
    if evaluation:
        return run.graph, run.graph
    _kept_state(root.model, lambda value: isinstance(value, Tensor) and id(value) in run.carries)
    with torch.random.fork_rng(devices=[]):
        try:
            other = copy.deepcopy(root)  # training changes statistics
            return run.graph, recorded(other.train(), leaf, few, _line).graph
        except Exception:
            return run.graph, None


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


def _traced(root: Root, leaf: Callable[[nn.Module, str], bool]) -> fx.Graph:
    tracer = _Tracer(leaf)
    try:
        with watched():
            return tracer.trace(root)
    except Exception as error:
        where = tracer.path[-1] if tracer.path else ""
        frames = [
            f
            for f in traceback.extract_tb(error.__traceback__)
            if not f.filename.startswith((_TORCH, *_HERE)) and f.filename != "<frozen importlib._bootstrap>"
        ]
        line = f"{frames[-1].filename}:{frames[-1].lineno} ({frames[-1].line})" if frames else "its call"
        named = f"module {where!r}" if where else type(root.model).__name__
        got = f"{type(error).__name__} in {named} at {line}: {error}"
        must = "the forward must be traceable with one input and without running it"
        todo = f"pass sample=..., on which the code is then run; or {_REMEDY}"
        if "item assignment" in str(error):
            todo = "write it as a new tensor (torch.where, torch.cat)"
        if "'len' is not supported" in str(error):
            todo = "write x.shape[0] for len(x)"
        if isinstance(error, UntraceableError):
            todo = error.todo or "put it into a module of its own and name its class in leaves"
        raise bad_value("upgrade", must, got, todo) from error


def _kept_state(model: nn.Module, made: Callable[[Any], bool]) -> None:
    """Raise `ValueError` where a module has kept a value that the forward made."""
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            held = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
            if any(made(v) for v in held):
                must = f"module {name or type(model).__name__!r} must keep no value of the forward"
                todo = f"map its class to a neuron: {{{type(module).__name__}: LIF(...)}}"
                raise bad_value("upgrade", must, f"state in its attribute {key!r}", todo)


def _other_code(root: nn.Module, training: fx.Graph | None, evaluation: fx.Graph) -> list[str]:
    """Where training takes another way than evaluation; dropout functions that follow the mode become modules."""
    if training is None:
        return ["code of training mode, which cannot be followed"]
    ours, theirs = list(evaluation.nodes), list(training.nodes)
    seen = [[_described(root, node) for node in nodes] for nodes in (ours, theirs)]
    other = []
    for tag, start, stop, first, last in difflib.SequenceMatcher(None, seen[0], seen[1], autojunk=False).get_opcodes():
        if tag != "equal":
            here, there = ours[start:stop], theirs[first:last]
            if here and there and all(_is_constant(node) for node in (here[0], there[0])):
                must = "the forward must do the same in every call"
                got = f"a difference at {place(here[0])}, a constant"
                raise bad_value("upgrade", must, got, "keep random numbers out of the forward, or make them a buffer")
            other += [place(node) for node in there or here if node.op not in ("output", "get_attr")][:1]
            continue
        for a, b in zip(ours[start:stop], theirs[first:last], strict=True):
            if _is_dropout(a) and a.kwargs.get("training") != b.kwargs.get("training"):
                a.meta["dropout"] = True
            a.meta["grad"] = b.meta["grad"]  # of a block that reads self.training, what it does in training
    return other


def _is_constant(node: fx.Node) -> bool:
    return node.op == "get_attr" and str(node.target).startswith("_tensor_constant")


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


def _described(root: nn.Module, node: fx.Node) -> str:
    """What a node does; what it reads is left out, and a dropout's training argument."""
    kwargs = {k: v for k, v in node.kwargs.items() if k != "training" or not _is_dropout(node)}
    args, kwargs = fx.node.map_arg((node.args, kwargs), lambda n: None)
    target = getattr(root, str(node.target)) if _is_constant(node) else node.target
    return f"{node.op} {target} {args} {kwargs}"
