"""Spikformer for CIFAR out of SpikingJelly's own blocks; the twin of bitspike's `spikformer`.

SpikingJelly's `Spikformer` cuts patches of 16 pixels only and pools in front of neurons; this one has its convolutions
and its encoder blocks, with the pools of the paper's CIFAR network: behind the last two neurons.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spikingjelly.activation_based import layer
from spikingjelly.activation_based.model.spikformer import SpikformerBlock, SpikformerConv2dBNLIF
from torch import Tensor, nn


class Former(nn.Module):
    """Images [B, 3, H, W] → mean logits [B, 10]; every step sees the image.

    Args:
        T: time steps. width: channels of a token. depth: blocks. heads: of attention.
        neuron: makes a multi-step node; arguments are ignored.
    """

    def __init__(self, T: int, width: int, depth: int, heads: int, neuron: Callable[..., Any]) -> None:
        super().__init__()
        self.T = T
        layers: list[nn.Module] = []
        inputs = 3
        for index, part in enumerate((8, 4, 2, 1)):
            layers.append(_conv(inputs, width // part, neuron))
            if index >= 2:
                layers.append(layer.MaxPool2d(2, step_mode="m"))
            inputs = width // part
        self.patches = nn.Sequential(*layers)
        self.position = _conv(width, width, neuron)
        blocks = (SpikformerBlock(width, heads, spiking_neuron=neuron) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
        self.classifier = layer.Linear(width, 10, step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        """Encode, run, average tokens, classify, average time."""
        y = self.patches(x.unsqueeze(0).expand(self.T, *x.shape))
        y = self.blocks(y + self.position(y))
        return self.classifier(y.mean((3, 4))).mean(0)  # type: ignore[no-any-return]


def _conv(inputs: int, outputs: int, neuron: Callable[..., Any]) -> nn.Module:
    return SpikformerConv2dBNLIF(inputs, outputs, 3, padding=1, spiking_neuron=neuron)
