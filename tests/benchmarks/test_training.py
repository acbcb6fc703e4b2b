"""The page of the training benchmark is that of the JSON, and what it says of the bounds follows from the rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from wide import widened

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks" / "training"
PAGE = "<!-- benchmark: bounds -->\n<!-- end -->\n"


def tables(*arguments: str) -> int:
    return subprocess.run([sys.executable, str(SCRIPTS / "tables.py"), *arguments], capture_output=True).returncode


def row(stage: str, ours: str, other: str, kind: str, ms: tuple[float, float], bound: float | None) -> dict[str, Any]:
    slower = other == "two buffered copies" or other.startswith("the network")
    ratio = ms[0] / ms[1] if slower else ms[1] / ms[0]
    goal = None if bound is None else {"bound": bound, "text": f"{'≤' if slower else '≥'} {bound}"}
    return {
        "stage": stage,
        "class": kind,
        "ours": {"label": ours},
        "other": {"label": other},
        "status": "measured",
        "ratio_is": "ours/other" if slower else "other/ours",
        "ratio": ratio,
        "ours_ms": ms[0],
        "other_ms": ms[1],
        "goal": goal,
        "met": bound is not None and (ratio <= bound if slower else ratio >= bound),
    }


def write(folder: Path, group: str, rows: list[dict[str, Any]]) -> None:
    (folder / f"{group}.json").write_text(json.dumps({"quick": False, "rows": rows}))


def test_the_page_is_up_to_date() -> None:
    assert tables("--check") == 0


def test_bounds_follow_from_the_rows(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    options = ("--results", str(tmp_path), "--page", str(page))
    assert tables(*options) == 0 and "Not run." in page.read_text()
    networks = [
        row("float32", "LIF", "slow library", "M", (200, 300), 1.6),  # 1.5, and 1.5·1.1 = 1.65 with free neurons
        row("float32", "LIF", "quick library", "M", (200, 220), 1.3),  # 1.1 and 1.21
        row("float32", "LIF", "the network with ReLU", "M", (220, 200), 1.2),
        row("float32", "Ternary", "slow library", "M", (200, 300), 1.6),  # no network with ReLU stands beside it
    ]
    write(tmp_path, "networks", networks)
    neuron = [
        row("A = [1]", "LIF", "two buffered copies", "M", (1.8, 0.75), 1.25),
        row("A = [1]", "Real", "two buffered copies", "M", (1.8, 1.5), 1.25),
        row("B = [1]", "LIF", "two buffered copies", "M", (1.95, 1.5), 1.8),
        row("A = [1]", "LIF", "SpikingJelly LIF, ATan, torch.compile", "M", (1.5, 2.0), 1.8),
        row("A = [1]", "Real", "SpikingJelly LIF, ATan, torch.compile", "M", (1.75, 3.5), 1.8),
    ]
    write(tmp_path, "neuron", neuron)
    profile = {"LIF, native scan": {"convolution, backward": 100.4, "convolution, forward": 50.2, "all": 230.0}}
    (tmp_path / "breakdown.json").write_text(json.dumps(profile))
    assert tables(*options) == 0
    text = page.read_text()
    assert "| slow library | float32 | 1.50× | ≥ 1.6 | 1.65×: the goal is met |" in text
    assert "| quick library | float32 | 1.10× | ≥ 1.3 | 1.21×: below the goal |" in text
    assert text.count("slow library") == 1 and "ReLU: LIF: 1.10." in text
    assert "convolutions are 151 of 230 ms" in text
    assert "0.75 ms in 1 of 3 rows, 1.50 ms else. Goals missed against the fast state: LIF at A (2.40)." in text
    assert "class M 1.20 to 1.30 times" in text
    assert "goal met: 3.50 ms, bitspike 1.75 ms; goal missed: 2.00 ms, bitspike 1.50 ms." in text
    assert tables(*options, "--check") == 0


def test_lean_memory_has_no_count_of_saved_tensors(tmp_path: Path) -> None:
    cases = [
        {"label": name, "spec": {"memory": mode}, "peak_increase_mib": 50.0 * (1 + index), "saved_mib": 30.0 * index}
        for index, (name, mode) in enumerate((("LIF, lean", "lean"), ("LIF", "normal")))
    ]
    rest = {"stage": "float32", "class": "lean", "status": "measured", "goal": None, "ratio": 0.5, "saved_ratio": 0.0}
    rows = [{**rest, "ours": ours, "other": other} for ours, other in (cases, cases[::-1])]
    memory = {"quick": False, "complete": True, "only": None, "left_out": [], "rows": rows}
    (tmp_path / "memory.json").write_text(json.dumps(memory))
    page = tmp_path / "page.md"
    page.write_text("<!-- benchmark: memory -->\n<!-- end -->\n")
    assert tables("--results", str(tmp_path), "--page", str(page)) == 0
    text = widened(page.read_text())
    assert "| LIF, lean | lean | LIF | 50 | 100 | 50% | not counted | 30 | – |  |  |" in text
    assert "| LIF | lean | LIF, lean | 100 | 50 | 50% | 30 | not counted | – |  |  |" in text
