"""Compiles FOLDER/*.onnx by hls4ml with a C++ compiler and simulates it on FOLDER/*.npz; prints a line a file.

For an environment that has hls4ml and nothing of ours.
"""

from __future__ import annotations

import sys
from pathlib import Path

import hls4ml
import numpy as np
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.util.cleanup import cleanup_model


def main(folder: Path) -> None:
    """Every file."""
    for path in sorted(folder.glob("*.onnx")):
        file = np.load(path.with_suffix(".npz"))
        model = cleanup_model(ModelWrapper(str(path)))
        options = {"granularity": "name", "backend": "Vitis", "default_precision": "fixed<48,24>"}
        config = hls4ml.utils.config.config_from_onnx_model(model, **options)
        made = hls4ml.converters.convert_from_onnx_model(
            model, hls_config=config, output_dir=str(folder / path.stem), io_type="io_parallel", backend="Vitis"
        )
        made.compile()
        found = made.predict(np.ascontiguousarray(file["x"].astype(np.float32)))
        print(path.stem, int((found != file["y"]).sum()), found.size, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
