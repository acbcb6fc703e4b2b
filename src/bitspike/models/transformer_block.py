"""The block of spiking transformers: attention and a perceptron of every token, with shortcuts around both."""

from __future__ import annotations

from torch import Tensor, nn

from bitspike.layers import Attention, Conv2d
from bitspike.models.blocks import unit
from bitspike.models.residual_block import ResidualJoin, join, new_join
from bitspike.sealed import Sealed


class TransformerBlock(Sealed, nn.Module):
    """``y = x + attention(x)``, ``z = y + mlp(y)`` over maps [T, B, C, N, 1]; shortcuts carry spikes and their sums.

    The perceptron is conv1×1(C→ratio·C) – BN – neuron – conv1×1(ratio·C→C) – BN – neuron, token by token. Where a spike
    reaches M, what n blocks send reaches (2n + 1)·M, as integers.

    Source: Spikformer (arXiv 2209.15425), encoder block.

    Args:
        attention: of C channels and N tokens. neuron: prototype. norm: mode of `BatchNorm`. ratio: >= 1.
    """

    def __init__(self, attention: Attention, neuron: nn.Module, norm: str, ratio: int = 4) -> None:
        super().__init__()
        channels = attention.channels
        self.attention = attention
        self.mlp: nn.Sequential = nn.Sequential(
            unit(Conv2d(channels, ratio * channels, 1), neuron, norm, "spike"),
            unit(Conv2d(ratio * channels, channels, 1), neuron, norm, "spike"),
        )
        self.join1: ResidualJoin = new_join(neuron)
        self.join2: ResidualJoin = new_join(neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [T, B, C, N, 1] → the same shape."""
        x = join(self.join1, self.attention.inside(x), x)
        return join(self.join2, self.mlp(x), x)
