"""The table of exports as text, from the rows of results/exchange."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bitspike.report import narrow_tables

START, END = "<!-- table: made by benchmarks/exchange/table.py -->\n", "<!-- end -->"
ORDER = (
    "binary",
    "binary, weights of ±1",
    "ternary",
    "multi-bit",
    "ReverB, 8 bit",
    "mixed allocation",
    "residual, binary",
)


def cell(found: list[dict[str, Any]]) -> str:
    """The rows of one target and network."""
    parts = []
    for row in found:
        if "refused" in row:
            parts.append(" ".join([*([row["how"]] if "how" in row else []), f"refused: {short(row['refused'])}"]))
        elif "not_run" in row:
            parts.append("not run")
        elif row["differ"]:
            parts.append(f"{row['how']}: {row['differ']:,} of {row['compared']:,} {row['what']} differ")
        else:
            parts.append(f"{row['how']}: {_well(row)}")
    told = []
    for word in ("exact", "no flips"):
        ends = f": {word}"
        alike = [part.removesuffix(ends) for part in parts if part.endswith(ends)]
        told += [f"{word} ({_systems(alike)})"] if alike else []
        parts = [part for part in parts if not part.endswith(ends)]
    return "; ".join([*told, *parts]) or "not run"


def _systems(names: list[str]) -> str:
    """Names of what ran; where each ran the same forms, those once behind them.

    >>> _systems(["ONNX Runtime scan", "OpenVINO scan"]), _systems(["gcc"])
    ('ONNX Runtime, OpenVINO: scan', 'gcc')
    """
    pairs = [name.rpartition(" ") for name in names]
    forms = {first: [form for other, _, form in pairs if other == first] for first, _, _ in pairs}
    if "" in forms or len(forms) < 2 or len({tuple(each) for each in forms.values()}) > 1:
        return ", ".join(names)
    return f"{', '.join(forms)}: {', '.join(next(iter(forms.values())))}"


def _well(row: dict[str, Any]) -> str:
    """What is said of a row in which nothing differs: of float32 sums that no sample has a flipped spike."""
    return "no flips" if "flips" in row.get("what", "") else "exact"


def short(reason: str) -> str:
    """The first reason, that of a neuron if there is one; how many more there are."""
    parts = re.split(r"; (?=\S+ \([\w ]+\): )", reason)
    first = next((part for part in parts if " sends " in part), parts[0])
    told = re.sub(r"^\S+ (\([\w ]+\)): ", r"\1 ", first).split(";")[0].replace("|", "¦")
    return told + (f" (and {len(parts) - 1} more)" if len(parts) > 1 else "")


def table(found: list[dict[str, Any]]) -> str:
    """Networks down, targets across."""
    found = sorted(found, key=lambda row: (ORDER.index(row["network"]), row["T"]))
    targets = sorted({row["target"] for row in found})
    lines = [f"| network | T | {' | '.join(targets)} |", "| --- " * (2 + len(targets)) + "|"]
    for name, T in dict.fromkeys((row["network"], row["T"]) for row in found):
        mine = [row for row in found if (row["network"], row["T"]) == (name, T)]
        cells = [cell([row for row in mine if row["target"] == target]) for target in targets]
        lines.append(f"| {name} | {T} | {' | '.join(cells)} |")
    return narrow_tables("\n".join(lines))


def put(page: Path, text: str) -> None:
    """Where the page has its marks."""
    whole = page.read_text(encoding="utf-8")
    if START not in whole:
        print(f"{page.name} has no place for the table: put {START.strip()} and {END} into it")
        return
    before, rest = whole.split(START)
    page.write_text(f"{before}{START}{text}\n{rest[rest.index(END) :]}", encoding="utf-8")
