"""Puts the tables on NIR into docs/deploy.md, from results/exchange/nir_readers.json."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bitspike.report import narrow_tables

ROOT = Path(__file__).resolve().parents[2]


def cell(row: dict[str, Any] | None) -> str:
    """What came out of one network in one reader."""
    if row is None:
        return "not run"
    if "refused" in row:
        found = re.search(r"reads no (\w+)|drops the padding", row["refused"])
        if found:
            return f"refused: no `{found[1]}`" if found[1] else "refused: padding"
        return "its reader fails" if "the reader raised" in row["refused"] else row["refused"]
    return "equal" if not row["flips"] else f"{row['flips']:,} flips"


def readers(document: dict[str, Any]) -> str:
    """Network × reader."""
    rows = document["readers"]
    peers = list(dict.fromkeys(row["reader"] for row in rows))
    names = list(dict.fromkeys(row["network"] for row in rows))
    versions = {peer: document["versions"].get(peer, {}).get(peer, "") for peer in peers}
    heads = [f"{peer} {versions[peer]}".strip() for peer in peers]
    lines = [f"| network | spikes a run | at the threshold | {' | '.join(heads)} |", "| --- " * (3 + len(peers)) + "|"]
    for name in names:
        found = {row["reader"]: row for row in rows if row["network"] == name}
        own = found["bitspike"]
        cells = " | ".join(cell(found.get(peer)) for peer in peers)
        lines.append(f"| {name} | {own['spikes']:,}, {own['rate']:.0%} fire | {own['ties']:,} | {cells} |")
    worst = max(row.get("output_difference", 0.0) for row in rows if row["reader"] in ("snntorch", "norse", "sinabs"))
    text = (
        f"Measured: networks trained on digits, T = {document['T']}, {document['samples']} test images; every spike of "
        "every layer and step beside the folded network's, in float32.\nWhere spikes are equal, outputs differ by "
        f"{worst:.1e} at most. At the threshold: membranes that are exactly it, where > and ≥ differ.\n\n"
    )
    return narrow_tables(text + "\n".join(lines))


def makers(document: dict[str, Any]) -> str:
    """Networks that others wrote."""
    lines = ["| file | outputs | as the maker's network |", "| --- | --- | --- |"]
    for row in document["makers"]:
        size = f"{row['spikes']:,}, {row['rate']:.0%} fire" if "spikes" in row else ""
        lines.append(f"| {row['network'] or row['maker']} | {size} | {cell(row)} |")
    return "\n".join(lines)


def main() -> None:
    """Put both tables where the page has their marks."""
    document = json.loads((ROOT / "results" / "exchange" / "nir_readers.json").read_text(encoding="utf-8"))
    page = ROOT / "docs" / "deploy.md"
    text = page.read_text(encoding="utf-8")
    for name, table in (("readers", readers(document)), ("makers", makers(document))):
        start = f"<!-- {name}: made by benchmarks/exchange/nir_tables.py -->\n"
        before, rest = text.split(start)
        text = f"{before}{start}{table}\n{rest[rest.index('<!-- end -->') :]}"
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
