"""Tables and pictures of studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bitspike.checks import message
from bitspike.cost import Cost
from bitspike.training.study import ArmSummary, Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("accuracy %", "test_accuracy", "percent"),
    ("folded %", "folded_test_accuracy", "percent"),
    ("validation %", "validation_accuracy", "percent"),
    ("rate %", "spike_rate", "percent"),
    ("set bits", "set_bits", "plain"),
    ("spike b", "spike_bits", "integer"),
    ("weight b", "weight_bits", "integer"),
    ("adds M", "adds", "million"),
    ("shift-adds M", "shift_adds", "million"),
    ("mults left M", "multiplications", "million"),
    ("size kB", "size_bytes", "kilo"),
)
_KINDS = (
    ("adds", "additions", "tab:green"),
    ("shift_adds", "shift-additions", "tab:olive"),
    ("multiplications", "multiplications left", "tab:red"),
)


def _text(metric: Metric | None, kind: str) -> str:
    if metric is None:
        return "not run"
    scale, digits = {"percent": (100.0, 2), "million": (1e-6, 3), "kilo": (1e-3, 1)}.get(kind, (1.0, 3))
    if kind == "integer":
        return f"{metric.mean:.0f}"
    spread = f" ±{metric.std * scale:.2f}" if metric.std is not None and kind == "percent" else ""
    return f"{metric.mean * scale:.{digits}f}{spread}"


def study_table(rows: Sequence[ArmSummary]) -> list[list[str]]:
    """Header and one line per arm; what has not run says so.

    Args:
        rows: from `bitspike.training.study.summarise`.
    """
    table = [["arm", "seeds", *(title for title, _, _ in _COLUMNS)]]
    for row in rows:
        table.append([row.arm, str(row.n), *(_text(row.metrics.get(key), kind) for _, key, kind in _COLUMNS)])
    return table


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


def cost_table(counted: Cost) -> list[list[str]]:
    """One line per layer of a `bitspike.cost.Cost`, and the totals."""
    table = [["layer", "kind", "T", "in b", "w b", "rate %", "adds", "shift-adds", "mults", "bytes"]]
    for row in counted.layers:
        sizes = [str(row.T), str(row.input_bits), str(row.weight_bits), f"{100 * row.rate:.1f}"]
        table.append(
            [row.name, row.kind, *sizes, *_counts(row.adds, row.shift_adds, row.multiplications, row.size_bits)]
        )
    totals = [counted.total(key) for key in ("adds", "shift_adds", "multiplications", "size_bits")]
    table.append(["total", "", "", "", "", "", *_counts(*totals)])
    apart = ("first", "last", "downsample")
    without = [counted.total(key, apart) for key in ("adds", "shift_adds", "multiplications", "size_bits")]
    table.append(["without first, last, downsample", "", "", "", "", "", *_counts(*without)])
    return table


def _counts(adds: float, shift_adds: float, multiplications: float, size_bits: float) -> list[str]:
    return [f"{adds:,.0f}", f"{shift_adds:,.0f}", f"{multiplications:,.0f}", f"{size_bits / 8:,.0f}"]


def cost_picture(counted: Cost, path: Path, title: str) -> None:
    """Operations by kind of every layer, as a PNG.

    Raises:
        ImportError: matplotlib is missing.
    """
    figure = _figure(8.0, 0.9 + 0.28 * len(counted.layers))
    axes = figure.subplots()
    below = [0.0] * len(counted.layers)
    for key, label, colour in _KINDS:
        values = [getattr(row, key) / 1e6 for row in counted.layers]
        axes.barh(range(len(values)), values, left=below, label=label, color=colour)
        below = [a + b for a, b in zip(below, values, strict=True)]
    axes.set_yticks(range(len(below)), [row.name for row in counted.layers], fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel("operations per sample, million")
    axes.legend(fontsize="small")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def _figure(width: float, height: float) -> Figure:
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


def study_picture(rows: Sequence[ArmSummary], path: Path, title: str) -> None:
    """Accuracy beside operations per sample and size of every finished arm, as a PNG.

    Where an arm did not read the test split, the accuracies shown are those on the validation split.

    Args:
        rows: from `summarise`; arms without a finished seed are left out. path: PNG to write. title: heading.

    Raises:
        ImportError: matplotlib is missing. ValueError: no arm has finished.
    """
    done = [row for row in rows if row.n]
    measured = "test_accuracy" if all("test_accuracy" in row.metrics for row in done) else "validation_accuracy"
    if not done:
        raise ValueError(message("picture", "at least one arm must have finished", "none", "run the study first"))
    figure = _figure(11.0, 3.8)
    left, middle, right = figure.subplots(1, 3)
    names = [row.arm for row in done]
    places = range(len(done))
    accuracy = [100 * row.metrics[measured].mean for row in done]
    spread = [100 * (row.metrics[measured].std or 0.0) for row in done]
    left.errorbar(accuracy, places, xerr=spread, fmt="o", color="tab:blue", capsize=3)
    left.set_title(f"{measured.replace('_', ' ')}, % (mean ± std)")
    below = [0.0] * len(done)
    for key, label, colour in _KINDS:
        values = [row.metrics[key].mean / 1e6 for row in done]
        middle.barh(places, values, left=below, label=label, color=colour)
        below = [a + b for a, b in zip(below, values, strict=True)]
    middle.set_title("operations per sample, million")
    middle.legend(fontsize="small")
    right.barh(places, [row.metrics["size_bytes"].mean / 1e3 for row in done], color="tab:gray")
    right.set_title("weights as packed, kB")
    for axes in (left, middle, right):
        axes.set_yticks(places, names if axes is left else [""] * len(names))
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
