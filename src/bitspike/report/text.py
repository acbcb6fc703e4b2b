"""Tables as text and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise


def as_text(table: Sequence[Sequence[str]]) -> str:
    """Columns padded with spaces, the first to the left, the others to the right.

    >>> print(as_text([["arm", "n"], ["binary", "3"]]))
    arm     n
    binary  3
    """
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = []
    for line in table:
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def as_markdown(table: Sequence[Sequence[str]]) -> str:
    """The same table for a Markdown page.

    >>> print(as_markdown([["arm", "n"], ["binary", "3"]]))
    | arm | n |
    | --- | ---: |
    | binary | 3 |
    """
    rule = ["---", *["---:"] * (len(table[0]) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [table[0], rule, *table[1:]])


def narrow_tables(markdown: str, most: int = 6) -> str:
    """A page whose wide tables are several, one below the other, each with the columns that name a row.

    Args:
        markdown: text with tables; what is between code fences stays. most: columns, at least 3.

    >>> table = [["a", "b", "c", "d"], ["x", "1", "2", "3"]]
    >>> print(narrow_tables(as_markdown(table), most=3))
    | a | b | c |
    | --- | ---: | ---: |
    | x | 1 | 2 |
    <BLANKLINE>
    | a | d |
    | --- | ---: |
    | x | 3 |

    Raises:
        ValueError: ``most`` is below 3.
    """
    if most < 3:
        raise ValueError(f"narrow_tables: most must be at least 3, got {most}; two columns hold a name and a number")
    lines: list[str] = []
    table: list[str] = []
    fenced = False
    for line in [*markdown.split("\n"), ""]:
        fenced ^= line.startswith("```")
        if line.startswith("|") and not fenced:
            table.append(line)
            continue
        lines += [*_narrow(table, most), line]
        table = []
    return "\n".join(lines[:-1])


_CELL = re.compile(r"(?<!\\)\|")


def _narrow(table: list[str], most: int) -> list[str]:
    rows = [[cell.strip() for cell in _CELL.split(line.strip())[1:-1]] for line in table]
    if len(rows) < 2 or len(rows[0]) <= most or any(len(row) != len(rows[0]) for row in rows):
        return table
    width = len(rows[0])
    longest = most // 2
    named = (k for k in range(1, longest) if len({tuple(row[:k]) for row in rows[2:]}) == len(rows) - 2)
    key = next(named, longest)
    parts = -(-(width - key) // (most - key))
    ends = [key - (-(width - key) * part // parts) for part in range(parts + 1)]
    lines: list[str] = []
    for first, end in pairwise(ends):
        lines += [""] * bool(lines)
        # A row that says nothing here stays in the first part alone.
        said = [row for n, row in enumerate(rows) if n < 2 or first == key or any(row[first:end])]
        lines += ["| " + " | ".join([*row[:key], *row[first:end]]) + " |" for row in said]
    return lines
