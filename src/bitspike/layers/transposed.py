"""Transposed convolution with quantized weights, and what all transposed convolutions share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitspike.checks import bad_value, integer, pair
from bitspike.layers.base import Synapse, merge_time, new_quantizer, split_time
from bitspike.quantizers import Quantizer


class ConvTranspose2d(Synapse):
    """2-D transposed convolution over [T, B, I, H, W] → [T, B, O, H', W'], a synapse as any other.

        H' = (H − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1

    The weight is [O, I/groups, k, k'], where torch's layer has [I, O/groups, k, k']. It starts from N(0, 2/n), n the
    values that meet in an output (k·k'·I/groups over the product of the strides), a bias from 0.

    Args:
        inputs, outputs: channels. kernel: side length, or (height, width). stride, padding, output_padding, dilation:
            integers, or one for each side.
        groups: of channels that are mapped apart. bias: default False (a norm follows).
        weight: quantizer prototype; default full precision.

    Raises:
        ValueError: sizes out of range, groups that do not divide the channels, or an output padding that is not below
            the stride or the dilation.

    >>> layer = ConvTranspose2d(2, 3, 3, stride=2); y = layer(torch.zeros(1, 1, 2, 4, 4))
    >>> y.shape, layer.macs(tuple(y.shape))  # 16 places of 2 channels, each into 3 channels of 3 × 3
    (torch.Size([1, 1, 3, 9, 9]), 864)
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        output_padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
        weight: Quantizer | None = None,
    ) -> None:
        super().__init__()
        where = "ConvTranspose2d"
        for name, value in (("inputs", inputs), ("outputs", outputs)):
            integer(where, name, value, 1, 2**20)
        self.groups: int = integer(where, "groups", groups, 1, min(inputs, outputs))
        if inputs % groups or outputs % groups:
            must, got = "groups must divide both numbers of channels", f"{groups} of {inputs} and {outputs}"
            raise bad_value(where, must, got, "choose a divisor")
        kernel = pair(where, "kernel", kernel, 1, 2**20)
        self.stride: tuple[int, int] = pair(where, "stride", stride, 1, 64)
        self.dilation: tuple[int, int] = pair(where, "dilation", dilation, 1, 64)
        self.padding: tuple[int, int] = pair(where, "padding", padding, 0, 64)
        self.output_padding: tuple[int, int] = pair(where, "output_padding", output_padding, 0, 64)
        for more, step, gap in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if more >= max(step, gap):
                must = "output_padding must be below the stride or the dilation of its side"
                raise bad_value(where, must, f"{more} at stride {step}, dilation {gap}", "choose a smaller one")
        meeting = math.prod(kernel) * inputs / (groups * math.prod(self.stride))
        self.weight: nn.Parameter = nn.Parameter(
            torch.randn(outputs, inputs // groups, *kernel) * math.sqrt(2 / meeting)
        )
        self.bias: nn.Parameter | None = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.quantizer: Quantizer = new_quantizer(weight, self.weight)

    def connect(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve x [T, B, I, H, W] with a given weight."""
        merged = merge_time("ConvTranspose2d", x, 5)
        if merged.shape[1] != weight.shape[1] * self.groups:
            must = f"the input must have {weight.shape[1] * self.groups} channels"
            raise bad_value("ConvTranspose2d", must, list(x.shape), "check the layer before")
        where = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return split_time(F.conv_transpose2d(merged, turned(weight, self.groups), bias, *where), x)

    def macs(self, out_shape: tuple[int, ...]) -> int:
        """Weights per place of the input; what falls beyond the border, into the padding, is counted too."""
        sides = self.weight.shape[2:], self.stride, self.padding, self.output_padding, self.dilation
        return self.weight.numel() * places(out_shape[3:], *sides)

    def extra_repr(self) -> str:
        o, i, *kernel = self.weight.shape
        shape = f"{i * self.groups}, {o}, kernel={tuple(kernel)}, stride={self.stride}, padding={self.padding}"
        more = f"output_padding={self.output_padding}, dilation={self.dilation}, groups={self.groups}"
        return f"{shape}, {more}, role={self.role}"


def turned(weight: Tensor, groups: int) -> Tensor:
    """[groups·A, B, ...] → [groups·B, A, ...], from torch's layout to ours and back.

    >>> turned(torch.zeros(6, 2, 3), 2).shape
    torch.Size([4, 3, 3])
    """
    return weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)


def places(
    out: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    dilation: Sequence[int],
) -> int:
    """Places of the input that make an output with these sides.

    >>> places((9, 9), (3, 3), (2, 2), (0, 0), (0, 0), (1, 1))
    16
    """
    sides = zip(out, kernel, stride, padding, output_padding, dilation, strict=True)
    return math.prod((side + 2 * pad - more - gap * (k - 1) - 1) // step + 1 for side, k, step, pad, more, gap in sides)
