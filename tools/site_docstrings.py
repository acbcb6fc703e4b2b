"""How docstrings become pages: a Griffe extension that writes their examples and equations as code.

Docstrings of this library hold examples without a heading, lines "Source:" and "Differs:", and several short arguments
a line. mkdocs.yml names this file; only text is changed, never what a docstring says.
"""

from __future__ import annotations

import ast
import re
from typing import Any

import griffe

LABELS = re.compile(r"^(Source|Differs|Called with|Note): ?", re.MULTILINE)
HEADING = re.compile(r"^(Args|Attributes|Returns|Raises|Yields|Examples?|Source|Differs):")


def fenced(text: str) -> str:
    """Examples that stand by themselves, ``>>>`` and what is printed, become fenced code."""
    out: list[str] = []
    inside = False
    for line in text.splitlines():
        starts = line.startswith(">>> ")
        if starts and not inside:
            out += [*([] if not out or not out[-1] else [""]), "```pycon"]
            inside = True
        elif inside and (not line or HEADING.match(line)):
            out += ["```", ""]
            inside = False
        out.append(line)
    return "\n".join([*out, *(["```"] if inside else [])])


def labelled(text: str) -> str:
    """Where a docstring names its source or a difference, the word is set in bold, in a paragraph of its own."""
    return LABELS.sub(lambda match: f"\n**{match[1]}:** ", text)


def parameters(node: Any) -> set[str]:
    """Names of the arguments of a function, or of a class by its constructor or fields."""
    if isinstance(node, ast.ClassDef):
        inner = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
        fields = {
            part.target.id
            for part in node.body
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
        }
        return fields.union(*map(parameters, inner))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        given = node.args
        return {arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
    return set()


def one_a_line(text: str, names: set[str]) -> str:
    """Where a line describes several arguments, each gets a line of its own.

    >>> print(one_a_line("Args:\\n    reset: hard. floor: least membrane.", {"reset", "floor"}))
    Args:
        reset: hard.
        floor: least membrane.
    """
    if not names:
        return text
    known = "|".join(sorted(map(re.escape, names)))
    several = re.compile(rf"(?<=[.;]) ((?:{known})(?:, (?:{known}))*: )")
    section = re.compile(r"^((?:Args|Attributes):\n)(.*?)(?=\n\n|\Z)", re.DOTALL | re.MULTILINE)
    return section.sub(lambda match: match[1] + several.sub(r"\n    \1", match[2]), text)


class Docstrings(griffe.Extension):
    """Rewrites every docstring of the package before it is parsed."""

    def on_instance(self, *, node: Any, obj: Any, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = one_a_line(labelled(fenced(obj.docstring.value)), parameters(node))
