"""What a user's code does between layers: modules and functions of torch, one call after the other."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from bitspike.ann2snn.analog import OneStep
from bitspike.graph import Node
from bitspike.graph.moves import summands
from bitspike.layers import Restimulate, TallyMap, TallyPool
from bitspike.lower.lowering import Lowering
from bitspike.lower.rules.functions.base import Call, refused
from bitspike.lower.rules.functions.table import rule_of_function, rule_of_module
from bitspike.lower.rules.moved import moved
from bitspike.lower.rules.pool import maximum, regular
from bitspike.lower.rules.restimulate import restimulate
from bitspike.lower.rules.sums import add, concat
from bitspike.lower.wire import Refused, Wire
from bitspike.upgrade.layers import Merged
from bitspike.upgrade.parts import MOVES, name_of, nature, reads_size


@dataclass(frozen=True)
class Held:
    """A value of a body that depends on the input: an example [1, *shape] of it, and its wire.

    A split has a tuple of both.
    """

    example: Any
    wire: Any


def body(low: Lowering, node: Node, wires: list[Wire]) -> Any:
    """A module that `upgrade` runs on all steps at once, or that a conversion counts as it is."""
    module = node.module
    assert isinstance(module, (Merged, TallyMap))
    if isinstance(module, TallyMap) and any(low.value(x).steps > 1 for x in wires):
        raise Refused(
            f"{module.what} works on means over time at {low.value(wires[0]).steps} steps, which no operation of a "
            "program does; convert with T=1"
        )
    inner: Any = module.body
    if isinstance(inner, OneStep):
        if isinstance(inner.layer, Restimulate):
            straight = [low.straight(x, name) for x, name in zip(wires, node.inputs, strict=True)]
            return restimulate(low, replace(node, module=inner.layer), straight)
        inner = inner.layer
    if any(low.value(x).steps != low.value(wires[0]).steps for x in wires):
        raise Refused("its inputs have other numbers of steps")
    if not isinstance(inner, fx.GraphModule):
        sources = list(node.inputs)
        call = Call(low, node.name, type(inner).__name__, inner, wires, sources, inner)
        return rule_of_module(inner)(call)
    read = [i for i, given in enumerate(_placeholders(inner)) if not all(reads_size(user) for user in given.users)]
    if len(read) == 1 and nature(inner) == MOVES:  # as a whole: it may have the batch elsewhere in between
        (k,) = read

        def run(v: Tensor) -> Any:
            return inner(*(v if i == k else v.new_zeros(len(v), *low.shape(x)) for i, x in enumerate(wires)))

        return moved(low, node.name, run, wires[k], node.inputs[k])
    return _graph(low, node, inner, wires)


def _placeholders(inner: fx.GraphModule) -> list[fx.Node]:
    return [item for item in inner.graph.nodes if item.op == "placeholder"]


def tally_pool(low: Lowering, node: Node, wires: list[Wire]) -> Any:
    """Maxima over time, and of one step over windows that no tally has."""
    module, (x,) = node.module, wires
    assert isinstance(module, TallyPool)
    regular_ones = type(regular(module.pool, low.shape(x))) in (nn.MaxPool1d, nn.MaxPool2d)
    if low.value(x).steps > 1 or regular_ones:
        return maximum(low, node, wires)
    call = Call(low, node.name, type(module.pool).__name__, module.pool, wires, list(node.inputs), module.pool)
    return rule_of_module(module.pool)(call)


def addition(low: Lowering, node: Node, wires: list[Any]) -> Any:
    """A sum of signals, or of a signal and a constant."""
    branches = summands(low.graph.items[node.name])
    plain = len(branches) > 1 and all(isinstance(low.wires[branch.name], Wire) for branch in branches)
    return add(low, node, wires) if plain else function(low, node, wires)


def concatenation(low: Lowering, node: Node, wires: list[Any]) -> Any:
    """Signals side by side, or beside constants."""
    return concat(low, node, wires) if all(isinstance(x, Wire) for x in wires) else function(low, node, wires)


def function(low: Lowering, node: Node, wires: list[Any]) -> Any:
    """A plain function of tensors [T, B, ...], or a module of torch's that a network calls on them."""
    item = low.graph.items[node.name]
    name = name_of(item) if node.module is None else type(node.module).__name__
    if item.op == "get_attr":  # a parameter or buffer that plain functions read
        found = operator.attrgetter(str(item.target))(low.graph.model)
        return found.detach().double().cpu() if found.is_floating_point() else found
    given = dict(zip(node.inputs, wires, strict=True))
    held = {n: x for n, x in given.items() if isinstance(x, Wire)}
    if not held or any(not isinstance(x, (Wire, Tensor)) for x in wires):
        raise refused(name)

    def run(*tensors: Tensor) -> Any:
        return low.graph.again(node.name, {**given, **dict(zip(held, tensors, strict=True))})

    args: Any = fx.node.map_arg(item.args, lambda n: given[n.name])
    kwargs: Any = fx.node.map_arg(item.kwargs, lambda n: given[n.name])
    call = Call(low, node.name, name, run, list(held.values()), list(held), node.module, 2, args, kwargs)
    return (rule_of_function(name, item) if node.module is None else rule_of_module(node.module))(call)


