"""Tables as text."""

from __future__ import annotations

from collections.abc import Sequence


def columns(rows: Sequence[Sequence[object]], left: Sequence[int] = (0,)) -> str:
    """Columns padded with spaces: those in ``left`` to the left, the others to the right.

    >>> print(columns([["layer", "MAC"], ["conv1", 12345]]))
    layer    MAC
    conv1  12345
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = []
    for row in cells:
        pairs = enumerate(zip(row, widths, strict=True))
        lines.append("  ".join(cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in pairs).rstrip())
    return "\n".join(lines)
