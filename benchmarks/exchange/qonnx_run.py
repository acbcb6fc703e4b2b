"""Runs FOLDER/*.onnx by the `qonnx` package on FOLDER/*.npz; prints a line a file: its name, and how many differ.

For an environment that has qonnx and nothing of ours.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes


def then(x: Any, rows: list[dict[str, Any]]) -> Any:
    """The rescaling that is left to who reads the output."""
    for row in rows:
        m, b, s = np.array(row["multiplier"]), np.array(row["bias"]), row["shift"]
        x = np.clip(((x.astype(np.int64) * m + ((1 << s) >> 1)) >> s) + b, row["low"], row["high"])
    return x


def main(folder: Path) -> None:
    """Every file."""
    for path in sorted(folder.glob("*.onnx")):
        with np.load(path.with_suffix(".npz")) as file:
            x, expected = file["x"].astype(np.float32), file["y"]
        model = ModelWrapper(str(path)).transform(InferShapes())
        size = model.get_tensor_shape("input")[0]
        parts = [execute_onnx(model, {"input": x[i : i + size]})["output"] for i in range(0, len(x), size)]
        left = {entry.key: entry.value for entry in model.model.metadata_props}.get("bitspike.then", "[]")
        found = then(np.concatenate(parts), json.loads(left))
        wrong = int((found != expected).sum()) if found.shape == expected.shape else -1
        print(path.stem, wrong, found.size, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
