"""The GPU benchmark runs from end to end at toy size, on the CPU through Triton's interpreter, and claims nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not find_spec("triton"):
        pytest.skip("not run: triton is not installed")
    out = tmp_path_factory.mktemp("gpu") / "toy.json"
    command = [sys.executable, str(FOLDER / "run.py"), "--toy", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=dict(os.environ))
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    return json.loads(out.read_text())


@pytest.mark.slow
def test_every_part_runs(toy: dict[str, Any]) -> None:
    assert toy["toy"] and "failed" not in toy
    assert toy["parity"]["ok"] and toy["parity"]["cases"] == 44
    ours = [row for part in ("networks", "batches") for row in toy[part] if row["library"] == "bitspike"]
    for row in [*ours, *toy["epochs"], *toy["scan"]]:
        assert "not_run" not in row, row
    assert {row["how"] for row in ours if "how" in row} == {"eager", "lean"}
    assert [row["recipe"] for row in toy["epochs"]] == ["cifar10_gpu", "cifar10_gpu_long"]


@pytest.mark.slow
def test_a_toy_claims_nothing(toy: dict[str, Any]) -> None:
    assert all(goal["found"] == "not measured" and goal["met"] is None for goal in toy["goals"])


@pytest.mark.slow
def test_what_is_not_there_says_so(toy: dict[str, Any]) -> None:
    if toy["machine"]["spikingjelly"] is None:
        peers = [row for part in ("networks", "batches") for row in toy[part] if row["library"] == "spikingjelly"]
        assert peers and all("not installed" in row["not_run"] for row in peers)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure on")
def test_without_a_gpu_nothing_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    done = subprocess.run([sys.executable, str(FOLDER / "run.py"), "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 2 and "no CUDA device" in done.stderr and not out.exists()


def test_no_figure_of_a_gpu_is_committed_unless_it_was_measured() -> None:
    for path in FOLDER.glob("results/*.json"):
        found = json.loads(path.read_text())
        assert not found["toy"] and found["machine"]["device"] == "cuda" and found["parity"]["ok"]
