"""Undoes what `narrow_tables` does, for tests that read the tables of a page."""

from __future__ import annotations

import re
from itertools import takewhile


def widened(markdown: str) -> str:
    """The page with tables that were split made one again."""
    parts: list[list[list[str]] | str] = []
    for part in re.split(r"((?:^\|.*\n?)+)", markdown, flags=re.MULTILINE):
        if not part.startswith("|"):
            parts.append(part)
            continue
        table = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]] for line in part.splitlines()]
        if len(parts) > 1 and parts[-1] == "\n" and isinstance(parts[-2], list) and _joined(parts[-2], table):
            parts.pop()
        else:
            parts.append(table)
    return "".join(
        part if isinstance(part, str) else "".join(f"| {' | '.join(row)} |\n" for row in part) for part in parts
    )


def _joined(whole: list[list[str]], more: list[list[str]]) -> bool:
    """Puts the cells of a later part behind those of the rows they belong to; False: it is another table."""
    key = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(whole[0], more[0], strict=False))))
    rest, width, todo = [], len(more[0]) - key, list(more)
    for row in whole:
        rest.append(todo.pop(0)[key:] if todo and todo[0][:key] == row[:key] else [""] * width)
    if not key or todo:
        return False
    for row, cells in zip(whole, rest, strict=True):
        row += cells
    return True
