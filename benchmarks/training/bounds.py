"""What bounds the goals: the same rows read another way, for the block "bounds" of docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bitspike.report import as_markdown

Record = dict[str, Any]
FLOOR = "two buffered copies"
SPLIT_MS = 1.0  # between the two states of the floor; no row of any run lies near it
RELU = {"LIF": "the network with ReLU", "LIF, bf16": "the network with ReLU bf16"}
COMPILED = "SpikingJelly LIF, ATan, torch.compile"


def bounds(records: dict[str, Record], breakdown: Record | None) -> str:
    """The block: steps against the network with ReLU, the floor's two states, the compiled peer's spread."""
    parts = []
    if "networks" in records:
        parts += _steps(_measured(records["networks"]))
    if breakdown:
        native = breakdown["LIF, native scan"]
        maps = sum(value for name, value in native.items() if name.startswith("convolution"))
        parts.append(f"In a profile of the float32 step, convolutions are {maps:.0f} of {native['all']:.0f} ms.")
    if "neuron" in records:
        rows = _measured(records["neuron"])
        parts += ["\n".join([*_floor(rows), *_compiled(rows)])]
    return "\n\n".join(part for part in parts if part) or "Not run."


def _measured(record: Record) -> list[Record]:
    return [row for row in record["rows"] if row["status"] == "measured"]


def _place(row: Record) -> tuple[str, str]:
    return row["ours"]["label"], row["other"]["label"]


def _steps(rows: list[Record]) -> list[str]:
    """Goals against other libraries, and where they would stand if neurons cost what ReLU does.

    Both factors are medians over pairs of one row, so times of different rows are not mixed.
    """
    relu = {ours: row["ratio"] for row in rows for ours, other in [_place(row)] if RELU.get(ours) == other}
    table = [["LIF against", "precision", "its speed", "goal", "with neurons as cheap as ReLU"]]
    for row in rows:
        ours, other = _place(row)
        if ours in relu and other != RELU[ours] and row["goal"] and row["ratio_is"] != "ours/other":
            reach = row["ratio"] * relu[ours]
            word = "the goal is met" if reach >= row["goal"]["bound"] else "below the goal"
            table.append([other, row["stage"], f"{row['ratio']:.2f}×", row["goal"]["text"], f"{reach:.2f}×: {word}"])
    if len(table) == 1:
        return []
    said = "; ".join(f"{name}: {ratio:.2f}" for name, ratio in relu.items())
    return [as_markdown(table), f"Time of a step over that of the same network with ReLU: {said}."]


def _floor(rows: list[Record]) -> list[str]:
    """The states of the copy floor, and the ratios of each class against the slow one."""
    floor = [row for row in rows if row["other"]["label"] == FLOOR]
    fast = [row for row in floor if row["other_ms"] < SPLIT_MS]
    slow = [row for row in floor if row["other_ms"] >= SPLIT_MS]
    if not fast or not slow:
        return []
    states = f"{_span(fast, 'other_ms')} ms in {len(fast)} of {len(floor)} rows, {_span(slow, 'other_ms')} ms else"
    missed = [row for row in fast if row["goal"] and not row["met"]]
    names = "; ".join(f"{row['ours']['label']} at {row['stage'][0]} ({row['ratio']:.2f})" for row in missed)
    ratios = ", ".join(f"class {kind} {_span(of, 'ratio')} times" for kind in "MU" if (of := _class(slow, kind)))
    lines = [f"- The floor took {states}. Goals missed against the fast state: {names or 'none'}."]
    return [*lines, f"- Time over the slow state of the floor: {ratios}."]


def _class(rows: list[Record], kind: str) -> list[Record]:
    return [row for row in rows if row["class"] == kind]


def _compiled(rows: list[Record]) -> list[str]:
    """Rows against the compiled peer at A: what differs between goals met and missed."""
    rows = [row for row in rows if row["other"]["label"] == COMPILED and row["goal"] and row["stage"].startswith("A")]
    parts = []
    for met, word in ((True, "met"), (False, "missed")):
        if of := [row for row in rows if row["met"] is met]:
            parts.append(f"goal {word}: {_span(of, 'other_ms')} ms, bitspike {_span(of, 'ours_ms')} ms")
    return [f"- SpikingJelly under torch.compile at A, {'; '.join(parts)}."] if parts else []


def _span(rows: Sequence[Record], key: str) -> str:
    values = [row[key] for row in rows]
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"
