"""Transposed convolutions over time, their weights laid out as those of every other synapse."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from bitspike.checks import bad_value
from bitspike.layers import Synapse, merge_time, split_time
from bitspike.layers.transposed import places, turned
from bitspike.quantizers import Float

_CONVOLVE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class TransposedConvolution(Synapse):
    """A transposed convolution in 1, 2 or 3 dimensions with any stride, padding, dilation and groups.

    Args:
        conv: torch's layer. Its weight [I, O/groups, ...] becomes [O, I/groups, ...], a parameter of its own; the bias
            is taken over.

    >>> import torch; x = torch.zeros(1, 1, 2, 4, 4)
    >>> layer = TransposedConvolution(nn.ConvTranspose2d(2, 3, 3, stride=2, bias=False))
    >>> layer(x).shape, layer.macs(tuple(layer(x).shape))  # 16 places of 2 channels, each into 3 channels of 3 × 3
    (torch.Size([1, 1, 3, 9, 9]), 864)
    """

    def __init__(self, conv: nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d) -> None:
        super().__init__()
        self.groups: int = conv.groups
        self.weight: nn.Parameter = nn.Parameter(
            turned(conv.weight.detach(), self.groups).contiguous(), conv.weight.requires_grad
        )
        self.bias: nn.Parameter | None = conv.bias  # type: ignore[assignment]
        self.quantizer: Float = Float()
        self.stride: tuple[int, ...] = _numbers(conv.stride)
        self.dilation: tuple[int, ...] = _numbers(conv.dilation)
        self.padding: tuple[int, ...] = _numbers(conv.padding)
        self.output_padding: tuple[int, ...] = _numbers(conv.output_padding)

    def connect(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve x [T, B, I, ...] with a given weight."""
        merged = merge_time("TransposedConvolution", x, weight.dim() + 1)
        if merged.shape[1] != weight.shape[1] * self.groups:
            must = f"the input must have {weight.shape[1] * self.groups} channels"
            raise bad_value("TransposedConvolution", must, list(x.shape), "check the layer before")
        where: Any = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return split_time(_CONVOLVE[weight.dim() - 2](merged, turned(weight, self.groups), bias, *where), x)

    def macs(self, out_shape: tuple[int, ...]) -> int:
        """Weights per place of the input; what falls beyond the border, into the padding, is counted too."""
        sides = self.weight.shape[2:], self.stride, self.padding, self.output_padding, self.dilation
        return self.weight.numel() * places(out_shape[3:], *sides)

    def extra_repr(self) -> str:
        o, i, *kernel = self.weight.shape
        shape = f"{i * self.groups}, {o}, kernel={kernel}, stride={self.stride}, padding={self.padding}"
        return f"{shape}, output_padding={self.output_padding}, dilation={self.dilation}, groups={self.groups}"


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(int(number) for number in value)
