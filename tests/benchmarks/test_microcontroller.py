"""The table of boards: what the page says is what the JSON say, and what has none is "not run"."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from wide import widened

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
        assert record["info"]["epoch"] == record["info"]["of_epochs"] > 0, name
        for board in record["boards"].values():
            assert board["wrong"] == board["wrong_streams"] == 0
            assert board["constant_bytes"] < board["flash_bytes"] <= 256 * 1024, name


def test_what_was_not_run_is_said(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- microcontroller: {name} -->\n<!-- end -->\n" for name in ("boards", "int8")))
    record = {
        "info": {"epoch": 15, "of_epochs": 15}, "constants": 10, "images": 1000, "accuracy": 0.5,
        "boards": {
            name: dict.fromkeys(("flash_bytes", "context_bytes", "instructions", "wrong", "wrong_streams"), 7)
            for name in ("cortex-m3", "cortex-m4")
        },
    }  # fmt: skip
    (tmp_path / "digits_demo-binary.json").write_text(json.dumps(record | {"info": {"epoch": 2, "of_epochs": 5}}))
    refused = run("--results", str(tmp_path), "--page", str(page))
    assert refused.returncode == 1 and "it must be of a finished run, got epoch 2 of 5" in refused.stderr
    (tmp_path / "digits_demo-binary.json").write_text(json.dumps(record))
    assert run("--results", str(tmp_path), "--page", str(page), "--check").returncode == 1
    assert run("--results", str(tmp_path), "--page", str(page)).returncode == 0
    lines = widened(page.read_text()).splitlines()
    assert "| digits | binary, 8-bit weights | 10 | 1,000 | 50.0 | 14, 14 | 7 | 7 | 7 | 7 |" in lines
    assert sum("not run" in line for line in lines) == 7


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    """The table once had a checkpoint of epoch 2 of 5."""
    path = ROOT / "benchmarks" / "microcontroller" / "networks.py"
    spec = importlib.util.spec_from_file_location("networks_of_boards", path)
    assert spec is not None and spec.loader is not None
    networks = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = networks  # its dataclass looks itself up
    spec.loader.exec_module(networks)
    record = json.loads((ROOT / "results" / "microcontroller" / "digits_demo-binary.json").read_text())
    folder = tmp_path / "digits_demo" / "binary-seed0"
    folder.mkdir(parents=True)

    def epochs(count: int, key: str = record["info"]["key"]) -> dict[str, int]:
        (folder / "metrics.jsonl").write_text("".join(f'{{"epoch": {i + 1}}}\n' for i in range(count)))
        (folder / "summary.json").write_text(json.dumps({"key": key}))
        found: dict[str, int] = networks.finished("digits_demo/binary", tmp_path)
        return found

    with pytest.raises(ValueError, match=r"it must hold a finished run, got no summary\.json"):
        networks.finished("digits_demo/binary", tmp_path)
    with pytest.raises(ValueError, match=r"the table is made of finished runs, got epoch 2 of 15"):
        epochs(2)
    with pytest.raises(ValueError, match=r"the run must be of digits_demo's recipe, got another"):
        epochs(15, "0" * 64)
    assert epochs(15) == {"epoch": 15, "of_epochs": 15}
