"""ONNX in ONNX Runtime: the whole window unrolled, and step by step with its states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cases import Case, NotRun, Ran


def run(case: Case, work: Path, venvs: Path) -> list[Ran]:
    """Both forms."""
    try:
        import onnxruntime
    except ImportError:
        raise NotRun("onnxruntime is not installed") from None
    found = []
    for form in ("unrolled", "scan"):
        try:
            path = case.export("onnx", work / f"{form}.onnx", form=form).files[0]
        except ValueError:
            if form == "unrolled":
                raise
            continue
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        kind = np.float32 if "float" in given.type else np.int64 if "int64" in given.type else np.int32
        y = session.run([session.get_outputs()[0].name], {given.name: _fed(case, len(given.shape)).astype(kind)})[0]
        wanted = case.levels.reshape(y.shape)
        found.append(Ran(f"ONNX Runtime, {form}", wanted.size, int((np.asarray(y) != wanted).sum())))
    return found


def _fed(case: Case, axes: int) -> np.ndarray:
    x = case.inputs()
    return x if x.ndim == axes else case.program.sequence(case.x.numpy())
