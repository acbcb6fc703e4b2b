"""Code that writes in place, as code that does not."""

from __future__ import annotations

import linecache
import operator
import re
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitspike.checks import bad_value
from bitspike.graph.modes import without_gradient
from bitspike.upgrade.trace import place, stop_gradients

_SAME_OUT_OF_PLACE = {getattr(operator, f"i{n}"): getattr(operator, n) for n in ("add", "sub", "mul", "truediv")}


def out_of_place(root: nn.Module, graph: fx.Graph) -> None:
    """Replace every in-place operation by the ordinary one; later readers of what it wrote to read its result.

    What nothing reads is removed; a `Detach` stands where gradients end. Leaves of the model no longer write in place.

    Raises:
        ValueError: a write that returns nothing, or one that hides from gradients; names the place.
    """
    order = list(graph.nodes)
    for node in order:
        if not node.args and "input" in node.kwargs:
            node.args = (node.kwargs["input"],)
            node.kwargs = {k: v for k, v in node.kwargs.items() if k != "input"}
    for index, node in enumerate(order):
        if without_gradient(node) and (_writes(root, node) or "=" in _source(node)):
            _check_hidden(node)
        if not _writes(root, node):
            continue
        written = node.args[0] if node.args else None
        if not isinstance(written, fx.Node) or node.target is operator.setitem:
            must = "an in-place write must return what it wrote"
            raise bad_value("upgrade", must, place(node), "write it as a new tensor (torch.where, torch.cat)")
        node.meta["was_in_place"] = True
        _redirect(written, node, set(order[:index]))
        _pure(node)
    for module in root.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]
    for node in reversed(order):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)
    stop_gradients(root, graph)
    graph.lint()


def _check_hidden(node: fx.Node) -> None:
    """Raise where a block without gradients writes on what has them: torch then scales no gradient, a copy has none."""
    written = node.args[0] if node.args else None
    if isinstance(written, fx.Node) and written.op != "placeholder" and not without_gradient(written):
        must = "what is computed with gradients must not be written in place without them"
        raise bad_value("upgrade", must, place(node), "write it as a new tensor")


def _redirect(written: fx.Node, result: fx.Node, before: set[fx.Node]) -> None:
    """Let every reader of a value behind an in-place write read the write's result."""
    written.replace_all_uses_with(result, delete_user_cb=lambda user: user not in before and user is not result)


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
    plain: Any
    if isinstance(target, str):
        plain = target[:-1] if hasattr(Tensor, target[:-1]) else None
    elif target in _SAME_OUT_OF_PLACE:
        plain = _SAME_OUT_OF_PLACE[target]
    else:
        name = target.__name__
        homes = (torch, nn.functional)
        plain = (
            next((getattr(h, name[:-1]) for h in homes if hasattr(h, name[:-1])), None) if name[-1] == "_" else target
        )
    if plain is None:
        must = "an in-place operation must have an ordinary form"
        raise bad_value("upgrade", must, place(node), "write it out of place")
    node.target = plain


def in_place(graph: fx.Graph) -> list[fx.Node]:
    """Operations written in place in the source, such as ``x += y``, which tracing sees as ordinary ones."""
    return [node for node in graph.nodes if node.meta.get("was_in_place") or "=" in _source(node)]


def _source(node: fx.Node) -> str:
    """The operator before the "=" of an augmented assignment, with it; "" for other lines."""
    file, _, line = str(node.meta.get("line", "")).strip(" ()").rpartition(":")
    text = linecache.getline(file, int(line)) if line.isdigit() else ""
    found = re.search(r"[-+*/]=", text)
    return found[0] if found and node.op == "call_function" else ""
