"""Tables and picture of a cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bitspike.cost import APART, SCOPES, Comparison, Cost, Energy, LayerCost, bit_budget
from bitspike.report.figure import KINDS, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOVED = (
    ("weight_bytes", "weights", "tab:blue"),
    ("spike_bytes", "spikes", "tab:cyan"),
    ("membrane_bytes", "membranes", "tab:purple"),
)
_CHARGED = (("operations_pj", "operations", "tab:orange"), ("memory_pj", "memory", "tab:gray"))
_WORDS = {"all": "total", "without_first": "without first", "hidden_only": "without first, last, downsample"}


def cost_table(counted: Cost) -> list[list[str]]:
    """One line per layer of a `bitspike.cost.Cost`, and the totals."""
    table = [["layer", "kind", "T", "in b", "w b", "rate %", "adds", "shift-adds", "mults", "bytes"]]
    for row in counted.layers:
        sizes = [str(row.T), str(row.input_bits), str(row.weight_bits), f"{100 * row.rate:.1f}"]
        table.append(
            [row.name, row.kind, *sizes, *_counts(row.adds, row.shift_adds, row.multiplications, row.size_bits)]
        )
    for name, roles in (("all", ()), ("hidden_only", APART)):
        totals = [counted.total(key, roles) for key in ("adds", "shift_adds", "multiplications", "size_bits")]
        table.append([_WORDS[name], "", "", "", "", "", *_counts(*totals)])
    return table


def metric_table(counted: Cost, energies: Energy | None = None) -> list[list[str]]:
    """One line per synapse and per element with traffic or updates, and the totals of every scope.

    Args:
        counted: from `bitspike.cost.cost`. energies: of the same, for a column in nJ.
    """
    head = ["layer", "kind", "BB", "ACE", "S-ACE", "NS-ACE", "updates", "weights B", "spikes B", "membranes B"]
    table = [[*head, "nJ"] if energies else head]
    by_row = energies.rows if energies else [None] * len(counted.rows)
    for row, charged in zip(counted.rows, by_row, strict=True):
        if row.macs or row.updates or row.moved_bytes:
            cells = [_budget(row), *_plain(row.ace, row.s_ace, row.ns_ace, row.updates), *_plain(*_bytes(row))]
            table.append([row.name, row.kind, *cells, *([f"{charged.energy_pj / 1e3:,.2f}"] if charged else [])])
    keys = ("ace", "s_ace", "ns_ace", "updates", "weight_bytes", "spike_bytes", "membrane_bytes")
    for name, roles in SCOPES.items():
        cells = [f"{bit_budget(counted, roles)['bit_budget']:.2f}", *_plain(*(counted.total(k, roles) for k in keys))]
        nj = [f"{energies.total_pj(roles) / 1e3:,.2f}"] if energies else []
        table.append([_WORDS[name], "", *cells, *nj])
    return table


def energy_table(compared: Mapping[str, Comparison]) -> list[list[str]]:
    """One line per set of constants: the network, the quantized ANN beside it, and when the network wins.

    Args:
        compared: name of the set → comparison, from `bitspike.cost.cost_summary`.
    """
    head = ["constants", "SNN nJ", "of it memory", "ANN nJ", "of it memory", "density %", "the SNN", "operations only"]
    table = [[*head, "not charged"]]
    for name, result in compared.items():
        cells = [result.snn.total_pj(), result.snn.memory_pj(), result.ann.total_pj(), result.ann.memory_pj()]
        missing = ", ".join(result.snn.not_charged) or "-"
        words = [f"{100 * result.network.density:.1f}", result.network.verdict, result.operations.verdict, missing]
        table.append([name, *(f"{pj / 1e3:,.2f}" for pj in cells), *words])
    return table


def cost_picture(counted: Cost, path: Path | None, title: str, energies: Energy | None = None) -> Figure:
    """Operations by kind, bytes moved and (with ``energies``) energy of every layer, neuron and sum, as a PNG.

    Args:
        path: PNG to write; None for none.

    Returns:
        The figure, which a notebook shows by itself.

    Raises:
        ImportError: matplotlib is missing.
    """
    rows = counted.rows
    figure = new_figure(12.0 if energies else 9.0, 1.2 + 0.24 * len(rows))
    panels = figure.subplots(1, 3 if energies else 2, sharey=True)
    operations = [[getattr(row, key) / 1e6 for row in rows] for key, _, _ in KINDS]
    _stack(panels[0], operations, [(words, colour) for _, words, colour in KINDS])
    panels[0].set_xlabel("operations per sample, million")
    moved = [[getattr(row, key) / 1e3 for row in rows] for key, _, _ in _MOVED]
    _stack(panels[1], moved, [(words, colour) for _, words, colour in _MOVED])
    panels[1].set_xlabel("moved per sample, kB")
    if energies:
        charged = [[getattr(row, key) / 1e6 for row in energies.rows] for key, _, _ in _CHARGED]
        _stack(panels[2], charged, [(words, colour) for _, words, colour in _CHARGED])
        panels[2].set_xlabel(f"energy per sample, µJ ({energies.constants})")
    names = [row.name if row.kind != "amplitude" else f"{row.name} (amplitude)" for row in rows]
    panels[0].set_yticks(range(len(rows)), names, fontsize="small")
    panels[0].invert_yaxis()
    figure.suptitle(title)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def _stack(axes: Axes, columns: list[list[float]], styles: list[tuple[str, str]]) -> None:
    below = [0.0] * len(columns[0])
    for values, (words, colour) in zip(columns, styles, strict=True):
        axes.barh(range(len(values)), values, left=below, label=words, color=colour)
        below = [a + b for a, b in zip(below, values, strict=True)]
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small")


def _counts(adds: float, shift_adds: float, multiplications: float, size_bits: float) -> list[str]:
    return _plain(adds, shift_adds, multiplications, size_bits / 8)


def _plain(*values: float) -> list[str]:
    return [f"{value:,.0f}" for value in values]


def _budget(row: LayerCost) -> str:
    return str(row.bit_budget) if row.kind == "synapse" else ""


def _bytes(row: LayerCost) -> tuple[float, float, float]:
    return row.weight_bytes, row.spike_bytes, row.membrane_bytes
