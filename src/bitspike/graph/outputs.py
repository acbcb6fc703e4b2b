"""Names of what a network returns, and the part of it that makes one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from bitspike.checks import bad_value


def outputs_of(traced: fx.Graph) -> dict[str, fx.Node]:
    """Name → node of every tensor that a network returns: keys and places, joined by dots; "" of the only one.

    Raises:
        ValueError: two tensors of one name, such as "a.0" beside place 0 of "a".
    """
    return _by_name(next(item for item in traced.nodes if item.op == "output").args[0], fx.Node)


def by_name(value: Any) -> dict[str, Tensor]:
    """The same names for what a network has returned: name → tensor; "" of one that stands alone.

    >>> import torch
    >>> x = torch.ones(1)
    >>> list(by_name({"maps": (x, x), "kind": x})), list(by_name(x))
    (['maps.0', 'maps.1', 'kind'], [''])
    """
    return _by_name(value, Tensor)


def _by_name(value: Any, leaf: type[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, leaf):
            if name in found:
                todo = "rename a key: places and keys are joined by dots"
                raise bad_value("outputs", "each output must have a name of its own", f"{name!r} twice", todo)
            found[name] = value
        elif isinstance(value, (Mapping, list, tuple)):
            parts = value.items() if isinstance(value, Mapping) else enumerate(value)
            for key, part in parts:
                add(f"{name}.{key}" if name else str(key), part)

    add("", value)
    return found


def part_for(traced: fx.Graph, name: str) -> fx.Graph:
    """A copy of a graph that returns one output, without the nodes that it does not need.

    Raises:
        ValueError: no output of this name.
    """
    known = outputs_of(traced)
    if name not in known:
        raise bad_value("only", f"the output must be one of {sorted(known)}", repr(name), "see graph.outputs")
    part, values = fx.Graph(), dict[fx.Node, Any]()
    part.graph_copy(traced, values)
    for old, new in values.items():
        new.name = old.name
    part.output(values[known[name]])
    for item in reversed(list(part.nodes)):
        if not item.users and item.op not in ("placeholder", "output"):
            part.erase_node(item)
    part.lint()
    return part
