"""ONNX in ONNX Runtime and OpenVINO: the whole window unrolled, and step by step with its states."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from cases import Case, NotRun, Ran, said
from openvino_beside import openvino

TYPES = {"float": "float32", "double": "float64"}


def run(case: Case, work: Path, venvs: Path) -> list[Ran]:
    """Both forms; a loop that cannot say all is a note."""
    try:
        import onnxruntime
    except ImportError:
        raise NotRun("onnxruntime is not installed") from None
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    found = []
    for form in ("unrolled", "scan"):
        how = f"ONNX Runtime {form}"
        try:
            path = case.export("onnx", work / f"{form}.onnx", form=form).files[0]
        except ValueError as error:
            if form == "unrolled":
                raise
            found.append(Ran(how, 0, 0, refused=said(error)))
            continue
        session = onnxruntime.InferenceSession(str(path), quiet, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        kind = re.fullmatch(r"tensor\((\w+)\)", given.type)
        assert kind is not None, given.type
        x = _fed(case, len(given.shape)).astype(TYPES.get(kind[1], kind[1]))
        names = [output.name for output in session.get_outputs()]
        parts = dict(zip(names, session.run(names, {given.name: x}), strict=True))
        digits = [parts[name].astype(np.int64) for name in names if name.startswith("output.")]  # of base 2^11
        y = (
            sum((digit << 11 * i for i, digit in enumerate(digits)), np.int64(0))
            if digits
            else np.asarray(parts["output"])
        )
        found.append(Ran(how, y.size, int((y != case.levels.reshape(y.shape)).sum())))
        for wrong, count in openvino(path, x, case.levels.reshape(y.shape), {}, venvs):
            found.append(Ran(f"OpenVINO {form}", count, wrong))
    return found


def _fed(case: Case, axes: int) -> np.ndarray:
    x = case.inputs()
    return x if x.ndim == axes else case.program.sequence(case.x.numpy())
