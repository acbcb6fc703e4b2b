"""Picture of how bits and time steps of every layer went over training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitspike.checks import message
from bitspike.report.figure import new_figure
from bitspike.training.measures import MEASURES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANELS = (("weights", "weight bits", "weight_bits"), ("spikes", "spike bits", "spike_bits"), ("steps", "T", "T"))
"""Key in "allocation" of a record, words, key of the average."""


def learns(history: Sequence[dict[str, Any]]) -> bool:
    """Whether records of epochs hold an allocation."""
    return any(record.get("allocation") for record in history)


def history_picture(history: Sequence[dict[str, Any]], path: Path | None, title: str) -> Figure:
    """Bits of weights and spikes and T of every layer at the end of every epoch, and their averages, as a PNG.

    One line a layer, drawn as steps and a little apart, so that equal ones can be told apart; the black line is the
    average of `bitspike.allocation.averages.Averages`. What is not learned has no panel; the last one has the
    accuracies.

    Args:
        history: records of epochs, of a run that learns bits or T. path: PNG to write; None for none. title: heading.

    Returns:
        The figure, which a notebook shows by itself.

    Raises:
        ImportError: matplotlib is missing. ValueError: no record holds an allocation.
    """
    records = [record for record in history if record.get("allocation")]
    if not records:
        todo = "draw a run that learns bits or T"
        raise ValueError(message("picture", "the history must hold an allocation", "none", todo))
    kinds = [panel for panel in _PANELS if records[0]["allocation"].get(panel[0])]
    layers = max(len(records[0]["allocation"][kind]) for kind, _, _ in kinds)
    figure = new_figure(4.6 * len(kinds) + 4.2, max(3.6, 0.8 + 0.2 * layers))
    *panels, last = figure.subplots(1, len(kinds) + 1)
    epochs = [record["epoch"] for record in records]
    for axes, (kind, words, average) in zip(panels, kinds, strict=True):
        names = list(records[0]["allocation"][kind])
        for place, name in enumerate(names):
            values = [record["allocation"][kind][name] + 0.3 * _apart(place, len(names)) for record in records]
            style = "-" if place < 10 else ":"
            axes.plot(epochs, values, style, marker=".", drawstyle="steps-mid", label=name, color=f"C{place % 10}")
        axes.plot(epochs, [record[average] for record in records], "k", linewidth=2, label="average")
        axes.set_ylabel(words)
        axes.yaxis.get_major_locator().set_params(integer=True)
    measure, found = next((name, one) for name, one in MEASURES.items() if f"train_{name}" in records[0])
    words, scale = (f"{found.words}, %", 100) if found.percent else (found.words, 1)
    for part, label in (("train", "training"), ("validation", "validation")):
        last.plot(epochs, [scale * record[f"{part}_{measure}"] for record in records], marker=".", label=label)
    last.set_ylabel(words)
    for axes in (*panels, last):
        axes.legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(title)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def _apart(place: int, count: int) -> float:
    """-½ … ½ over the places."""
    return place / (count - 1) - 0.5 if count > 1 else 0.0
