"""Spike-driven Transformer: shortcuts add currents, so every synapse but the first reads spikes of a neuron."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

from bitspike.layers import ATTENTION, Attention, Conv2d, GlobalAvgPool, TokenView
from bitspike.models.builder import builder, closed
from bitspike.models.components import new_neuron, new_norm
from bitspike.models.network import MODELS
from bitspike.models.patches import FormerOptions, patched
from bitspike.models.residual_block import join, new_join
from bitspike.sealed import Sealed


@dataclass(frozen=True)
class DrivenOptions(FormerOptions):
    """Spike-driven Transformer-2-512; `wiring` can only be "input"."""

    T: int = 4
    width: int = 512
    attention: str = "sdsa"
    depth: int = 2
    heads: int = 8
    wiring: str = "input"


class Current(Sealed, nn.Module):
    """``x + BN(conv(neuron(x)))``, with two synapses ``x + BN(conv(neuron(BN(conv(neuron(x))))))``.

    Source: Spike-driven Transformer (arXiv 2307.01694), membrane shortcuts.

    Args:
        channels: C of the sum, then of what is between two synapses. kernel: odd side. neuron, norm: as everywhere.
    """

    def __init__(self, channels: tuple[int, ...], kernel: int, neuron: nn.Module, norm: str) -> None:
        super().__init__()
        layers: list[tuple[str, nn.Module]] = []
        for index, (inputs, outputs) in enumerate(zip(channels, (*channels[1:], channels[0]), strict=True), 1):
            conv = Conv2d(inputs, outputs, kernel, padding=kernel // 2)
            layers += [(f"neuron{index}", new_neuron(neuron, inputs)), (f"conv{index}", conv)]
            layers.append((f"norm{index}", new_norm(outputs, norm, neuron)))
        self.way = nn.Sequential(OrderedDict(layers))
        self.join = new_join(neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Currents [T, B, C, H, W] → currents of that shape."""
        return join(self.join, self.way(x), x)


class DrivenBlock(Sealed, nn.Module):
    """``y = x + attention(neuron(x))``, ``z = y + mlp(y)`` over currents [T, B, C, N, 1].

    The perceptron is neuron – conv1×1(C→ratio·C) – BN – neuron – conv1×1(ratio·C→C) – BN, token by token.

    Source: Spike-driven Transformer (arXiv 2307.01694), encoder block.

    Args:
        attention: of C channels, with output "current". neuron: prototype. norm: mode of `BatchNorm`. ratio: >= 1.
    """

    def __init__(self, attention: Attention, neuron: nn.Module, norm: str, ratio: int = 4) -> None:
        super().__init__()
        channels = attention.channels
        self.neuron = new_neuron(neuron, channels)
        self.attention = attention
        self.join = new_join(neuron)
        self.mlp = Current((channels, ratio * channels), 1, neuron, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Currents [T, B, C, N, 1] → the same shape."""
        return self.mlp(join(self.join, self.attention.inside(self.neuron(x)), x))  # type: ignore[no-any-return]


@MODELS.register("spike_driven_transformer")
@builder(DrivenOptions)
def spike_driven_transformer(options: DrivenOptions) -> nn.Module:
    """Spike-driven Transformer-2-512 for CIFAR: 10.227 M parameters; -8-512 for ImageNet with its own options.

    Four convs 3×3 – BN (width/8, /4, /2, /1) with neurons behind the first three, pools behind the last ones; position:
    neuron – conv 3×3 – BN, added; `depth` blocks; mean over the tokens; neuron; linear. All sums are sums of currents.
    For ImageNet: depth=8, patch=16, shape=(3, 224, 224), classes=1000.

    Source: Yao et al., "Spike-driven Transformer" (NeurIPS 2023, arXiv 2307.01694), and its code. Differs: linear maps
    in front of norms have no bias, which norms cancel (6·width parameters a block less), and a linear map between heads
    that its code makes and never calls is left out (64 a block); 2×2 max pools in place of 3×3 with stride 2; the gate
    has the neuron of all others, not one of half its threshold.

    >>> from bitspike.neurons import LIF
    >>> import torch; spike_driven_transformer(LIF(), width=16, shape=(3, 8, 8))(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """
    body, tokens = patched("spike_driven_transformer", options, "input")
    neuron, norm, width = options.neuron, options.norm, options.width
    body["position"] = Current((width,), 3, neuron, norm)
    body["tokens"] = TokenView("rows", tokens, width)
    for index in range(1, options.depth + 1):
        attention = ATTENTION[options.attention](
            width, tokens, neuron, heads=options.heads, norm=norm, output="current"
        )
        body[f"block{index}"] = DrivenBlock(attention, neuron, norm)
    body["pool"] = GlobalAvgPool()
    return closed(body, options, width)
