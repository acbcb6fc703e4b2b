"""The page of the programs benchmark: tables from JSON, "not run" where there is none; and one job from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wide import widened

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "benchmarks" / "programs"
NAMES = ("accuracy", "flips", "size", "causes", "recordings")


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPTS / script), *arguments], capture_output=True, text=True)


def rows(block: str) -> list[list[str]]:
    """Cells of a table."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines() if "|" in line]


def record(name: str) -> dict[str, Any]:
    """A committed result: the shape of the JSON is that of what stands in the repository."""
    document: dict[str, Any] = json.loads((ROOT / "results" / "programs" / f"{name}.json").read_text())
    return document


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    """Options of tables.py for a page with three results: one within the goal, one beyond it, one of real spikes."""
    folder, page = tmp_path / "results", tmp_path / "page.md"
    folder.mkdir()
    for name, program in (("digits_demo-binary", 0.97), ("digits_demo-ternary", 0.9801), ("digits_demo-reverb", 0.9)):
        document = record(name)
        document["accuracy"] |= {"folded": 0.98, "program": program, "drop_points": 100 * (0.98 - program)}
        (folder / f"{name}.json").write_text(json.dumps(document))
    wide = record("untrained-sign")
    wide["size"] |= {"file_bytes": 1060, "counted_bytes": 1000.0}
    (folder / "untrained-sign.json").write_text(json.dumps(wide))
    page.write_text("".join(f"<!-- programs: {name} -->\n<!-- end -->\n" for name in NAMES))
    return "--results", str(folder), "--page", str(page)


def test_tables_say_what_was_met_and_what_was_not_run(files: tuple[str, ...]) -> None:
    assert run("tables.py", *files, "--check").returncode == 1
    assert run("tables.py", *files).returncode == 0
    page = widened(Path(files[3]).read_text())
    parts = page.split("<!-- programs: ")[1:]
    cells = [
        [[c.strip() for c in line.split("|")[1:-1]] for line in part.splitlines() if "|" in line] for part in parts
    ]
    accuracy, flips, size, causes, recordings = ({(row[0], row[1]): row for row in table} for table in cells)
    assert accuracy["digits", "binary, 1 bit"][2:4] == ["98.00", "97.00"]
    verdicts = {row[1]: row[-1] for row in accuracy.values() if row[0] == "digits"}
    assert verdicts["binary, 1 bit"] == "not met" and verdicts["ternary, 2 bits"] == "met"
    assert verdicts["ReverB, real as 8 bits"] == "no goal" and verdicts["ReverB, real as 4 bits"] == "not run"
    assert all(row[-1] == "not run" for table in (flips, accuracy) for row in table.values() if "CIFAR" in row[0])
    sizes = {row[1]: row for row in size.values() if "ResNet20" in row[0]}
    assert sizes["ReverB, ±1 weights"][6:8] == ["6.0%", "not met"]
    told = [row for key, row in recordings.items() if key[0] in ("spoken digits", "N-MNIST, 100 recordings")]
    assert len(told) == 22 and all(row[-1] == "not run" for row in told)
    assert all(row[2:] == ["not run"] * 4 for row in causes.values() if "CIFAR" in row[0])
    assert (
        causes["digits", "binary, 1 bit"][2].startswith("1.00; ") and causes["digits", "binary, 1 bit"][3] == "not run"
    )
    assert run("tables.py", *files, "--check").returncode == 0


def test_a_result_of_another_job_is_refused(files: tuple[str, ...]) -> None:
    path = Path(files[1]) / "digits_demo-binary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "another"}))
    (Path(files[1]) / "unknown.json").write_text("{}")
    found = run("tables.py", *files)
    assert found.returncode == 1 and "digits_demo-binary.json, unknown.json" in found.stdout


def test_the_page_is_up_to_date() -> None:
    assert run("tables.py", "--check").returncode == 0


@pytest.mark.slow
def test_a_job_from_training_to_its_file(tmp_path: Path) -> None:
    options = ("--only", "digits_demo-reverb-s4", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"))
    assert "open  digits_demo-reverb-s4" in run("run.py", *options, "--list").stdout
    ran = run("run.py", *options)
    assert ran.returncode == 0, ran.stderr
    found = json.loads((tmp_path / "out" / "digits_demo-reverb-s4.json").read_text())
    committed = record("digits_demo-reverb-s4")
    assert found["key"] == committed["key"] and found["network"]["key"] == committed["network"]["key"]
    assert found["accuracy"]["samples"] == 359 and found["accuracy"]["agreement"] > 0.9
    for name in ("interpreter", "engine"):
        assert found["same"][name]["equal"] == ["batch 1", "chunks of 1", "chunks of 3"]
    assert "done  digits_demo-reverb-s4" in run("run.py", *options, "--list").stdout
