"""What the pictures share: a figure, and the colours of operations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitspike.checks import message

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = (
    ("adds", "additions", "tab:green"),
    ("shift_adds", "shift-additions", "tab:olive"),
    ("multiplications", "multiplications left", "tab:red"),
)
"""Quantity, words, colour."""


def new_figure(width: float, height: float) -> Figure:
    """A figure that needs no display."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        text = message("picture", "matplotlib must be installed", "none", 'pip install "bitspike[demo]"')
        raise ImportError(text) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