@torch.no_grad()
def _graph(low: Lowering, node: Node, inner: fx.GraphModule, wires: list[Wire]) -> Any:
    """The calls of a piece of a user's graph, one after the other; what does not depend on the input is computed."""
    known: dict[fx.Node, Any] = {}
    inputs = iter(zip(wires, node.inputs, strict=True))
    sources: dict[int, str] = {}
    for item in inner.graph.nodes:
        if item.op == "placeholder":
            x, source = next(inputs)
            known[item] = Held(_example(low.shape(x), len(known)), x)
            sources[id(x)] = source
        elif item.op == "get_attr":
            value = operator.attrgetter(str(item.target))(inner)
            known[item] = (
                value.detach().double().cpu() if isinstance(value, Tensor) and value.is_floating_point() else value
            )
        elif item.op == "output":
            found = fx.node.map_arg(item.args[0], lambda n: known[n])
            if not isinstance(found, Held):
                raise Refused("its output is no function of its input alone")
            return found.wire
        else:
            known[item] = _called(low, node, inner, item, known, sources)
    raise AssertionError("a graph ends with its output")


def _called(
    low: Lowering, node: Node, inner: fx.GraphModule, item: fx.Node, known: dict[fx.Node, Any], sources: dict[int, str]
) -> Any:
    """What one call gives: a constant, or an example with its wire."""
    module = inner.get_submodule(str(item.target)) if item.op == "call_module" else None
    if item.op == "call_method" and not hasattr(Tensor, str(item.target)):
        raise Refused("it is code that cannot be read, such as TorchScript; write it in Python")
    target: Any = getattr(Tensor, str(item.target)) if item.op == "call_method" else module or item.target
    args: Any = fx.node.map_arg(item.args, lambda n: known[n])
    kwargs: Any = fx.node.map_arg(item.kwargs, lambda n: known[n])
    held: list[Held] = []
    tree_map(lambda a: held.append(a) if isinstance(a, Held) else None, (args, kwargs))
    examples: Any = tree_map(lambda a: a.example if isinstance(a, Held) else a, (args, kwargs))
    if not held or reads_size(item):
        return target(*examples[0], **examples[1])
    if isinstance(held[0].wire, tuple):  # a piece of a split
        if target is not operator.getitem or not isinstance(args[1], int):
            raise refused(name_of(item))
        return Held(held[0].example[args[1]], held[0].wire[args[1]])

    def run(*tensors: Tensor) -> Any:
        places = iter(tensors)
        filled = tree_map(lambda a: next(places) if isinstance(a, Held) else a, (args, kwargs))
        return target(*filled[0], **filled[1])

    wired: Any = tree_map(lambda a: a.wire if isinstance(a, Held) else a, (args, kwargs))
    found = [each.wire for each in held]
    single = sum(n.op.startswith("call") and not reads_size(n) for n in inner.graph.nodes) == 1
    name = node.name if single else f"{node.name}.{item.name}"
    known_sources = [sources.get(id(x), f"{name}.given") for x in found]  # no node: nothing was measured of it
    label = name_of(item) if module is None else type(module).__name__
    call = Call(low, name, label, run, found, known_sources, module, 1, wired[0], wired[1], (1,))
    rule: Callable[[Call], Any] = rule_of_function(label, item) if module is None else rule_of_module(module)
    return Held(target(*examples[0], **examples[1]), rule(call))


def _example(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
