"""Convolution and linear map with quantized weights, time merged into the batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitspike.checks import bad_value, integer
from bitspike.layers.base import Synapse, merge_time, new_quantizer, split_time
from bitspike.ops import Place
from bitspike.quantizers import Quantizer


class Conv2d(Synapse):
    """2-D convolution over [T, B, I, H, W] → [T, B, O, H', W'], zero-padded.

    Weights start from N(0, 2/(k²·O)) (Ternary Spike's code), a bias from 0.

    Args:
        inputs, outputs: channels. kernel: side length. stride, padding: integers.
        bias: default False (a norm follows).
        weight: quantizer prototype; default full precision.

    >>> Conv2d(1, 2, 3, padding=1)(torch.zeros(2, 4, 1, 8, 8)).shape
    torch.Size([2, 4, 2, 8, 8])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = False,
        weight: Quantizer | None = None,
    ) -> None:
        super().__init__()
        for name, value, low in (("inputs", inputs, 1), ("outputs", outputs, 1), ("kernel", kernel, 1)):
            integer("Conv2d", name, value, low, 2**20)
        integer("Conv2d", "stride", stride, 1, 64)
        integer("Conv2d", "padding", padding, 0, 64)
        self.stride, self.padding = stride, padding
        start = torch.randn(outputs, inputs, kernel, kernel) * math.sqrt(2 / (kernel * kernel * outputs))
        self.weight = nn.Parameter(start)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.quantizer = new_quantizer(weight, self.weight)

    def connect(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve x [T, B, I, H, W] with a given weight."""
        merged = merge_time("Conv2d", x, 5)
        if merged.shape[1] != weight.shape[1]:
            must = f"the input must have {weight.shape[1]} channels"
            raise bad_value("Conv2d", must, list(x.shape), "check the layer before")
        return split_time(F.conv2d(merged, weight, bias, self.stride, self.padding), x)

    def place(self, x: Tensor) -> Place | str:
        """Where the window goes; `connect` says what is wrong with an input of another shape."""
        if x.dim() != 5 or x.shape[2] != self.weight.shape[1]:
            return "the input does not fit the layer"
        return Place((self.stride, self.stride), (self.padding, self.padding))

    def macs(self, out_shape: tuple[int, ...]) -> int:
        """O·I·k² per output pixel; zero padding is counted as if it were data."""
        return self.weight.numel() * out_shape[-1] * out_shape[-2]

    def extra_repr(self) -> str:
        o, i, k, _ = self.weight.shape
        return f"{i}, {o}, kernel={k}, stride={self.stride}, padding={self.padding}, role={self.role}"


class Linear(Synapse):
    """Linear map over [T, B, I] → [T, B, O]; weights start from N(0, 1/I), the bias from 0.

    Args:
        inputs, outputs: features. bias: default True. weight: quantizer prototype; default full precision.

    >>> Linear(3, 2)(torch.zeros(2, 4, 3)).shape
    torch.Size([2, 4, 2])
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True, weight: Quantizer | None = None) -> None:
        super().__init__()
        integer("Linear", "inputs", inputs, 1, 2**24)
        integer("Linear", "outputs", outputs, 1, 2**24)
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / math.sqrt(inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.quantizer = new_quantizer(weight, self.weight)

    def connect(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Apply a given weight to x [T, B, I]."""
        merged = merge_time("Linear", x, 3)
        if merged.shape[1] != weight.shape[1]:
            raise bad_value("Linear", f"the input must have {weight.shape[1]} features", list(x.shape), "flatten it")
        return split_time(F.linear(merged, weight, bias), x)

    def macs(self, out_shape: tuple[int, ...]) -> int:
        """O·I."""
        return self.weight.numel()

    def extra_repr(self) -> str:
        o, i = self.weight.shape
        return f"{i}, {o}, role={self.role}"
