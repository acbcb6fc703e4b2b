"""Functions of torch that only move values: concatenations, splits and slices; and plain additions."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx

_ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")
_CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)
_SPLITS: tuple[Any, ...] = (torch.chunk, torch.split, torch.tensor_split, "chunk", "split", "tensor_split")
_SLICES: tuple[Any, ...] = (torch.narrow, torch.index_select, "narrow", "index_select", operator.getitem)


def adds(item: fx.Node) -> bool:
    """Whether a traced node is a plain addition."""
    return item.op in ("call_function", "call_method") and item.target in _ADDITIONS


def kind_of(item: fx.Node) -> str:
    """What a traced function does: "add", "concat", "split" (the value is a tuple), "select", or "function"."""
    if adds(item):
        return "add"
    if item.target in _CONCATENATIONS:
        return "concat"
    return "split" if item.target in _SPLITS else "select" if item.target in _SLICES else "function"


def summands(item: fx.Node) -> tuple[fx.Node, ...]:
    """What a plain addition adds up, in order, or the inputs of a layer; none where numbers or factors come in."""
    scaled = item.op != "call_module" and item.kwargs
    known = [a for a in item.args if not (isinstance(a, int) and a == 0)]  # sum() begins with 0
    nodes = tuple(a for a in known if isinstance(a, fx.Node))
    return nodes if len(nodes) == len(known) and not scaled else ()


def joined(item: fx.Node) -> tuple[fx.Node, ...]:
    """What a concatenation puts side by side, in order; none where that cannot be read off."""
    parts = item.args[0] if item.args else item.kwargs.get("tensors")
    whole = isinstance(parts, (list, tuple)) and all(isinstance(part, fx.Node) for part in parts)
    return tuple(parts) if whole else ()  # type: ignore[arg-type]


def axis_of(item: fx.Node, axes: int) -> int:
    """The axis of a concatenation of values with so many axes; -1 where it is not a plain number."""
    axis = item.args[1] if len(item.args) > 1 else item.kwargs.get("dim", item.kwargs.get("axis", 0))
    return axis % axes if isinstance(axis, int) else -1


def whole_in(item: fx.Node) -> fx.Node:
    """The node that a slice, or a piece of a split, is taken from."""
    source = item.all_input_nodes[0]
    return source.all_input_nodes[0] if kind_of(source) == "split" else source


def taken(item: fx.Node, shape: tuple[int, ...]) -> Tensor | None:
    """Which channels of [T, B, C, ...] of this shape a slice, or a piece of a split, takes, int64 [C'].

    None where time or batch is touched, or that cannot be read off. Slices of places behind the channels take all.
    """
    chain = [item] if whole_in(item) is item.all_input_nodes[0] else [item.all_input_nodes[0], item]
    probe: Any = torch.arange(shape[2]).reshape(-1, *[1] * (len(shape) - 3)).expand(shape) if len(shape) > 2 else None
    for step in chain:
        if probe is None or len(step.all_input_nodes) != 1 or step.args[:1] != (step.all_input_nodes[0],):
            return None
        call = getattr(torch.Tensor, step.target) if isinstance(step.target, str) else step.target
        probe = call(probe, *step.args[1:], **step.kwargs)  # type: ignore[operator]
    kept = isinstance(probe, Tensor) and probe.dim() == len(shape) and probe.shape[:2] == shape[:2]
    return probe[0, 0].reshape(probe.shape[2], -1)[:, 0] if kept and probe.numel() else None


def cuts_channels(item: fx.Node, shape: tuple[int, ...]) -> bool:
    """Whether a split of [T, B, C, ...] of this shape leaves time and batch whole."""
    call: Any = getattr(torch.Tensor, item.target) if isinstance(item.target, str) else item.target
    if len(item.all_input_nodes) != 1:
        return False
    pieces = call(torch.zeros(1).expand(shape), *item.args[1:], **item.kwargs)
    return all(piece.shape[:2] == shape[:2] for piece in pieces)
