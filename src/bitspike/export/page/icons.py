"""Pictures on the buttons, 24 × 24."""

from __future__ import annotations

PATHS = {
    "pen": "M4 20l1-4L16 5l3 3L8 19z",
    "eraser": "M9 19l-5-5 9-9 6 6-8 8H9zM20 19h-7M8.500 9.500l6 6",
    "fill": "M4 12l7-7 7 7-7 7zM4 12h14M20.500 16c1 1.500 1 3 0 3s-1-1.500 0-3z",
    "undo": "M8 5L4 9l4 4M4 9h10a5 5 0 0 1 0 10h-3",
    "clear": "M6 6l12 12M18 6L6 18",
}


def icon(name: str) -> str:
    """One of them as SVG."""
    return f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{PATHS[name]}"/></svg>'
