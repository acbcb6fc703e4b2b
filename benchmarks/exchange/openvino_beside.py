"""OpenVINO beside ONNX Runtime: the same file, in an environment of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np

SCRIPT = Path(__file__).resolve().with_name("openvino_run.py")


def openvino(
    file: Path, x: Any, y: Any, starts: dict[str, Any], venvs: Path, far: float = 0.0
) -> list[tuple[int, int]]:
    """(Outputs further off than ``far``, of how many) of one call; an empty list where OpenVINO is not installed."""
    python = venvs / "onnx" / "bin" / "python"
    if not python.exists():
        return []
    work = file.parent / f"{file.stem}-openvino"
    work.mkdir()
    (work / "net.onnx").write_bytes(file.read_bytes())
    begin = {f"start {name}": start for name, start in starts.items()}
    np.savez(work / "net.npz", x=x[None], y=y[None], batch=len(y), **begin)
    command = [str(python), str(SCRIPT), str(work), str(far)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    _, wrong, count = done.stdout.split()
    return [(int(wrong), int(count))]
