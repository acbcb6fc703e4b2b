"""Tables as text and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence


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
