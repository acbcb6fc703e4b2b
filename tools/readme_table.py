"""Write the tables between ``<!-- table: STUDY -->`` and ``<!-- end -->`` from committed study results.

``<!-- levels: STUDY -->`` begins a table of how levels and bits are used instead.

Usage: python tools/readme_table.py [--check] FILE.md ...
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from bitspike.report import LevelUse, as_markdown, level_table, study_table
from bitspike.training.files import read_json
from bitspike.training.study import ArmSummary, Metric

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"(<!-- (table|levels): (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _table(root: Path, kind: str, folder: str) -> str:
    path = root / folder / "compare.json"
    if not path.exists():
        return "Not run."
    document = read_json(path)
    rows = [
        ArmSummary(row["arm"], row["n"], row["missing"], {key: Metric(**m) for key, m in row["metrics"].items()})
        for row in document["arms"]
    ]
    if kind == "levels":
        return as_markdown(level_table(rows, [LevelUse(**use) for use in document.get("levels", [])]))
    return as_markdown(study_table(rows))


def main(arguments: list[str]) -> int:
    """Rewrite (or with --check compare) the tables of the given files; 1 if one is out of date."""
    check = "--check" in arguments
    stale = 0
    for name in (a for a in arguments if a != "--check"):
        path = Path(name)
        text = path.read_text(encoding="utf-8")
        new = _BLOCK.sub(lambda m: f"{m[1]}{_table(ROOT, m[2], m[3])}\n{m[4]}", text)
        if new != text and check:
            print(f"{name}: a table is out of date; run python tools/readme_table.py {name}")
            stale = 1
        elif new != text:
            path.write_text(new, encoding="utf-8")
    return stale


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
