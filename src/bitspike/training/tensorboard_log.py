"""TensorBoard events of a run, where that package is installed."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from bitspike.checks import message


class TensorBoardLog:
    """Writes figures of epochs as TensorBoard scalars and histograms.

    What a run that was cut has logged of the first epoch of this one, or of later ones, is dropped by TensorBoard.

    Args:
        folder: of the events. option: what asked for it, for errors.

    Raises:
        ImportError: the tensorboard package is missing.
    """

    def __init__(self, folder: Path, option: str = "--tensorboard") -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            text = message(option, "tensorboard must be installed", "none", 'pip install "bitspike[logs]"')
            raise ImportError(text) from error
        self._folder, self._make = folder, SummaryWriter
        self._made: Any = None

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._made is not None:
            self._made.close()

    def _writer(self, epoch: int) -> Any:
        if self._made is None:
            self._made = self._make(str(self._folder), purge_step=epoch)
        return self._made

    def epoch(self, record: dict[str, Any]) -> None:
        """Add the numbers of one record of metrics.jsonl, and the bits and T of every layer."""
        epoch = int(record["epoch"])
        self.scalars(epoch, {name: value for name, value in record.items() if name != "epoch"})
        for kind, layers in (record.get("allocation") or {}).items():  # bits and T where they are learned
            self.scalars(epoch, {f"{kind}/{name}": value for name, value in layers.items()})
        self._writer(epoch).flush()

    def scalars(self, epoch: int, values: dict[str, Any]) -> None:
        """Add what of these are numbers."""
        for name, value in values.items():
            if isinstance(value, (int, float)):
                self._writer(epoch).add_scalar(name, value, epoch)

    def histogram(self, epoch: int, name: str, values: Tensor) -> None:
        """Add a histogram."""
        self._writer(epoch).add_histogram(name, values, epoch)
