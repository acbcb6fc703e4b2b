"""Write the blocks between ``<!-- benchmark: NAME -->`` and ``<!-- end -->`` of docs/benchmarks.md from the results.

Usage: python benchmarks/training/tables.py [--check] [--results DIR] [--page FILE.md]

Names: summary, bounds, machine, computes, and the groups neuron, networks, still, memory, published, formers,
formers_memory. A quick run is never shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bounds import bounds

from bitspike.files import read_json
from bitspike.report import as_markdown, rewrite_blocks

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("neuron", "networks", "still", "memory", "published", "formers", "formers_memory")
Record = dict[str, Any]


def load(results: Path) -> dict[str, Record]:
    """Groups that have been run; a quick run counts as none."""
    found: dict[str, Record] = {}
    for group in GROUPS:
        path = results / f"{group}.json"
        if path.exists():
            record = read_json(path)
            assert isinstance(record, dict)
            if not record["quick"]:
                found[group] = record
    return found


def block(name: str, records: dict[str, Record], results: Path, page: Path) -> str:
    """The text of one block."""
    if name == "summary":
        return _summary(records)
    if name == "bounds":
        path = results / "breakdown.json"
        return bounds(records, read_json(path) if path.exists() else None)  # type: ignore[arg-type]
    if name == "machine":
        return _machine(records)
    if name == "computes":
        return _computes(records)
    if name not in records:
        return "Not run."
    picture = page.parent / f"benchmark_{name}.png"
    parts = [f"![{name}: bars of every case]({picture.name})"] if picture.exists() else []
    if not records[name]["complete"] or records[name]["only"]:
        parts.append("Incomplete: the run was cut short or limited to some rows.")
    for stage in dict.fromkeys(row["stage"] for row in records[name]["rows"]):
        rows = [row for row in records[name]["rows"] if row["stage"] == stage]
        table = [_memory_row(row) for row in rows] if name.endswith("memory") else [_time_row(row) for row in rows]
        head = _MEMORY_HEAD if name.endswith("memory") else _TIME_HEAD
        parts.append(f"**{stage}**\n\n{as_markdown([head, *table])}")
    parts.append("\n".join(f"- Left out: {text}." for text in records[name]["left_out"]))
    return "\n\n".join(part for part in parts if part)


_TIME_HEAD = ["bitspike", "class", "against", "bitspike ms", "other ms", "ratio", "90 %", "goal", "result"]
_MEMORY_HEAD = ["bitspike", "class", "against", "peak MiB", "other", "share", "saved MiB", "other", "share", "goal"]
_MEMORY_HEAD += ["result"]


def _time_row(row: Record) -> list[str]:
    names = [row["ours"]["label"], row["class"], row["other"]["label"]]
    goal = _goal(row, "× its time", "× its speed")
    if row["status"] != "measured":
        return [*names, "–", "–", "–", "–", goal, row["status"]]
    word = "× its time" if row["ratio_is"] == "ours/other" else "× its speed"
    span = f"{row['ratio_low']:.2f}–{row['ratio_high']:.2f}"
    return [*names, _ms(row["ours_ms"]), _ms(row["other_ms"]), f"{row['ratio']:.2f}{word}", span, goal, _result(row)]


def _memory_row(row: Record) -> list[str]:
    names = [row["ours"]["label"], row["class"], row["other"]["label"]]
    goal = f"≤ {row['goal']['bound']:.0%}" if row["goal"] else ""
    if row["status"] != "measured":
        return [*names, *["–"] * 6, goal, row["status"]]
    figures = [f"{row[side]['peak_increase_mib']:.0f}" for side in ("ours", "other")] + [f"{row['ratio']:.0%}"]
    held = [saved_mib(row[side]) for side in ("ours", "other")]
    figures += ["not counted" if mib is None else f"{mib:.0f}" for mib in held]
    return [*names, *figures, "–" if None in held else f"{row['saved_ratio']:.0%}", goal, _result(row)]


def saved_mib(case: Record) -> float | None:
    """MiB of a case's saved tensors; None under lean memory, which keeps them out of sight of the count."""
    return None if case["spec"].get("memory") == "lean" else case["saved_mib"]


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _goal(row: Record, slower: str, faster: str) -> str:
    return "" if not row["goal"] else row["goal"]["text"] + (slower if row["ratio_is"] == "ours/other" else faster)


def _result(row: Record) -> str:
    if row["goal"] is None:
        return ""
    word = "met" if row["met"] else "not met"
    return word if row["met"] == row["met_by_interval"] or "ratio_low" not in row else f"{word}, interval crosses"


def _summary(records: dict[str, Record]) -> str:
    rows = [row for record in records.values() for row in record["rows"] if row["goal"]]
    if not rows:
        return "Not run."
    measured = [row for row in rows if row["status"] == "measured"]
    text = f"{sum(row['met'] for row in measured)} of {len(rows)} goals met"
    if len(rows) > len(measured):
        text += f", {len(rows) - len(measured)} not measured"
    lines = [text + "."]
    for group, record in records.items():
        for row in record["rows"]:
            if row["goal"] and not row.get("met"):
                name = f"{group}, {row['stage']}: {row['ours']['label']} against {row['other']['label']}"
                got = f"{row['ratio']:.2f} ({row['goal']['text']})" if row["status"] == "measured" else row["status"]
                lines.append(f"- Not met: {name}: {got}.")
    return "\n".join(lines[:1] + [""] * (len(lines) > 1) + lines[1:])


def _machine(records: dict[str, Record]) -> str:
    if not records:
        return "Not run."
    lines = []
    for group, record in records.items():
        m, c, s = record["machine"], record["configuration"], record["source"]
        dropped, kept = (
            sum(row.get(key, 0) for row in record["rows"]) for key in ("dropped_pairs", "disturbed_pairs_kept")
        )
        virtual, changed = " (virtual)" * m["hypervisor"], " with changes" * s["changed"]
        lines.append(
            f"- {group}: {m['cpu']}, {m['cores']} cores{virtual}, {m['memory_gib']:g} GiB, {m['libc']}; "
            f"{c['threads']} threads, kernel `{c['kernel']}`; {c['pairs']} pairs a row, {dropped} disturbed pairs "
            f"dropped, {kept} kept; commit {(s['commit'] or 'unknown')[:12]}{changed}."
        )
    versions: dict[str, str] = {}
    for record in records.values():
        for facts in record["versions"].values():
            versions |= facts["versions"]
    lines.append("- Versions: " + ", ".join(f"{name} {number}" for name, number in sorted(versions.items())) + ".")
    return "\n".join(lines)


def _computes(records: dict[str, Record]) -> str:
    """What every case computes and how often it fires, once each."""
    seen = {line: None for group, record in records.items() for line in _facts(group, record)}
    return "\n".join(seen) if seen else "Not run."


def _facts(group: str, record: Record) -> Iterator[str]:
    for row in record["rows"]:
        for side in (row["ours"], row["other"]):
            facts = side.get("facts")
            if facts:
                rate = facts.get("firing_rate")
                fired = "" if rate is None else f"; fires {rate:.0%}"
                yield f"- {group}, {side['label']}: {facts['computes']}{fired}"


def main() -> int:
    """Rewrite the page, or with --check return 1 if it is out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    given = parser.parse_args()
    records = load(given.results)
    stale = rewrite_blocks(
        given.page, {"benchmark": lambda name: block(name, records, given.results, given.page)}, given.check
    )
    if stale and given.check:
        print(f"{given.page.name} is out of date; run python benchmarks/training/tables.py")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
