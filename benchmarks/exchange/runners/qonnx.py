"""QONNX by the package qonnx, in an environment of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
from cases import Case, NotRun, Ran

SCRIPT = Path(__file__).resolve().parents[1] / "qonnx_run.py"


def run(case: Case, work: Path, venvs: Path) -> list[Ran]:
    """All samples."""
    case.export("qonnx", work / "net.onnx")
    python = venvs / "onnx" / "bin" / "python"
    if not python.exists():
        raise NotRun("qonnx is not installed")
    np.savez(work / "net.npz", x=case.inputs(), y=case.levels)
    done = subprocess.run([str(python), str(SCRIPT), str(work)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    _, wrong, size = done.stdout.split()
    return [Ran("qonnx", int(size), int(size) if int(wrong) < 0 else int(wrong))]
