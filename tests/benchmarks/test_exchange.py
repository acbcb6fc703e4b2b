"""Tables of docs/deploy.md are those of the committed rows; none of them says that a number differs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOUND, SCRIPTS = ROOT / "results" / "exchange", ROOT / "benchmarks" / "exchange"
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"exchange_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documents() -> list[Any]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOUND.glob("*_T*.json"))]


def test_the_table_is_that_of_the_rows() -> None:
    rows = [row for document in documents() for row in document["rows"]]
    assert rows and script("render").table(rows) in PAGE
    assert not [row for row in rows if row.get("differ")]


def test_every_row_has_an_end() -> None:
    """It ran, or a reason is given."""
    for document in documents():
        for row in document["rows"]:
            assert row.get("compared") or row.get("refused") or row.get("not_run"), row


def test_the_tables_on_nir_are_those_of_the_rows() -> None:
    document = json.loads((FOUND / "nir_readers.json").read_text(encoding="utf-8"))
    tables = script("nir_tables")
    assert tables.readers(document) in PAGE and tables.makers(document) in PAGE
    mapped = [row for row in document["readers"] if row["reader"] != "sinabs, as it reads"]
    assert {row.get("flips", 0) for row in mapped} == {0}
    assert sum("flips" in row for row in mapped) > 20
    assert sum(row.get("ties", 0) for row in mapped) > 0


def test_floats_are_not_called_exact() -> None:
    rows = [{"how": how, "differ": n, "compared": 16, "what": "samples with flips"} for how, n in (("A", 0), ("B", 1))]
    told = script("render").cell([*rows, {"how": "C", "differ": 0, "compared": 160, "what": "outputs"}])
    assert told == "exact (C); no flips (A); B: 1 of 16 samples with flips differ"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("_2 (Ternary): Ternary sends {-1,0,1}; train LIF", "(Ternary) Ternary sends {-1,0,1}"),
        ("_1 (Join): no; _2 (LIF): LIF sends {0..3}; train", "(LIF) LIF sends {0..3} (and 1 more)"),
        ("4 steps: QONNX has no time", "4 steps: QONNX has no time"),
    ],
)
def test_a_refusal_in_short(reason: str, told: str) -> None:
    assert script("render").short(reason) == told


def test_rows_that_differ_are_said() -> None:
    cell = script("render").cell
    same = {"how": "gcc", "compared": 9, "differ": 0, "what": "outputs"}
    assert cell([same, {**same, "how": "clang", "differ": 2}]) == "exact (gcc); clang: 2 of 9 outputs differ"
    assert cell([{"not_run": "there is no gcc"}]) == "not run" and cell([]) == "not run"
