"""The contract of an encoder: sample in, sequence out."""

from __future__ import annotations

from torch import Tensor

from bitspike.checks import bad_value, floating
from bitspike.formats import SpikeFormat
from bitspike.layers.base import TimeLayer


class Encoder(TimeLayer):
    """Sample [B, ...] → sequence [T, B, ...]; streams are fed with what it would emit.

    Attributes:
        T: time steps.
        format: alphabet of what it emits; None where it emits real values.
    """

    T: int
    format: SpikeFormat | None = None

    def _check(self, x: Tensor) -> None:
        floating(type(self).__name__, x)
        if x.dim() < 2:
            raise bad_value(type(self).__name__, "the input must be [B, ...]", list(x.shape), "add a batch axis")
