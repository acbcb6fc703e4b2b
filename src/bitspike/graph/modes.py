"""Gradient modes of a traced forward: what torch.fx forgets (no_grad blocks), or cannot know and must be refused."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

_DETACHES: tuple[Any, ...] = (torch.detach, torch.Tensor.detach)
_NEUTRAL = ("placeholder", "get_attr", "output")


class UntraceableError(ValueError):
    """Code whose meaning a trace would lose. ``todo``: what to do instead."""

    def __init__(self, what: str, todo: str) -> None:
        super().__init__(what)
        self.todo = todo


def note_mode(item: fx.Node) -> None:
    """Note on a node that is being traced whether its forward computes it with gradients."""
    item.meta["grad"] = torch.is_grad_enabled() or item.op in _NEUTRAL


def without_gradient(item: fx.Node) -> bool:
    """Whether the forward computes a node inside of ``torch.no_grad()`` or another block of its kind."""
    return item.meta.get("grad") is False


def detaches(item: fx.Node) -> bool:
    """Whether a node is ``x.detach()`` in one of its spellings, ``x.data`` among them."""
    if item.op == "call_method":
        return item.target == "detach"
    data = item.target is getattr and len(item.args) == 2 and item.args[1] == "data"
    return item.op == "call_function" and (data or item.target in _DETACHES)


def _no_autocast(self: Any) -> Any:
    what = f"torch.autocast({self.device!r}, enabled={self._enabled}) in the forward, whose types a trace loses"
    raise UntraceableError(what, "take it out of the forward and call the network inside of torch.autocast instead")


def _no_saving(self: Any) -> Any:
    what = "torch.utils.checkpoint, or another block that says how values are saved for the backward pass"
    raise UntraceableError(what, "call the function itself in the forward: no value depends on how it is saved")


def _no_apply(cls: Any) -> Any:
    if cls.__module__.startswith("torch.utils.checkpoint"):
        _no_saving(cls)
    raise UntraceableError(f"{cls.__name__}.apply, a torch.autograd.Function, whose backward pass a trace loses", "")


@contextmanager
def watched(traces: Callable[[], bool] = lambda: True, values: type = fx.Proxy) -> Iterator[None]:
    """Trace with gradients on at first, whatever the caller's mode; afterwards that is as it was.

    Args:
        traces: whether a call is written down now; inside of a leaf that is run it is not. values: what is traced.

    Raises:
        UntraceableError: the forward enters ``torch.autocast`` or ``torch.utils.checkpoint``, or calls a
            ``torch.autograd.Function``, whose backward pass a trace of its forward loses.
    """
    enter, save = torch.autocast.__enter__, torch.autograd.graph.saved_tensors_hooks.__enter__
    apply = torch.autograd.Function.__dict__["apply"]

    def applied(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if traces() and any(isinstance(value, values) for value in (*args, *kwargs.values())):
            _no_apply(cls)
        return apply.__func__(cls, *args, **kwargs)

    patches: tuple[tuple[type, str, Any], ...] = (
        (torch.autocast, "__enter__", lambda self: _no_autocast(self) if traces() else enter(self)),
        (torch.autograd.graph.saved_tensors_hooks, "__enter__", lambda s: _no_saving(s) if traces() else save(s)),
        (torch.autograd.Function, "apply", classmethod(applied)),
    )
    before = [kind.__dict__[name] for kind, name, _ in patches]
    for kind, name, refusal in patches:
        setattr(kind, name, refusal)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for (kind, name, _), own in zip(patches, before, strict=True):
            setattr(kind, name, own)


def cut(graph: fx.Graph, add: Callable[[str], str]) -> None:
    """Put a `Detach` behind every value that is made without gradient and read where there are gradients.

    Nothing flows back through such an edge, so neither what was made nor the parameters that made it get a gradient,
    which is what the block says. ``x.detach()`` becomes a `Detach` too, so that every pass knows it.

    Args:
        add: makes a `Detach` under a name, or one like it, and returns the target of its calls.
    """
    for item in list(graph.nodes):
        if detaches(item):
            with graph.inserting_after(item):
                made = graph.call_module(add(f"{item.name}_detached"), (item.args[0],))
            made.meta = dict(item.meta)
            item.replace_all_uses_with(made)
            graph.erase_node(item)
        elif _sizes(item):
            item.meta["grad"] = True  # numbers
        elif item.target is operator.getitem and any(without_gradient(source) for source in item.all_input_nodes):
            item.meta["grad"] = False  # a part of a tuple: what reads that is cut off from it
    for item in list(graph.nodes):
        readers = [user for user in item.users if not without_gradient(user)]
        if not without_gradient(item) or not readers:
            continue
        with graph.inserting_after(item):
            made = graph.call_module(add(f"{item.name}_detached"), (item,))
        made.meta = {**item.meta, "grad": True}
        for user in readers:
            user.replace_input_with(item, made)


def _sizes(item: fx.Node) -> bool:
    """Whether a node reads the shape of a tensor, or a number from it."""
    if item.target is operator.getitem and isinstance(item.args[0], fx.Node):
        return _sizes(item.args[0])
    if item.target is getattr:
        return item.args[1] in ("shape", "ndim", "dtype", "device")
    return item.op == "call_method" and item.target in ("size", "dim", "numel", "ndimension")
