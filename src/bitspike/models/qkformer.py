"""QKFormer: three stages of fewer and wider tokens, masks of tokens in the first two, products in the last."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

from bitspike.checks import bad_value, integer, one_of
from bitspike.layers import ATTENTION, Chain, Conv2d, GlobalAvgPool, ImageView, MaxPool2d, TokenView
from bitspike.models.blocks import unit
from bitspike.models.builder import builder, closed, opened
from bitspike.models.components import new_neuron, new_norm
from bitspike.models.network import MODELS
from bitspike.models.options import Options, Size
from bitspike.models.residual_block import ResidualJoin, join, new_join
from bitspike.models.transformer_block import TransformerBlock
from bitspike.sealed import Sealed


@dataclass(frozen=True)
class Stages(Size):
    """The choice of stages.

    Args:
        attention: two names of `ATTENTION`, for the first two stages and for the third.
        depths: blocks of the three stages, each 1 to 100. heads: a divisor of width/4.
        patch: side of a patch of the first stage in pixels, 1 (CIFAR) or 4 (ImageNet); later ones are twice and four
            times as wide.
    """

    attention: tuple[str, str] = ("qk_token", "ssa")
    depths: tuple[int, int, int] = (1, 1, 2)
    heads: int = 8
    patch: int = 1


@dataclass(frozen=True)
class QKOptions(Options, Stages):
    """HST-4-384."""

    T: int = 4
    width: int = 384


def pooled(conv: Conv2d, neuron: nn.Module, norm: str) -> nn.Sequential:
    """conv – norm – pool 2×2 – neuron: currents are pooled."""
    outputs = conv.weight.shape[0]
    layers = {"conv": conv, "norm": new_norm(outputs, norm, neuron), "pool": MaxPool2d(2)}
    return Chain(OrderedDict(layers, neuron=new_neuron(neuron, outputs)))


class DeformedPatch(Sealed, nn.Module):
    """``units(x) + neuron(BN(conv1×1(x)))``: patches whose shortcut changes channels and size too.

    Units are conv3×3 – BN – neuron, the first of them from `inputs` to `outputs` channels.

    Source: QKFormer (arXiv 2403.16552), spiking patch embedding with deformed shortcut.

    Args:
        inputs, outputs: channels. units: number of convs, at least 1. pool: the one, from 1, whose currents are pooled
            2×2; 0: none, and the shortcut has stride 1 in place of 2. neuron, norm: as everywhere.
    """

    def __init__(self, inputs: int, outputs: int, units: int, pool: int, neuron: nn.Module, norm: str) -> None:
        super().__init__()
        layers = OrderedDict[str, nn.Module]()
        for index in range(1, units + 1):
            conv = Conv2d(inputs if index == 1 else outputs, outputs, 3, padding=1)
            layers[f"unit{index}"] = pooled(conv, neuron, norm) if index == pool else unit(conv, neuron, norm, "spike")
        self.units: nn.Sequential = nn.Sequential(layers)
        way = Conv2d(inputs, outputs, 1, stride=2 if pool else 1)
        way.role = "downsample"
        self.shortcut: nn.Sequential = unit(way, neuron, norm, "spike")
        self.join: ResidualJoin = new_join(neuron)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes [T, B, C, H, W] → sums of two spikes, with a pool half as high and wide."""
        return join(self.join, self.units(x), self.shortcut(x))


@MODELS.register("qkformer")
@builder(QKOptions)
def qkformer(options: QKOptions) -> nn.Module:
    """QKFormer HST-4-384 for CIFAR: 6.735 M parameters with 100 classes; HST-10-768 for ImageNet with its own options.

    Three stages of width/4, /2 and /1 channels; each begins with patches (conv3×3 – BN – neuron, a shortcut conv1×1 –
    BN – neuron added) and goes on with `depths` blocks; mean over the tokens; linear. For ImageNet: depths=(1, 2, 7),
    width=768, heads=12, patch=4, shape=(3, 224, 224), classes=1000.

    Source: Zhou et al., "QKFormer" (NeurIPS 2024, arXiv 2403.16552), and its code, whose 6.74 M for CIFAR are with
    100 classes. Differs: linear maps in front of norms have no bias, which norms cancel; 2×2 max pools in place of 3×3
    with stride 2; the gate has the neuron of all others, not one of half its threshold.

    >>> from bitspike.neurons import LIF
    >>> import torch; qkformer(LIF(), width=16, heads=2, shape=(3, 8, 8))(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """
    where = "qkformer"
    one_of(where, "wiring", options.wiring, ("spike",))
    if not isinstance(options.attention, (tuple, list)) or len(options.attention) != 2:
        must = "attention must be two names, for the first two stages and for the third"
        raise bad_value(where, must, options.attention, 'give such as ("qk_token", "ssa")')
    for name in options.attention:
        one_of(where, "attention", name, tuple(ATTENTION))
    if not isinstance(options.depths, (tuple, list)) or len(options.depths) != 3:
        raise bad_value(where, "depths must be three numbers of blocks", options.depths, "give such as (1, 1, 2)")
    for depth in options.depths:
        integer(where, "depths", depth, 1, 100)
    one_of(where, "patch", options.patch, (1, 4))
    body, (inputs, height, breadth) = opened(where, options, 4 * options.patch)
    if options.width % 8:
        raise bad_value(where, "width must be a multiple of 8", options.width, "the first conv has an eighth of it")
    neuron, norm, width, large = options.neuron, options.norm, options.width, options.patch == 4
    first = Conv2d(inputs, width // 8, 3, padding=1)
    first.role = "first"
    body["first"] = pooled(first, neuron, norm) if large else unit(first, neuron, norm, "spike")
    height, breadth = height // options.patch, breadth // options.patch
    for stage, depth in enumerate(options.depths, 1):
        channels = width * 2**stage // 8
        if stage > 1:
            height, breadth = height // 2, breadth // 2
        units, pool = (2, 1) if large else (1, 0) if stage == 1 else (2, 2)
        body[f"patch{stage}"] = DeformedPatch(channels // 2, channels, units, pool, neuron, norm)
        tokens = height * breadth
        body[f"tokens{stage}"] = TokenView("rows", tokens, channels)
        kind = ATTENTION[options.attention[stage // 3]]
        for index in range(1, depth + 1):
            attention = kind(channels, tokens, neuron, heads=options.heads, norm=norm)
            body[f"block{stage}_{index}"] = TransformerBlock(attention, neuron, norm)
        if stage < 3:
            body[f"image{stage}"] = ImageView(height, breadth)
    body["pool"] = GlobalAvgPool()
    return closed(body, options, width)
