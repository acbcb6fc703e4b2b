"""Picture of accuracy against cost, arm by arm, with the front of those that no other arm beats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bitspike.checks import message
from bitspike.report.figure import new_figure
from bitspike.report.study import measure_of, measured_by
from bitspike.training.study import ArmSummary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COSTS = (("s_ace", "S-ACE of hidden layers, million", 1e6), ("bit_budget", "bit budget of hidden layers", 1.0))
"""Metric, words, divisor."""
_MARKERS = "osD^v<>Ph*X"


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (cost, accuracy) points that no other point beats, by rising cost.

    A point beats another that costs as much or more and is no more accurate; of equal points the first stays.

    >>> pareto_front([(2.0, 0.9), (1.0, 0.8), (3.0, 0.85), (2.0, 0.95), (1.0, 0.8)])
    [1, 3]
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
        if not front or points[index][1] > points[front[-1]][1]:
            front.append(index)
    return front


def pareto_picture(rows: Sequence[ArmSummary], path: Path, title: str) -> Figure:
    """What was measured (mean and standard deviation over seeds) against S-ACE and against the bit budget, as a PNG.

    Where an arm did not read the test split, the accuracies shown are those on the validation split. Arms without a
    finished seed, or whose results are older than these metrics, are left out and named.

    Args:
        rows: from `bitspike.training.study.summarise`. path: PNG to write. title: heading.

    Returns:
        The figure that was written.

    Raises:
        ImportError: matplotlib is missing. ValueError: no arm has the metrics.
    """
    shown = [row for row in rows if row.n and all(key in row.metrics for key, _, _ in COSTS)]
    if not shown:
        raise ValueError(message("picture", "an arm must have S-ACE and bit budget", "none", "run the study first"))
    measured, measure, scale = measured_by(shown)
    better = 1.0 if measure_of(measured).higher else -1.0
    accuracy = [scale * row.metrics[measured].mean for row in shown]
    spread = [scale * (row.metrics[measured].std or 0.0) for row in shown]
    figure = new_figure(10.5, 4.2)
    panels = figure.subplots(1, len(COSTS), sharey=True)
    for axes, (key, words, unit) in zip(panels, COSTS, strict=True):
        costs = [row.metrics[key].mean / unit for row in shown]
        for place, row in enumerate(shown):
            style = {"color": f"C{place % 10}", "marker": _MARKERS[place % len(_MARKERS)]}
            label = row.arm if axes is panels[0] else None
            axes.errorbar(costs[place], accuracy[place], yerr=spread[place], label=label, ls="", capsize=3, **style)
        front = pareto_front([(cost, better * value) for cost, value in zip(costs, accuracy, strict=True)])
        axes.plot([costs[i] for i in front], [accuracy[i] for i in front], "k--", linewidth=0.8, zorder=0)
        if max(costs) > 4 * min(costs) > 0:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel(words)
        axes.grid(alpha=0.3)
        axes.margins(0.08)
    panels[0].set_ylabel(measure)
    figure.legend(loc="outside right center", fontsize="small")
    missing = [row.arm for row in rows if row not in shown]
    figure.suptitle(title + (f" (without {', '.join(missing)})" if missing else ""))
    figure.savefig(path, dpi=120)
    return figure
