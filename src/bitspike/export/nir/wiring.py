"""Nodes and edges of a graph of NIR, in the order in which they run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from bitspike.checks import bad_value

Edges = list[tuple[str, str]]


class Pass:
    """The end of a graph inside a graph."""

    metadata: Mapping[str, Any] = {}


def flat(where: str, graph: Any, before: str = "") -> tuple[dict[str, Any], Edges]:
    """Nodes and edges by full names, those of graphs inside among them."""
    nodes: dict[str, Any] = {}
    edges = [(f"{before}{a}", f"{before}{b}") for a, b in graph.edges]
    inside: dict[str, tuple[str, str]] = {}
    for name, node in graph.nodes.items():
        full = f"{before}{name}"
        if type(node).__name__ != "NIRGraph":
            nodes[full] = node
            continue
        inner, links = flat(where, node, f"{full}.")
        first, last = ends(
            f"{where}, graph {full}", {n: each for n, each in inner.items() if not isinstance(each, Pass)}
        )
        inside[full] = (first, last)
        nodes |= {n: Pass() if n in (first, last) else each for n, each in inner.items()}
        edges += links
    known = {*nodes, *inside}
    for edge in edges:
        for end in edge:
            if end not in known:
                raise bad_value(where, "edges must lead from node to node", f"{edge}", f"there is no {end}")
    return nodes, [(inside.get(a, (a, a))[1], inside.get(b, (b, b))[0]) for a, b in edges]


def ends(where: str, nodes: Mapping[str, Any]) -> tuple[str, str]:
    """Names of the one Input and the one Output."""
    found = []
    for kind in ("Input", "Output"):
        names = [name for name, node in nodes.items() if type(node).__name__ == kind]
        if len(names) != 1:
            raise bad_value(where, f"it must have one {kind}", names or "none", "write its parts apart")
        found.append(names[0])
    return found[0], found[1]


def in_order(where: str, nodes: Collection[str], edges: Edges) -> list[str]:
    """Names such that every node comes after those it reads, in the file's order among these.

    >>> in_order("net", ["b", "a"], [("a", "b")])
    ['a', 'b']
    """
    before = {name: {a for a, b in edges if b == name} for name in nodes}
    order: list[str] = []
    while before:
        ready = [name for name, needs in before.items() if not needs]
        if not ready:
            loop = ", ".join(sorted(before))
            must = "a network here runs forward, without loops"
            raise bad_value(where, must, f"a loop among or before {loop}", "leave recurrent edges out")
        for name in ready:
            del before[name]
        order += ready
        for needs in before.values():
            needs.difference_update(ready)
    return order
