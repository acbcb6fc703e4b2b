"""Table and picture of a study."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from bitspike.checks import message
from bitspike.report.figure import KINDS, new_figure
from bitspike.training.measures import MEASURES, Measure
from bitspike.training.study import ArmSummary, Metric

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
_LATER: tuple[tuple[str, str, str], ...] = (("bit budget", "bit_budget", "plain"), ("S-ACE M", "s_ace", "million"))
"""Columns that stand where an arm has the metric, which results of older versions have not."""


def _columns_of(name: str) -> list[tuple[str, str, str]]:
    """Columns of a measure other than accuracy, in place of those of accuracies."""
    measure = MEASURES[name]
    unit, kind = (" %", "percent") if measure.percent else ("", "plain")
    parts = {"": "test", "folded ": "folded_test", "validation ": "validation"}
    return [(f"{words}{measure.words}{unit}", f"{part}_{name}", kind) for words, part in parts.items()]


def measure_of(key: str) -> Measure:
    """The measure of a key that `measured_by` gives."""
    return MEASURES[key.partition("_")[2]]


def measured_by(rows: Sequence[ArmSummary]) -> tuple[str, str, float]:
    """What all rows were measured by: the key, its words, and its scale; on the test split where all read it.

    Raises:
        ValueError: they were measured by different things.
    """
    for name, measure in MEASURES.items():
        for part in ("test", "validation"):
            if all(f"{part}_{name}" in row.metrics for row in rows):
                unit, scale = (", %", 100.0) if measure.percent else ("", 1.0)
                return f"{part}_{name}", f"{part} {measure.words}{unit}", scale
    must = "all arms must be measured by the same metric"
    raise ValueError(message("picture", must, "several", "compare them apart"))


def metric_text(metric: Metric | None, kind: str) -> str:
    """A cell: kind "percent" (with its spread), "million", "kilo", "integer" or "plain"; "not run" for None."""
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
    there = {key for row in rows for key in row.metrics}
    columns = [*_COLUMNS, *(column for column in _LATER if column[1] in there)]
    others = [_columns_of(name) for name in MEASURES if name != "accuracy"]
    measured = [columns_of for columns_of in others if there & {key for _, key, _ in columns_of}]
    if measured:
        rest = (column for column in columns if "accuracy" not in column[1] or column[1] in there)
        columns = [*itertools.chain(*measured), *rest]
    table = [["arm", "seeds", *(title for title, _, _ in columns)]]
    for row in rows:
        table.append([row.arm, str(row.n), *(metric_text(row.metrics.get(key), kind) for _, key, kind in columns)])
    return table


def study_picture(rows: Sequence[ArmSummary], path: Path, title: str) -> None:
    """Accuracy (or what else was measured) beside operations per sample and size of every finished arm, as a PNG.

    Where an arm did not read the test split, the accuracies shown are those on the validation split.

    Args:
        rows: from `summarise`; arms without a finished seed are left out. path: PNG to write. title: heading.

    Raises:
        ImportError: matplotlib is missing. ValueError: no arm has finished.
    """
    done = [row for row in rows if row.n]
    if not done:
        raise ValueError(message("picture", "at least one arm must have finished", "none", "run the study first"))
    measured, words, scale = measured_by(done)
    figure = new_figure(11.0, 3.8)
    left, middle, right = figure.subplots(1, 3)
    names = [row.arm for row in done]
    places = range(len(done))
    accuracy = [scale * row.metrics[measured].mean for row in done]
    spread = [scale * (row.metrics[measured].std or 0.0) for row in done]
    left.errorbar(accuracy, places, xerr=spread, fmt="o", color="tab:blue", capsize=3)
    left.set_title(f"{words} (mean ± std)")
    below = [0.0] * len(done)
    for key, label, colour in KINDS:
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
