"""Write the tables between ``<!-- table: STUDY -->`` and ``<!-- end -->`` from committed study results.

``<!-- levels: STUDY -->`` begins a table of how levels and bits are used instead.
``<!-- budgets: STUDY -->`` asks for budgets kept and bits allocated, a row per job.

Usage: python tools/readme_table.py [--check] FILE.md ...
"""

from __future__ import annotations

import sys
from pathlib import Path

from bitspike.report import LevelUse, as_markdown, level_table, rewrite_blocks, study_table
from bitspike.training.files import read_json
from bitspike.training.study import ArmSummary, Metric

ROOT = Path(__file__).resolve().parent.parent


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


def _budgets(root: Path, folder: str) -> str:
    rows = [
        [
            "arm",
            "seed",
            "validation %",
            "test %",
            "budget",
            "counted",
            "limit",
            "used %",
            "bits w, s; T",
            "before repair",
        ]
    ]
    jobs = [read_json(path) for path in (root / folder).glob("*-seed*.json")]
    for job in sorted(jobs, key=lambda job: (job["result"]["size_bytes"], job["seed"])):
        result = job["result"]
        accuracies = [f"{100 * result[key]:.2f}" for key in ("validation_accuracy", "test_accuracy")]
        epoch = result["budget"]["repairs"][0]["epoch"]
        before = [record for record in result["history"] if record["epoch"] <= epoch][-1]
        spent = [_spent(result["history"][-1]), _spent(before)]
        for name, row in result["budget"]["budgets"].items():
            counted = [f"{row['value']:,.0f}", f"{row['limit']:,.0f}", f"{100 * row['used']:.1f}"]
            rows.append([job["arm"], str(job["seed"]), *accuracies, name, *counted, *spent])
    return as_markdown(rows)


def _spent(record: dict[str, float]) -> str:
    return f"{record['weight_bits']:.2f}, {record['spike_bits']:.2f}; {record['T']:.2f}"


def main(arguments: list[str]) -> int:
    """Rewrite (or with --check compare) the tables of the given files; 1 if one is out of date."""
    check = "--check" in arguments
    writers = {
        "table": lambda folder: _table(ROOT, "table", folder),
        "levels": lambda folder: _table(ROOT, "levels", folder),
        "budgets": lambda folder: _budgets(ROOT, folder),
    }
    stale = 0
    for name in (a for a in arguments if a != "--check"):
        if rewrite_blocks(Path(name), writers, check) and check:
            print(f"{name}: a table is out of date; run python tools/readme_table.py {name}")
            stale = 1
    return stale


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
