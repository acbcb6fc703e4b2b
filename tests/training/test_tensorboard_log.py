"""What of a record goes to TensorBoard, with a writer that notes it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bitspike.training.tensorboard_log import TensorBoardLog


def test_bits_and_steps_of_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            pass

        def add_scalar(self, name: str, value: float, step: int) -> None:
            noted.append((name, value, step))

        def close(self) -> None:
            pass

    module: Any = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with TensorBoardLog(tmp_path) as log:
        log.epoch({"epoch": 3, "loss": 0.5, "health": {}, "allocation": {"weights": {"a": 4.0}, "steps": {"a": 2.0}}})
    assert noted == [("loss", 0.5, 3), ("weights/a", 4.0, 3), ("steps/a", 2.0, 3)]
