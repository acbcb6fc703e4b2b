"""The page of the conversion benchmark: tables from JSON, "not run" where there is none, and a picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wide import widened

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks" / "conversion"
PAGE = "<!-- conversion: goals -->\n<!-- end -->\n<!-- conversion: he_resnet20 -->\n<!-- end -->\n"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPTS / script), *arguments], capture_output=True, text=True)


def result(kind: str, T: int, accuracy: float) -> dict[str, Any]:
    library = "spikingjelly" if kind == "spikingjelly" else "bitspike"
    return {
        "library": library,
        "setting": {"arch": "he_resnet20", "neuron": kind},
        "T": T,
        "spike_bits": {"multibit22": 4}.get(kind, 1),
        "ann_accuracy": 0.9173,
        "snn_accuracy": accuracy,
        "drop_points": 100 * (0.9173 - accuracy),
        "conversion_time_s": 21.0,
        "threads": 2,
        "operations_per_sample": {"adds": 1e6 * T, "shift_adds": 2e6 if kind == "multibit22" else 0.0},
    }


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    cases = (("multibit22", 1, 0.9100), ("multibit22", 2, 0.9133), ("multibit22", 4, 0.9169), ("spikingjelly", 8, 0.5))
    for kind, T, accuracy in cases:
        correction = "weights" if T == 4 else "line"
        rest = "" if kind == "spikingjelly" else f"-mse-channel-{correction}-512"
        (folder / f"he_resnet20-{kind}-T{T}{rest}.json").write_text(json.dumps(result(kind, T, accuracy)))
    return folder


def test_tables_say_what_was_met_and_what_was_not_run(tmp_path: Path, results: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    options = ("--results", str(results), "--page", str(page))
    assert run("tables.py", *options, "--check").returncode == 1
    assert run("tables.py", *options).returncode == 0
    text = widened(page.read_text())
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ResNet")
    ]
    assert [row[1:3] + row[5:8] for row in rows if row[0] == "ResNet-20"] == [
        ["line", "1", "0.73", "≤ 1.0", "met"],
        ["line", "2", "0.40", "≤ 0.3", "not met"],
        ["line", "4", "–", "≤ 0.1", "not run"],
        ["weights", "1", "–", "≤ 1.0", "not run"],
        ["weights", "2", "–", "≤ 0.3", "not run"],
        ["weights", "4", "0.04", "≤ 0.1", "met"],
    ]
    assert [row[7] for row in rows if row[0] == "ResNet-32"] == ["not run"] * 6
    fitted = next(line for line in text.splitlines() if line.startswith("| multi-bit (2, 2), weights fitted"))
    assert [cell.strip() for cell in fitted.split("|")[2:5]] == ["not run", "not run", "91.69%"]
    jelly = next(line for line in text.splitlines() if line.startswith("| SpikingJelly"))
    assert [cell.strip() for cell in jelly.split("|")[2:-1]] == ["not run"] * 3 + ["50.00%"] + ["not run"] * 2
    assert run("tables.py", *options, "--check").returncode == 0


def test_the_picture(tmp_path: Path, results: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "page.png"
    assert run("picture.py", "--results", str(results), "--out", str(out)).returncode == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    empty = tmp_path / "empty"
    empty.mkdir()
    asked = run("picture.py", "--results", str(empty), "--out", str(tmp_path / "none.png"))
    assert asked.returncode == 1 and "must hold results, got none" in asked.stderr


def test_the_page_is_up_to_date() -> None:
    assert run("tables.py", "--check").returncode == 0
