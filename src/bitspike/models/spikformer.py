"""Spikformer: patches by convolutions, then blocks of attention and perceptrons on spikes."""

from __future__ import annotations

from torch import Tensor, nn

from bitspike.layers import ATTENTION, Conv2d, GlobalAvgPool, TokenView
from bitspike.models.blocks import unit
from bitspike.models.builder import builder, closed
from bitspike.models.network import MODELS
from bitspike.models.patches import FormerOptions, patched
from bitspike.models.residual_block import ResidualJoin, join, new_join
from bitspike.models.transformer_block import TransformerBlock
from bitspike.sealed import Sealed


class Position(Sealed, nn.Module):
    """``x + neuron(BN(conv3×3(x)))``: where a token stands, from its neighbours.

    Source: Spikformer (arXiv 2209.15425), relative position embedding of the patch splitting.

    Args:
        channels: C. neuron: prototype. norm: mode of `BatchNorm`.
    """

    def __init__(self, channels: int, neuron: nn.Module, norm: str) -> None:
        super().__init__()
        self.unit: nn.Sequential = unit(Conv2d(channels, channels, 3, padding=1), neuron, norm, "spike")
        self.join: ResidualJoin = new_join(neuron)

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
    body, tokens = patched("spikformer", options, "spike")
    body["position"] = Position(options.width, options.neuron, options.norm)
    body["tokens"] = TokenView("rows", tokens, options.width)
    for index in range(1, options.depth + 1):
        attention = ATTENTION[options.attention](
            options.width, tokens, options.neuron, heads=options.heads, norm=options.norm
        )
        body[f"block{index}"] = TransformerBlock(attention, options.neuron, options.norm)
    body["pool"] = GlobalAvgPool()
    return closed(body, options, options.width)
