"""Picture of how bits and steps are spread over the layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bitspike.checks import message
from bitspike.cost import Cost, LayerCost, bit_budget
from bitspike.report.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANELS = (
    ("weight bits", "mean_weight_bits", "tab:blue"),
    ("spike bits", "mean_spike_bits", "tab:green"),
    ("time steps T", "mean_T", "tab:orange"),
)


def allocation_picture(counted: Cost, path: Path | None, title: str) -> Figure:
    """Three bars per layer, as a PNG: bits of a weight, bits of an incoming spike (mean over its steps), its T.

    Where a layer has real weights or a real input the bar is left out and the word stands in its place. The dashed
    lines are the means of `bitspike.cost.bit_budget` without the first layer; its product is in the title.

    Args:
        counted: from `bitspike.cost.cost`. path: PNG to write; None for none. title: heading.

    Returns:
        The figure, which a notebook shows by itself.

    Raises:
        ImportError: matplotlib is missing. ValueError: the network has no synapse.
    """
    rows = counted.synapses
    if not rows:
        raise ValueError(message("picture", "the network must have synapses", "none", "count a network with layers"))
    means = bit_budget(counted, ("first",))
    figure = new_figure(10.0, 1.3 + 0.26 * len(rows))
    panels = figure.subplots(1, 3, sharey=True)
    for axes, (words, key, colour) in zip(panels, _PANELS, strict=True):
        values = [_value(row, key) for row in rows]
        axes.barh(range(len(rows)), [value or 0.0 for value in values], color=colour)
        for place, value in enumerate(values):
            if value is None:
                axes.text(0.02, place, "real", transform=axes.get_yaxis_transform(), va="center", fontsize="small")
        axes.axvline(means[key], color="black", linestyle="--", linewidth=0.8)
        axes.set_xlabel(f"{words} (mean {means[key]:.2f})")
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(rows)), [row.name for row in rows], fontsize="small")
    panels[0].invert_yaxis()
    figure.suptitle(f"{title}: bit budget {means['bit_budget']:.2f} without the first layer")
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def _value(row: LayerCost, key: str) -> float | None:
    """What a bar shows; None where it is real."""
    if key == "mean_T":
        return float(row.steps)
    bits = row.weight_bits if key == "mean_weight_bits" else row.time_bits / row.steps
    return None if bits == 32 else bits
