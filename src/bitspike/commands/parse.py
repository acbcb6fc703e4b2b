"""Arguments of the command line → a call that waits; what does not parse is one line, not a box."""

from __future__ import annotations

import functools
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from typing import Any

import tyro

from bitspike.checks import bad_value, one_of

_STYLE = (tyro.conf.FlagCreatePairsOff,)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def parse(commands: Mapping[str, Callable[..., None]], given: Sequence[str]) -> Callable[[], None]:
    """The command that is asked for, with its arguments, still to be called.

    Raises:
        ValueError: arguments that do not parse. SystemExit: help was asked for and printed.
    """
    if not given:
        raise bad_value("the command", f"it must be one of {', '.join(commands)}", "none", "see bitspike --help")
    if not given[0].startswith("-"):
        one_of("the command line", "the command", given[0], tuple(commands))
    app, said = tyro.extras.SubcommandApp(), io.StringIO()
    for name, function in commands.items():
        app.command(name=name)(_waiting(function))
    try:
        with redirect_stderr(said):
            return app.cli(  # type: ignore[no-any-return]
                prog="bitspike", description="Multi-bit spiking neural networks.", args=given, config=_STYLE
            )
    except SystemExit as end:
        if not end.code:
            raise
        known = given[0] if given[0] in commands else ""
        place = f"bitspike {known}".rstrip()
        raise ValueError(f"{known or 'the command line'}: {flat(said.getvalue())}; see {place} --help.") from None
    finally:
        if said.getvalue() and sys.exc_info()[0] is None:
            print(said.getvalue(), end="", file=sys.stderr)


def _waiting(function: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    @functools.wraps(function)
    def bind(*arguments: Any, **named: Any) -> Callable[[], None]:
        return functools.partial(function, *arguments, **named)

    return bind


def flat(said: str) -> str:
    """A message of tyro, in a frame or under a title and a rule, as one line: its first part, without help texts.

    >>> flat("╭─ Required ─╮\\n│ Missing:   │\\n│     --out  │\\n│         A folder. │\\n│ ── │\\n│ See help │\\n╰──╯")
    'Missing: --out'
    >>> flat(" Required\\n --------\\n  Missing:\\n      --out\\n          A folder.\\n  --------\\n  See help")
    'Missing: --out'
    """
    parts: list[list[str]] = [[]]
    for line in _COLOUR.sub("", said).splitlines():
        if line.startswith(("╭", "╰")):
            continue
        inside = line.strip("│").rstrip()
        if inside.strip() and not inside.strip(" ─-"):
            parts.append([])
        elif inside.strip():
            parts[-1].append(inside)
    framed = "╭" in said
    part = parts[0] if framed or not parts[1:] else parts[1]
    edge = min((len(line) - len(line.lstrip()) for line in part), default=0)
    kept = [line.strip() for line in part if not line[edge:].startswith(" " * 8)]  # help texts are indented twice
    return " ".join(kept).rstrip(" .") or "the arguments must be those of the command"
