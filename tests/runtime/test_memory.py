"""What the engine takes while it runs is what its plan says, once; later calls take nothing. Seen from outside."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bitspike.runtime.engine import available_isas

ROOT = Path(__file__).resolve().parents[2]
RSS_ERROR = 64 * 4096
"""Bytes by which Linux may count wrong: it adds up 64 pages of a thread at a time."""


@pytest.fixture(scope="module", autouse=True)
def engine() -> str:
    """These tests choose no engine, so once is enough."""
    return "native"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    if not available_isas() or platform.libc_ver()[0] != "glibc" or shutil.which("cc") is None:
        pytest.skip("not run: it takes the native engine, glibc and cc")
    counting = tmp_path_factory.mktemp("counting") / "counting.so"
    source = ROOT / "csrc" / "engine" / "test" / "counting.c"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", source, "-o", counting], check=True, timeout=60)
    environment = os.environ | {
        "LD_PRELOAD": str(counting),
        "MALLOC_MMAP_THRESHOLD_": "65536",  # a workspace is pages of its own, not memory that others have left
        "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "programs.memory", str(counting)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    yield json.loads(done.stdout)


def test_a_workspace_is_taken_once_and_is_the_planned_one(measured: dict[str, Any]) -> None:
    """Of 101 calls for one sample the first asks for the planned bytes; a larger batch gives them back first."""
    assert len(measured["calls"]) > 20 * len(available_isas())
    for name, found in measured["calls"].items():
        one, three = found["plan"]
        *record, workspace = found["first"]
        assert workspace == one and len(record) == 1 and 0 < record[0] <= 64, name  # with what remembers it
        assert found["larger"] == ([-1, three] if three > one else []), name
        assert found["later"] == found["last"] == [], name
    assert any(found["larger"] for found in measured["calls"].values())


def test_the_process_grows_by_no_more_than_the_plan(measured: dict[str, Any]) -> None:
    grown = measured["growth"]
    assert grown["plan"] > 8 * RSS_ERROR
    assert grown["plan"] / 2 < grown["first"] <= grown["plan"] + RSS_ERROR
    assert grown["later"] <= RSS_ERROR and grown["python"] <= RSS_ERROR
