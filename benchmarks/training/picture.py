"""Draw docs/benchmark_GROUP.png from the results: the median of every case as a bar.

Usage: python benchmarks/training/picture.py [--results DIR] [--out docs]
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tables import ROOT, load, saved_mib

COLOURS = {
    "bitspike": "tab:green",
    "reference": "lightgreen",
    "spikingjelly": "tab:blue",
    "snntorch": "tab:orange",
    "norse": "tab:purple",
    "sinabs": "tab:brown",
    "bound": "lightgrey",
}
Record = dict[str, Any]
Bars = dict[tuple[str, str], list[float]]  # (label, colour) → medians of its rows


def bars(rows: list[Record], ours: str, other: str) -> Bars:
    """Every case of some rows with the figure of that key, once."""
    found: Bars = {}
    for row in rows:
        if row["status"] != "measured":
            continue
        for side, key in (("ours", ours), ("other", other)):
            case = row[side]
            spec = case["spec"]
            bound = spec["kind"] == "floor" or spec.get("neuron") == "relu"
            kind = "bound" if bound else case["worker"].removesuffix("+heap")
            if kind == "bitspike" and spec["kernel"] == "reference":
                kind = "reference"
            value = saved_mib(case) if key == "saved_mib" else row[key] if key in row else case[key]
            if value is not None:
                found.setdefault((case["label"], kind), []).append(value)
    return found


def draw(axes: Axes, found: Bars, title: str, unit: str) -> None:
    """Horizontal bars, the smallest on top."""
    order = sorted(found, key=lambda name: -statistics.median(found[name]))
    values = [statistics.median(found[name]) for name in order]
    names = [f"bitspike {label}" if kind in ("bitspike", "reference") else label for label, kind in order]
    drawn = axes.barh(names, values, color=[COLOURS[kind] for _, kind in order])
    shown = [f"{value:.0f}" if value >= 100 else f"{value:.3g}" for value in values]
    axes.bar_label(drawn, shown, padding=2, fontsize=7)
    axes.set_title(title, fontsize=9, loc="right")
    axes.set_xlabel(unit, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.margins(x=0.12, y=0.01)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def picture(group: str, record: Record, path: Path) -> None:
    """One panel a stage (memory: two, peak and saved tensors)."""
    panels: list[tuple[str, Bars]] = []
    for stage in dict.fromkeys(row["stage"] for row in record["rows"]):
        rows = [row for row in record["rows"] if row["stage"] == stage]
        if group == "memory":
            panels.append((f"{stage}: peak", bars(rows, "peak_increase_mib", "peak_increase_mib")))
            panels.append((f"{stage}: saved tensors", bars(rows, "saved_mib", "saved_mib")))
        else:
            panels.append((stage, bars(rows, "ours_ms", "other_ms")))
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        return
    lines = math.ceil(len(panels) / 2)
    tallest = max(len(found) for _, found in panels)
    figure = Figure(figsize=(13, lines * (1.2 + 0.19 * tallest)), layout="constrained")
    FigureCanvasAgg(figure)
    unit = (
        "MiB"
        if group == "memory"
        else "ms, forward and backward"
        if group not in ("networks", "still")
        else "ms a training step"
    )
    for axes, panel in zip(figure.subplots(lines, 2, squeeze=False).flat, [*panels, None], strict=False):
        if panel is None:
            axes.set_axis_off()
        else:
            draw(axes, panel[1], panel[0], unit)
    figure.suptitle(f"{record['machine']['cpu']}, {record['configuration']['threads']} threads", fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    given = parser.parse_args()
    for group, record in load(given.results).items():
        picture(group, record, given.out / f"benchmark_{group}.png")


if __name__ == "__main__":
    main()
