"""``bitspike export``: a program or a run for another system."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from bitspike.checks import bad_value, one_of
from bitspike.commands.options import Json, open_program, write_json
from bitspike.commands.program import folded_run, lowered_run
from bitspike.export import TARGETS
from bitspike.export import export as write


def export(
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL|RUN")],
    to: Annotated[str, tyro.conf.arg(metavar="TARGET")],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    weights: Literal["final", "best"] = "final",
    option: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE"), tyro.conf.UseAppendAction] = (),
    json: Json = None,
) -> None:
    """Write a program, or a run, for another system; what it could not say is refused, by name.

    Args:
        source: File of a program, or folder of a finished run (which is folded, and compiled where the target reads
            programs, with the defaults of `bitspike compile`).
        to: The target; docs/deploy.md lists them.
        out: The main file.
        weights: Of a run: those after the last epoch, or those with the best validation accuracy.
        option: Options of the target, each as KEY=VALUE.
        json: Write what was written to this file too.
    """
    one_of("export", "--to", to, tuple(TARGETS))
    target = TARGETS[to]
    if out.is_dir() or out.resolve() == source.resolve():
        raise bad_value("export", "-o must be a file of its own, not a folder or the source", str(out), "name another")
    names = [text.partition("=")[0] for text in option]
    if len(set(names)) != len(names):
        raise bad_value("--option", "each must be given once", ", ".join(names), "leave one out")
    chosen = dict(_option(to, text) for text in option)
    if json and json.resolve() in (out.resolve(), source.resolve()):
        raise _taken(json)
    if source.is_dir():
        given: Any = lowered_run(source, weights) if target.reads == "program" else folded_run(source, weights)
    else:
        given = open_program(source, "auto", None)
    found = write(given, to, out, **chosen)
    if json and json.resolve() in [path.resolve() for path in found.files]:
        raise _taken(json)
    files = [{"file": str(path), "bytes": path.stat().st_size} for path in found.files]
    write_json(json, {"target": to, "files": files, "notes": list(found.notes), "facts": dict(found.facts or {})})
    for row in files:
        print(f"{row['file']}: {row['bytes']:,} bytes")
    for note in found.notes:
        print(note)


def _taken(json: Path) -> ValueError:
    return bad_value(
        "export", "--json must be a file of its own, not the source or what is written", json, "name another"
    )


def _option(to: str, text: str) -> tuple[str, Any]:
    """KEY=VALUE with the type of the option's default."""
    name, found, value = text.partition("=")
    if not found:
        raise bad_value("--option", "it must be KEY=VALUE", repr(text), "write it so")
    default = TARGETS[to].options.get(name, ("", ""))[0]
    if isinstance(default, bool):
        return name, one_of("--option", name, value, ("true", "false")) == "true"
    if isinstance(default, int):
        try:
            return name, int(value)
        except ValueError:
            raise bad_value("--option", f"{name} must be an integer", repr(value), "change it") from None
    return name, value
