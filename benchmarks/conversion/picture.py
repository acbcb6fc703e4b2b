"""Draw docs/conversion.png from the results: accuracy against total bits (T × bits) and against additions.

Usage: python benchmarks/conversion/picture.py [--results results/conversion] [--out docs/conversion.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common import FILES, RESULTS
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from tables import KINDS, NETWORKS, ROOT, Records, additions, load

COLOURS = {
    "binary": "tab:green",
    "ternary": "tab:orange",
    "multibit11": "tab:purple",
    "multibit22": "tab:red",
    "binary, fitted": "limegreen",
    "multibit22, fitted": "tab:pink",
    "spikingjelly": "tab:blue",
}


def draw(axes: Axes, arch: str, records: Records, against: str) -> None:
    """One panel: a line a kind of spike, a point a T."""
    for kind, label in KINDS.items():
        found = [record for (name, own, _), record in sorted(records.items()) if (name, own) == (arch, kind)]
        if not found:
            continue
        bits = [record["T"] * record["spike_bits"] for record in found]
        across = bits if against == "bits" else [additions(record) / 1e6 for record in found]
        heights = [100 * record["snn_accuracy"] for record in found]
        axes.plot(across, heights, "o-", color=COLOURS[kind], label=label, markersize=4, linewidth=1.2)
    ann = next((100 * record["ann_accuracy"] for (name, _, _), record in records.items() if name == arch), None)
    if ann is not None:
        axes.axhline(ann, color="black", linewidth=0.8, linestyle=":", label=f"ANN, {ann:.2f} %")
    axes.set_xscale("log", base=2 if against == "bits" else 10)
    label = "total bits, T × bits of a spike" if against == "bits" else "million additions a sample"
    axes.set_xlabel(label, fontsize=8)
    axes.set_ylabel("test accuracy, %", fontsize=8)
    axes.set_title(f"{NETWORKS[arch]}, CIFAR-10", fontsize=9)
    axes.xaxis.set_major_locator(LogLocator(2) if against == "bits" else LogLocator(10, (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / RESULTS)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "conversion.png")
    given = parser.parse_args()
    records = load(given.results)
    if not records:
        raise SystemExit(f"picture: {given.results} must hold results, got none; run benchmarks/conversion/run.py")
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2)
    for row, arch in zip(panels, FILES, strict=True):
        for axes, against in zip(row, ("bits", "additions"), strict=True):
            draw(axes, arch, records, against)
    for axes in panels.flat:
        axes.legend(fontsize=7, loc="lower right")
    figure.savefig(given.out, dpi=110)


if __name__ == "__main__":
    main()
