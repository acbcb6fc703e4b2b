"""Spike-driven Transformer: shortcuts add currents, so every synapse but the first reads spikes of a neuron."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from bitspike.layers import ATTENTION, Conv2d, GlobalAvgPool, TokenView
from bitspike.models.builder import builder, closed
from bitspike.models.current_block import Current, DrivenBlock
from bitspike.models.network import MODELS
from bitspike.models.patches import FormerOptions, patched


@dataclass(frozen=True)
class DrivenOptions(FormerOptions):
    """Spike-driven Transformer-2-512; `wiring` can only be "input"."""

    T: int = 4
    width: int = 512
    attention: str = "sdsa"
    depth: int = 2
    heads: int = 8
    wiring: str = "input"


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
    body["position"] = Current([Conv2d(width, width, 3, padding=1)], neuron, norm)
    body["tokens"] = TokenView("rows", tokens, width)
    for index in range(1, options.depth + 1):
        attention = ATTENTION[options.attention](
            width, tokens, neuron, heads=options.heads, norm=norm, output="current"
        )
        body[f"block{index}"] = DrivenBlock(attention, neuron, norm)
    body["pool"] = GlobalAvgPool()
    return closed(body, options, width)
