"""Runs FOLDER/*.onnx in OpenVINO on FOLDER/*.npz; prints a line a file: its name, how many differ, of how many.

x [calls, ...] is fed call by call, states go from one to the next (the first: "start NAME", or zeros); for an
environment that has nothing of ours.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}


def whole(found: dict[str, Any]) -> Any:
    """The integers that came out, of their digits where there are some."""
    digits = [found[name] for name in sorted(found) if name.startswith("output.")]
    return sum(part.astype(np.int64) << 11 * i for i, part in enumerate(digits)) if digits else found["output"]


def main(folder: Path, tolerance: float) -> None:
    """Every file."""
    core = openvino.Core()
    for path in sorted(folder.glob("*.onnx")):
        compiled = core.compile_model(core.read_model(path), "CPU", SETTINGS)
        file = np.load(path.with_suffix(".npz"))
        batch = int(file["batch"])
        shapes = {port.any_name: port.partial_shape for port in compiled.inputs if port.any_name != "input"}
        states = {
            name: np.zeros([side.get_length() if side.is_static else batch for side in shape], np.float32)
            + file.get(f"start {name}", np.float32(0))
            for name, shape in shapes.items()
        }
        names = {name for port in compiled.outputs for name in port.names}
        wrong = count = 0
        for x, y in zip(file["x"], file["y"], strict=True):
            answer = compiled({"input": x, **states})
            found = {
                name: np.array(answer[name]) for name in names if name.startswith("output") or name.endswith(".next")
            }
            states = {name: found[f"{name}.next"] for name in states}
            got = whole(found)
            wrong += int((np.abs(got - y) > tolerance).sum()) if got.shape == y.shape else y.size
            count += y.size
        print(path.stem, wrong, count, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
