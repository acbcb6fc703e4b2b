"""Spikformer: patches by convolutions, then blocks of attention and perceptrons on spikes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from bitspike.checks import bad_value, integer, one_of
from bitspike.layers import ATTENTION, Conv2d, GlobalAvgPool, MaxPool2d, TokenView
from bitspike.models.blocks import unit
from bitspike.models.builder import builder, closed, opened
from bitspike.models.network import MODELS
from bitspike.models.options import Options, Size
from bitspike.models.residual_block import join, new_join
from bitspike.models.transformer_block import TransformerBlock
from bitspike.sealed import Sealed

RATIO = 4


@dataclass(frozen=True)
class Former(Size):
    """The choice of blocks.

    Args:
        attention: a name of `ATTENTION`. depth: blocks, 1 to 100. heads: a divisor of `width`.
        patch: side of a patch in pixels, 1, 2, 4, 8 or 16: as many of the four convs are pooled, the last ones.
    """

    attention: str = "ssa"
    depth: int = 4
    heads: int = 12
    patch: int = 4


@dataclass(frozen=True)
class FormerOptions(Options, Former):
    """Spikformer-4-384."""

    T: int = 4
    width: int = 384


class Position(Sealed, nn.Module):
    """``x + neuron(BN(conv3×3(x)))``: where a token stands, from its neighbours.

    Source: Spikformer (arXiv 2209.15425), relative position embedding of the patch splitting.

    Args:
        channels: C. neuron: prototype. norm: mode of `BatchNorm`.
    """

    def __init__(self, channels: int, neuron: nn.Module, norm: str) -> None:
        super().__init__()
        self.unit = unit(Conv2d(channels, channels, 3, padding=1), neuron, norm, "spike")
        self.join = new_join(neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes [T, B, C, H, W] → sums of two spikes."""
        return join(self.join, self.unit(x), x)


@MODELS.register("spikformer")
@builder(FormerOptions)
def spikformer(options: FormerOptions) -> nn.Module:
    """Spikformer-4-384 for CIFAR: 9.311 M parameters; -8-512 for ImageNet with its own options.

    Four convs 3×3 – BN – neuron (width/8, /4, /2, /1), pools behind the last ones; position; `depth` blocks; mean over
    the tokens; linear. Heads are 12 of 32 channels. For ImageNet: depth=8, width=512, heads=8, patch=16, shape=(3, 224,
    224), classes=1000.

    Source: Zhou et al., "Spikformer" (ICLR 2023, arXiv 2209.15425), and its code: 9.32 M for CIFAR-10. Differs: linear
    maps in front of norms have no bias, which norms cancel (13,824 parameters less); 2×2 max pools in place of 3×3 with
    stride 2; the gate has the neuron of all others, not one of half its threshold; keys and values keep their axes,
    which the code for CIFAR-10 reads in another order.

    >>> from bitspike.neurons import LIF
    >>> import torch; spikformer(LIF(), width=16, heads=2, shape=(3, 8, 8))(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """
    where = "spikformer"
    one_of(where, "wiring", options.wiring, ("spike",))
    one_of(where, "attention", options.attention, tuple(ATTENTION))
    integer(where, "depth", options.depth, 1, 100)
    pools = {1: 0, 2: 1, 4: 2, 8: 3, 16: 4}
    one_of(where, "patch", options.patch, tuple(pools))
    body, (inputs, height, breadth) = opened(where, options, options.patch)
    if options.width % 8:
        raise bad_value(
            where, "width must be a multiple of 8", options.width, "the convs have an eighth of it and more"
        )
    for index, part in enumerate((8, 4, 2, 1), 1):
        conv = Conv2d(inputs, options.width // part, 3, padding=1)
        conv.role = "first" if index == 1 else "hidden"
        body[f"conv{index}"] = unit(conv, options.neuron, options.norm, "spike")
        if index > 4 - pools[options.patch]:
            body[f"pool{index}"] = MaxPool2d(2)
        inputs = options.width // part
    body["position"] = Position(options.width, options.neuron, options.norm)
    tokens = height * breadth // options.patch**2
    body["tokens"] = TokenView("rows", tokens, options.width)
    for index in range(1, options.depth + 1):
        attention = ATTENTION[options.attention](
            options.width, tokens, options.neuron, heads=options.heads, norm=options.norm
        )
        body[f"block{index}"] = TransformerBlock(attention, options.neuron, options.norm, RATIO)
    body["pool"] = GlobalAvgPool()
    return closed(body, options, options.width)
