"""The table of boards: what the page says is what the JSON say, and what has none is "not run"."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "microcontroller" / "tables.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True)


def test_the_page_is_up_to_date() -> None:
    done = run("--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_that_was_measured_is_exact() -> None:
    files = sorted((ROOT / "results" / "microcontroller").glob("*.json"))
    found = {path.stem: json.loads(path.read_text()) for path in files if not path.stem.startswith("int8")}
    assert len(found) >= 5
    for name, record in found.items():
        assert record["images"] == 1000, name
        for board in record["boards"].values():
            assert board["wrong"] == board["wrong_streams"] == 0
            assert board["constant_bytes"] < board["flash_bytes"] <= 256 * 1024, name


def test_what_was_not_run_is_said(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- microcontroller: {name} -->\n<!-- end -->\n" for name in ("boards", "int8")))
    record = {
        "constants": 10, "images": 1000, "accuracy": 0.5,
        "boards": {
            name: dict.fromkeys(("flash_bytes", "context_bytes", "instructions", "wrong", "wrong_streams"), 7)
            for name in ("cortex-m3", "cortex-m4")
        },
    }  # fmt: skip
    (tmp_path / "digits_demo-binary.json").write_text(json.dumps(record))
    assert run("--results", str(tmp_path), "--page", str(page), "--check").returncode == 1
    assert run("--results", str(tmp_path), "--page", str(page)).returncode == 0
    lines = page.read_text().splitlines()
    assert "| digits | binary, 8-bit weights | 10 | 1,000 | 50.0 | 14, 14 | 7 | 7 | 7 | 7 |" in lines
    assert sum("not run" in line for line in lines) == 7
