"""The shortcut without parameters of He et al.: every second pixel, zeros for the missing channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bitspike.checks import bad_value, integer
from bitspike.functional import once
from bitspike.layers import TimeLayer, merge_time, split_time


class PadShortcut(TimeLayer):
    """Every ``stride``-th pixel in both directions; zero channels on either side, the odd one behind (option A).

    A spike factor passes through it; per channel it becomes 1 on the padded ones, where every value is 0.

    Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), sections 3.3 and 4.2; that the zeros
    are a quarter of the new width on either side is of the published checkpoints (Y. Idelbayev).

    Args:
        inputs, outputs: channels, outputs >= inputs. stride: >= 1.

    >>> PadShortcut(2, 4, 2)(torch.ones(1, 1, 2, 3, 3)).sum((3, 4)).tolist()
    [[[0.0, 4.0, 4.0, 0.0]]]
    """

    scaling = "linear"
    keeps_format = True

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        integer("PadShortcut", "inputs", inputs, 1, 2**20)
        integer("PadShortcut", "outputs", outputs, inputs, 2**20)
        self.inputs: int = inputs
        self.stride: int = integer("PadShortcut", "stride", stride, 1, 64)
        self.before: int = (outputs - inputs) // 2
        self.behind: int = outputs - inputs - self.before

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, inputs, H, W] → [T, B, outputs, ⌈H/stride⌉, ⌈W/stride⌉]."""
        if x.dim() != 5 or x.shape[2] != self.inputs:
            must = f"the input must be [T, B, {self.inputs}, H, W]"
            raise bad_value("PadShortcut", must, list(x.shape), "check the layer before")
        return once(self._pad, x)

    def _pad(self, x: Tensor) -> Tensor:
        frames = merge_time("PadShortcut", x, 5)[..., :: self.stride, :: self.stride]  # 4 axes keep channels-last
        return split_time(F.pad(frames, (0, 0, 0, 0, self.before, self.behind)), x)

    def carry(self, factor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A per-channel factor grows with the channels."""
        if not factor.dim():
            return factor
        return torch.cat([factor.new_ones(self.before), factor, factor.new_ones(self.behind)])

    def extra_repr(self) -> str:
        return f"{self.inputs}, {self.inputs + self.before + self.behind}, stride={self.stride}"
