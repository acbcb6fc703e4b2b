"""Max-Former: pools and depthwise convolutions keep what neurons blur; attention in the last stage alone."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from bitspike.checks import bad_value, integer, one_of
from bitspike.layers import Conv2d, GlobalAvgPool, MaxPool2d, SpikingSelfAttention, TokenView
from bitspike.models.builder import builder, closed, opened
from bitspike.models.components import new_norm
from bitspike.models.current_block import Current, CurrentPatch, DrivenBlock, fired, perceptron
from bitspike.models.network import MODELS
from bitspike.models.options import Options, Size


@dataclass(frozen=True)
class Mixers(Size):
    """The choice of stages.

    Args:
        kernels: odd sides of the depthwise convs of the first two stages; 0: none.
        depths: blocks of the three stages, each 1 to 100. heads: a divisor of `width`.
        patch: side of a patch of the first stage in pixels, 1 (CIFAR) or 4 (ImageNet); later ones are twice and four
            times as wide.
    """

    kernels: tuple[int, int] = (0, 3)
    depths: tuple[int, int, int] = (1, 1, 2)
    heads: int = 8
    patch: int = 1


@dataclass(frozen=True)
class MixerOptions(Options, Mixers):
    """Max-Former-4-384; `wiring` can only be "input"."""

    T: int = 4
    width: int = 384
    wiring: str = "input"


@MODELS.register("maxformer")
@builder(MixerOptions)
def maxformer(options: MixerOptions) -> nn.Module:
    """Max-Former-4-384 for CIFAR: 6.562 M parameters; -10-768 for ImageNet with its own options.

    conv3×3 – BN, then three stages of width/4, /2 and /1 channels. Each begins with patches, neuron – conv3×3 – BN once
    (CIFAR's first) or twice, a shortcut conv1×1 – BN of the first spikes added; in the last two stages both ways are
    pooled 2×2. Blocks: a depthwise conv in the first two stages, "ssa" in the third, and a perceptron token by token.
    Mean over the tokens; neuron; linear. All sums are sums of currents. For ImageNet: kernels=(7, 5), depths=(1, 2, 7),
    width=768, heads=12, patch=4, shape=(3, 224, 224), classes=1000.

    Source: Fang et al., "Spiking Neural Networks Need High-Frequency Information" (NeurIPS 2025, arXiv 2505.18608), and
    its code. Differs: convs in front of norms have no bias, which norms cancel (a depthwise conv C, a perceptron 5·C, a
    projection C); 2×2 max pools in place of 3×3 with stride 2; the gate has the neuron of all others, not one of half
    its threshold; both ways of CIFAR's first patches read spikes of one neuron, not of two.

    >>> from bitspike.neurons import LIF
    >>> import torch; maxformer(LIF(), width=16, heads=2, shape=(3, 8, 8))(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """
    where = "maxformer"
    one_of(where, "wiring", options.wiring, ("input",))
    _numbers(where, "depths", options.depths, 3, 1, 100)
    _numbers(where, "kernels", options.kernels, 2, 0, 31)
    if any(kernel and kernel % 2 == 0 for kernel in options.kernels):
        raise bad_value(where, "kernels must be odd, or 0", options.kernels, "images keep their size, e.g. (0, 3)")
    one_of(where, "patch", options.patch, (1, 4))
    body, (inputs, height, breadth) = opened(where, options, 4 * options.patch)
    if options.width % 8:
        raise bad_value(where, "width must be a multiple of 8", options.width, "the first conv has an eighth of it")
    neuron, norm, width, large = options.neuron, options.norm, options.width, options.patch == 4
    first = Conv2d(inputs, width // 8, 3, 2 if large else 1, padding=1)
    first.role = "first"
    body["first"] = nn.Sequential(OrderedDict(conv=first, norm=new_norm(width // 8, norm, neuron)))
    for stage, depth in enumerate(options.depths, 1):
        channels = width * 2**stage // 8
        stride, later = 2 if stage == 1 and large else 1, stage > 1
        body[f"patch{stage}"] = _patch(channels // 2, channels, stride, later, later or large, neuron, norm)
        if stage == 3:
            tokens = height * breadth // (4 * options.patch) ** 2
            body["tokens"] = TokenView("rows", tokens, channels)
        for index in range(1, depth + 1):
            name = f"block{stage}_{index}"
            if stage == 3:
                heads = options.heads
                attention = SpikingSelfAttention(channels, tokens, neuron, None, heads, norm, output="current")
                body[name] = DrivenBlock(attention, neuron, norm)
                continue
            kernel, parts = options.kernels[stage - 1], OrderedDict[str, nn.Module]()
            if kernel:
                mixer = Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
                parts["mixer"] = Current([mixer], neuron, norm)
            parts["mlp"] = Current(perceptron(channels), neuron, norm)
            body[name] = nn.Sequential(parts)
    body["pool"] = GlobalAvgPool()
    return closed(body, options, width)


def _patch(
    inputs: int, outputs: int, stride: int, pool: bool, twice: bool, neuron: nn.Module, norm: str
) -> CurrentPatch:
    """Patches of currents: both ways pooled if ``pool``, the conv3×3 a second time if ``twice``."""
    way, around = OrderedDict[str, nn.Module](), OrderedDict[str, nn.Module]()
    way["conv"] = Conv2d(inputs, outputs, 3, stride, padding=1)
    projection = around["conv"] = Conv2d(inputs, outputs, 1, stride)
    projection.role = "downsample"
    for layers in (way, around):
        layers["norm"] = new_norm(outputs, norm, neuron)
        if pool:
            layers["pool"] = MaxPool2d(2)
    if twice:
        way["second"] = fired([Conv2d(outputs, outputs, 3, padding=1)], neuron, norm)
    return CurrentPatch(inputs, nn.Sequential(way), nn.Sequential(around), neuron)


def _numbers(where: str, name: str, given: object, count: int, low: int, high: int) -> None:
    """Refuse what is not so many integers of a range."""
    if not isinstance(given, (tuple, list)) or len(given) != count:
        raise bad_value(where, f"{name} must be {count} numbers", given, "give one a stage")
    for number in given:
        integer(where, name, number, low, high)
