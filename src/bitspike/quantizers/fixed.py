"""Weights that already are integers: what folding leaves in a quantized layer."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bitspike.checks import bad_value, floating
from bitspike.formats import WeightFormat
from bitspike.quantizers.base import Quantizer


class Fixed(Quantizer):
    """The quantizer of weights that are integers already, as in a folded network.

    Identity on integer weights of a known alphabet; not trainable, hence not registered.

    Args:
        record: alphabet; its scale is dropped, because folding has moved it elsewhere.

    >>> Fixed(WeightFormat(-1, 1, stride=2, scale="layer")).format.label()
    '±1'
    """

    def __init__(self, record: WeightFormat) -> None:
        super().__init__()
        if record.real:
            raise bad_value("Fixed", "the weights must have an integer alphabet", "a real one", "use Float")
        self.format: WeightFormat = replace(record, scale="none")

    def initialise(self, w: Tensor) -> None:
        """Nothing to size."""

    def forward(self, w: Tensor) -> Tensor:
        """The integers themselves, in a floating dtype."""
        floating("Fixed", w)
        return w

    def to_int(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The integers and a scale of 1."""
        return w.detach(), torch.ones([1] * w.dim(), dtype=w.dtype, device=w.device)
