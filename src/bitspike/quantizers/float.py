"""Full-precision weights: the quantizer that does nothing."""

from __future__ import annotations

from torch import Tensor

from bitspike.checks import bad_value, floating
from bitspike.formats import WeightFormat
from bitspike.quantizers.base import QUANTIZERS, Quantizer


@QUANTIZERS.register("float")
class Float(Quantizer):
    """32-bit weights, unchanged. `to_int` raises: real weights have no integers.

    >>> import torch; Float()(torch.tensor([[0.3]])).tolist()
    [[0.30000001192092896]]
    """

    def __init__(self) -> None:
        super().__init__()
        self.format: WeightFormat = WeightFormat(real=True)

    def initialise(self, w: Tensor) -> None:
        """Nothing to size."""

    def forward(self, w: Tensor) -> Tensor:
        """The weight itself; `TypeError` if it is not floating."""
        floating("Float", w)
        return w

    def to_int(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Raises `ValueError`."""
        raise bad_value("Float", "to_int needs a quantized weight", "a float one", "choose sign, ternary or uniform")
