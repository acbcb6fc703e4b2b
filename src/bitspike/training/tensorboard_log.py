"""TensorBoard events of a run, where that package is installed."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from bitspike.checks import message


class TensorBoardLog:
    """Writes the figures of every epoch as TensorBoard scalars.

    Args:
        folder: of the events.

    Raises:
        ImportError: the tensorboard package is missing.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            text = message("--tensorboard", "tensorboard must be installed", "none", 'pip install "bitspike[logs]"')
            raise ImportError(text) from error
        self._writer: Any = SummaryWriter(str(folder))

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def epoch(self, record: dict[str, Any]) -> None:
        """Add the numbers of one record of metrics.jsonl, and the bits and T of every layer."""
        for name, value in record.items():
            if name != "epoch" and isinstance(value, (int, float)):
                self._writer.add_scalar(name, value, int(record["epoch"]))
        for kind, layers in (record.get("allocation") or {}).items():  # bits and T where they are learned
            for name, value in layers.items():
                self._writer.add_scalar(f"{kind}/{name}", value, int(record["epoch"]))
