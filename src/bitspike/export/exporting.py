"""The one way out: choose a target, refuse what it would lose, write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from bitspike.checks import bad_type, bad_value, choice, suggestion
from bitspike.export.target import TARGETS, Exported, Source, Target
from bitspike.graph import Graph
from bitspike.runtime import Program


def export(source: Program | nn.Module | Graph, to: str, path: str | Path, name: str = "", **options: Any) -> Exported:
    """Write a program or a folded network for another system.

    Args:
        source: a `Program` for targets that read programs, what `fold` returned for those that read networks.
        to: name of the target; ``TARGETS`` has them. path: of the main file.
        name: of the network in files and symbols; left out: that of the file.
        options: of the target.

    Raises:
        ValueError: an unknown target or option, the other kind of source, or something that the target cannot say:
            everything it would lose, in one message.
        TypeError: an option of another type.
    """
    target = TARGETS[to]()
    path = Path(path)
    found = _source(source, to, target, name or path.stem)
    chosen = _options(to, target, options)
    lost = target.losses(found, chosen)
    if lost:
        must = f"{to} must be able to say everything"
        raise bad_value(f"export of {found.name}", must, f"{len(lost)} it cannot: {'; '.join(lost)}", "change these")
    for folder in path.parents:
        if folder.exists() and not folder.is_dir():
            raise bad_value(
                f"export to {to}", f"{path.parent} must be a folder", f"the file {folder}", "write elsewhere"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    return target.write(found, path, chosen)


def _source(source: Program | nn.Module | Graph, to: str, target: Target, name: str) -> Source:
    if isinstance(source, Program):
        if target.reads == "program":
            return Source(name, program=source)
        raise bad_value(f"export to {to}", "it is made from a folded network", "a program", "give the run")
    graph = source if isinstance(source, Graph) else getattr(source, "graph", None)
    if not isinstance(graph, Graph):
        todo = "pass what bitspike.fold or bitspike.compile returned"
        raise bad_type("export", "the source must be a program or a folded network", type(source).__name__, todo)
    if target.reads == "network":
        return Source(name, graph=graph)
    raise bad_value(f"export to {to}", "it is made from a program", "a folded network", "compile it first")


def _options(to: str, target: Target, given: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in given.items():
        if name not in target.options:
            must = choice(f"an option of {to}", target.options)
            raise bad_value("export", must, repr(name), suggestion(name, target.options))
        default, about = target.options[name]
        if type(value) is not type(default):
            raise bad_type(
                f"export to {to}", f"{name} ({about}) must be {type(default).__name__}", repr(value), "change it"
            )
    return {**{name: default for name, (default, _) in target.options.items()}, **given}
