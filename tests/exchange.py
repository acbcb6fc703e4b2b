"""The environment of other readers, which benchmarks/exchange/setup.sh makes: found, or made once a session."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def environment() -> Path:
    """Python of `onnx` in BITSPIKE_EXCHANGE, else in .venvs/exchange, else made now; skips where that fails."""
    for known in (os.environ.get("BITSPIKE_EXCHANGE", ""), str(ROOT / ".venvs" / "exchange")):
        python = Path(known) / "onnx" / "bin" / "python"
        if known and python.exists():
            return python
    folder = Path(tempfile.mkdtemp(prefix="exchange"))
    command = [str(ROOT / "benchmarks" / "exchange" / "setup.sh"), str(folder), "onnx"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=240,
            env={**os.environ, "PYTHON": sys.executable},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"not run: the environment of peers could not be made, {error}")
    if done.returncode:
        pytest.skip(f"not run: the environment of peers could not be made, {done.stderr.strip().splitlines()[-1:]}")
    return folder / "onnx" / "bin" / "python"


def ran(script: str, *arguments: str, timeout: int = 600) -> dict[str, tuple[int, int]]:
    """What a script of benchmarks/exchange prints in that environment: name → (how many differ, of how many)."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(environment()), str(ROOT / "benchmarks" / "exchange" / script), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**own, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split() for line in done.stdout.splitlines()]
    return {row[0]: (int(row[1]), int(row[2])) for row in rows if len(row) == 3 and row[1].lstrip("-").isdigit()}
