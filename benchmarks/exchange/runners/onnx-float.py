"""The folded network in float32 in ONNX Runtime and OpenVINO, unrolled and as a loop with its states; flips counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from cases import Case, NotRun, Ran, said
from openvino_beside import openvino

TOLERANCE = 1e-4
"""Of the largest output: what a flipped spike changes is a weight."""


def run(case: Case, work: Path, venvs: Path) -> list[Ran]:
    """Both forms; a loop that cannot say all is a note."""
    try:
        import onnxruntime
    except ImportError:
        raise NotRun("onnxruntime is not installed") from None
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    x, shape = case.x.numpy(), ",".join(map(str, case.x.shape[1:]))
    with torch.no_grad():
        wanted = case.folded(case.x).numpy()
    found = []
    for form in ("unrolled", "scan"):
        how = f"ONNX Runtime {form}"
        try:
            files = case.export("onnx-float", work / f"{form}.onnx", form=form, shape=shape).files
        except ValueError as error:
            if form == "unrolled":
                raise
            found.append(Ran(how, 0, 0, refused=said(error)))
            continue
        session = onnxruntime.InferenceSession(str(files[0]), quiet, providers=["CPUExecutionProvider"])
        sides = {given.name: given.shape for given in session.get_inputs()}
        starts = dict(np.load(files[1]).items()) if form == "scan" else {}
        states = {k: np.repeat(v, len(x), 0) if sides[k][0] == "batch" else v for k, v in starts.items()}
        (y,) = session.run(["output"], {"input": x, **states})
        size = TOLERANCE * max(1.0, float(np.abs(wanted).max()))
        far = np.abs(y - wanted).max(1) > size
        found.append(Ran(how, len(x), int(far.sum()), "samples with flips"))
        for wrong, count in openvino(Path(files[0]), x, wanted, states, venvs, size):
            found.append(Ran(f"OpenVINO {form}", count, wrong, "outputs of samples with flips"))
    return found
