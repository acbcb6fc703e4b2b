"""Convolutions along one axis: rows of channels of a sound, or spectra over the height of a step."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from torch import nn

from bitspike.checks import bad_value, integer
from bitspike.layers import Conv2d, Flatten
from bitspike.models.blocks import unit
from bitspike.models.builder import builder, closed, opened
from bitspike.models.network import MODELS
from bitspike.models.options import Options, Size


@dataclass(frozen=True)
class Row(Size):
    """The convolutions along the width.

    Args:
        depth: convolutions, 1 to 100. kernel: their width, odd, 1 to 129. stride: of each, 1 to 64.
    """

    depth: int = 3
    kernel: int = 5
    stride: int = 2


@dataclass(frozen=True)
class RowOptions(Options, Row):
    """Of networks along one axis."""

    shape: tuple[int, int, int] = (1, 1, 700)
    classes: int = 20
    width: int = 32


@MODELS.register("conv1d")
@builder(RowOptions)
def conv1d(options: RowOptions) -> nn.Module:
    """(conv – BN – neuron) `depth` times – flatten – linear, along the width alone.

    The first conv spans the whole height, [H, kernel], and leaves one row; the others are [1, kernel]. Each has `width`
    channels and a step of `stride` along the row, padded by half of kernel − 1: W becomes ⌈W/stride⌉. Strips of
    spectra [1, stack, mels] ("fsdd") are such samples; so are rows, shape (W,), such as the 700 channels of "shd".

    Source: ours; a row of convolutions as it is usual for sound.

    >>> from bitspike.neurons import LIF
    >>> import torch; conv1d(LIF(), width=4, shape=(700,))(torch.zeros(2, 700)).shape
    torch.Size([2, 20])
    """
    integer("conv1d", "depth", options.depth, 1, 100)
    integer("conv1d", "stride", options.stride, 1, 64)
    if not integer("conv1d", "kernel", options.kernel, 1, 129) % 2:
        raise bad_value("conv1d", "kernel must be odd", options.kernel, f"pass {options.kernel + 1}")
    body: OrderedDict[str, nn.Module] = OrderedDict()
    if len(options.shape) == 1:
        row = (1, 1, *options.shape)
        body["row"] = nn.Unflatten(2, row)
        options = replace(options, shape=row)
    front, (inputs, height, breadth) = opened("conv1d", options)
    body.update(front)
    for index in range(1, options.depth + 1):
        kernel, stride, padding = (height, options.kernel), (1, options.stride), (0, options.kernel // 2)
        conv = Conv2d(inputs, options.width, kernel, stride, padding)
        conv.role = "first" if index == 1 else "hidden"
        body[f"conv{index}"] = unit(conv, options.neuron, options.norm, options.wiring)
        inputs, height, breadth = options.width, 1, -(-breadth // options.stride)
    body["flatten"] = Flatten()
    return closed(body, options, inputs * breadth)
