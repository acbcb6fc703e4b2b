"""Convolution and linear map with quantized weights, time merged into the batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitspike.checks import bad_value, integer, pair
from bitspike.layers.base import Synapse, merge_time, new_quantizer, split_time
from bitspike.ops import Place
from bitspike.quantizers import Quantizer


class Conv2d(Synapse):
    """2-D convolution over [T, B, I, H, W] → [T, B, O, H', W'], zero-padded.

    Weights start from N(0, 2·groups/(k·O)), k the values of a window (Ternary Spike's code, without groups), a bias
    from 0.

    Args:
        inputs, outputs: channels. kernel: side length, or (height, width). stride, padding: integers, or one for each
            side (height, width).
        bias: default False (a norm follows).
        weight: quantizer prototype; default full precision.
        groups: parts of the channels that are mapped apart, a divisor of both numbers; as many as channels: depthwise.

    >>> Conv2d(1, 2, 3, padding=1)(torch.zeros(2, 4, 1, 8, 8)).shape
    torch.Size([2, 4, 2, 8, 8])
    >>> Conv2d(1, 2, (4, 3), stride=(1, 2), padding=(0, 1))(torch.zeros(2, 4, 1, 4, 9)).shape
    torch.Size([2, 4, 2, 1, 5])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = False,
        weight: Quantizer | None = None,
        groups: int = 1,
    ) -> None:
        super().__init__()
        for name, value in (("inputs", inputs), ("outputs", outputs), ("groups", groups)):
            integer("Conv2d", name, value, 1, 2**20)
        if inputs % groups or outputs % groups:
            got = f"{groups} groups of {inputs} inputs and {outputs} outputs"
            raise bad_value("Conv2d", "groups must divide inputs and outputs", got, "choose a divisor of both")
        self.groups = groups
        sides = pair("Conv2d", "kernel", kernel, 1, 2**20)
        self.stride: int | tuple[int, int] = _given(pair("Conv2d", "stride", stride, 1, 64))
        self.padding: int | tuple[int, int] = _given(pair("Conv2d", "padding", padding, 0, 64))
        start = torch.randn(outputs, inputs // groups, *sides)
        start *= math.sqrt(2 * groups / (sides[0] * sides[1] * outputs))
        self.weight: nn.Parameter = nn.Parameter(start)
        self.bias: nn.Parameter | None = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.quantizer: Quantizer = new_quantizer(weight, self.weight)

    def connect(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve x [T, B, I, H, W] with a given weight."""
        merged = merge_time("Conv2d", x, 5)
        if merged.shape[1] != weight.shape[1] * self.groups:
            must = f"the input must have {weight.shape[1] * self.groups} channels"
            raise bad_value("Conv2d", must, list(x.shape), "check the layer before")
        return split_time(F.conv2d(merged, weight, bias, self.stride, self.padding, 1, self.groups), x)

    def place(self, x: Tensor) -> Place | str:
        """Where the window goes; `connect` says what is wrong with an input of another shape."""
        if x.dim() != 5 or x.shape[2] != self.weight.shape[1] * self.groups:
            return "the input does not fit the layer"
        return Place(self.strides(), self.paddings(), groups=self.groups)

    def strides(self) -> tuple[int, int]:
        """(height, width) of a step of the window."""
        return self.stride if isinstance(self.stride, tuple) else (self.stride, self.stride)

    def paddings(self) -> tuple[int, int]:
        """Zeros at each end of (height, width)."""
        return self.padding if isinstance(self.padding, tuple) else (self.padding, self.padding)

    def halved(self) -> bool:
        """Whether the padding is half of kernel − 1 on both sides: with stride 1 the image keeps its size."""
        sides = zip(self.weight.shape[2:], self.paddings(), strict=True)
        return all(2 * padding == kernel - 1 for kernel, padding in sides)

    def macs(self, out_shape: tuple[int, ...]) -> int:
        """O·I/groups·k per output pixel, k the values of a window; zero padding is counted as if it were data."""
        return self.weight.numel() * out_shape[-1] * out_shape[-2]

    def extra_repr(self) -> str:
        o, i, *sides = self.weight.shape
        kernel, groups = _given((sides[0], sides[1])), "" if self.groups == 1 else f"groups={self.groups}, "
        window = f"kernel={kernel}, stride={self.stride}, padding={self.padding}"
        return f"{i * self.groups}, {o}, {window}, {groups}role={self.role}"


def _given(sides: tuple[int, int]) -> int | tuple[int, int]:
    """One number where both sides have the same."""
    return sides[0] if sides[0] == sides[1] else sides


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
        self.weight: nn.Parameter = nn.Parameter(torch.randn(outputs, inputs) / math.sqrt(inputs))
        self.bias: nn.Parameter | None = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.quantizer: Quantizer = new_quantizer(weight, self.weight)

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
