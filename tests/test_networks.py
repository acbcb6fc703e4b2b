"""Networks as users write them: benchmarks/networks, every step against its reference."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_every_network_does_as_its_reference_or_is_refused_where_it_should_be() -> None:
    pytest.importorskip("einops")
    script = ROOT / "benchmarks" / "networks" / "run.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert ", 0 faults" in run.stdout
