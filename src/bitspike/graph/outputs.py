"""Names of what a network returns, and the part of it that makes one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from bitspike.checks import bad_value


def outputs_of(traced: fx.Graph) -> dict[str, fx.Node]:
    """Name → node of every tensor that a network returns: keys and places, joined by dots; "" of the only one.

    Raises:
        ValueError: two tensors of one name, such as "a.0" beside place 0 of "a".
    """
    found: dict[str, fx.Node] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, fx.Node):
            if name in found:
                todo = "rename a key: places and keys are joined by dots"
                raise bad_value("outputs", "each output must have a name of its own", f"{name!r} twice", todo)
            found[name] = value
        elif isinstance(value, (Mapping, list, tuple)):
            parts = value.items() if isinstance(value, Mapping) else enumerate(value)
            for key, part in parts:
                add(f"{name}.{key}" if name else str(key), part)

    add("", next(item for item in traced.nodes if item.op == "output").args[0])
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
