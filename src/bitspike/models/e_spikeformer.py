"""E-SpikeFormer: a pyramid of separable convolutions and attention with wide values; shortcuts add currents."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from bitspike.checks import bad_value, integer, one_of
from bitspike.layers import Conv2d, GlobalAvgPool, ImageView, SpikingSelfAttention, TokenView
from bitspike.models.builder import builder, closed, opened
from bitspike.models.components import new_norm
from bitspike.models.current_block import Current, DrivenBlock, fired, perceptron, separable
from bitspike.models.network import MODELS
from bitspike.models.options import Options, Size

_STRIDED = {1: 0, 2: 1, 4: 2, 8: 3, 16: 4}


@dataclass(frozen=True)
class Pyramid(Size):
    """The choice of stages.

    Args:
        last_width: channels of the last stage. depths: blocks with attention of the last two stages, each 1 to 100.
        heads: a divisor of 4·width and of `last_width`.
        patch: side of a token in pixels, 1, 2, 4, 8 or 16: as many of the first four convs between stages have stride
            2, the last ones.
    """

    last_width: int = 240
    depths: tuple[int, int] = (6, 2)
    heads: int = 8
    patch: int = 16


@dataclass(frozen=True)
class PyramidOptions(Options, Pyramid):
    """E-SpikeFormer 10M; `wiring` can only be "input"."""

    T: int = 1
    shape: tuple[int, int, int] = (3, 224, 224)
    classes: int = 1000
    width: int = 48
    wiring: str = "input"


@MODELS.register("e_spikeformer")
@builder(PyramidOptions)
def e_spikeformer(options: PyramidOptions) -> nn.Module:
    """E-SpikeFormer 10M for ImageNet: 10.014 M parameters; 19M with width=64, last_width=360.

    Stages of width/2, /1, ·2, ·4 and `last_width` channels behind conv7×7 – BN and four times neuron – conv3×3 – BN.
    1, 1 and 2 blocks of the first three: a separable conv with a depthwise 7×7, then a perceptron of convs 3×3. Blocks
    of the others: a separable conv with a depthwise 3×3, attention "ssa" whose values are four times as wide, and a
    perceptron token by token. Mean over the tokens; neuron; linear. All sums are sums of currents.

    Source: Yao et al., "Scaling Spike-driven Transformer with Efficient Spike Firing Approximation Training" (TPAMI
    2025, arXiv 2411.16061), and its code, with neurons `Integer(4, amplitude=0.25)` and T = 1. Differs: convs in front
    of norms have no bias, which norms cancel (those between stages, 5·C in every perceptron of tokens).

    >>> from bitspike.neurons import Integer
    >>> small = {"width": 8, "last_width": 16, "depths": (1, 1), "patch": 4}
    >>> import torch; e_spikeformer(Integer(), shape=(3, 8, 8), classes=10, **small)(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """
    where = "e_spikeformer"
    one_of(where, "wiring", options.wiring, ("input",))
    if not isinstance(options.depths, (tuple, list)) or len(options.depths) != 2:
        raise bad_value(where, "depths must be two numbers of blocks", options.depths, "give such as (6, 2)")
    for depth in options.depths:
        integer(where, "depths", depth, 1, 100)
    integer(where, "last_width", options.last_width, 1, 2**20)
    one_of(where, "patch", options.patch, tuple(_STRIDED))
    body, (inputs, height, breadth) = opened(where, options, options.patch)
    if options.width % 2:
        raise bad_value(where, "width must be even", options.width, "the first stage has half of it")
    neuron, norm, width = options.neuron, options.norm, options.width
    for stage, channels in enumerate((width // 2, width, 2 * width, 4 * width, options.last_width), 1):
        stride = 2 if 4 - _STRIDED[options.patch] < stage < 5 else 1
        height, breadth = height // stride, breadth // stride
        if stage == 1:
            first = Conv2d(inputs, channels, 7, stride, padding=3)
            first.role = "first"
            body["down1"] = nn.Sequential(OrderedDict(conv=first, norm=new_norm(channels, norm, neuron)))
        else:
            body[f"down{stage}"] = fired([Conv2d(inputs, channels, 3, stride, padding=1)], neuron, norm)
        for index in range(1, (1, 1, 2, *options.depths)[stage - 1] + 1):
            local = Current(separable(channels, 7 if stage < 4 else 3), neuron, norm)
            parts = OrderedDict[str, nn.Module](local=local)
            if stage < 4:
                parts["mlp"] = Current(perceptron(channels, 3), neuron, norm)
            else:
                tokens, scale = height * breadth, 2 * (channels / options.heads) ** -0.5
                attention = SpikingSelfAttention(
                    channels, tokens, neuron, None, options.heads, norm, output="current", scale=scale, expand=4
                )
                parts["tokens"] = TokenView("rows", tokens, channels)
                parts["block"] = DrivenBlock(attention, neuron, norm)
                parts["image"] = ImageView(height, breadth)
            body[f"stage{stage}_{index}"] = nn.Sequential(parts)
        inputs = channels
    body["pool"] = GlobalAvgPool()
    return closed(body, options, inputs)
