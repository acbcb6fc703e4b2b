"""Plain convolutional networks: VGG-11 and VGGSNN."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from bitspike.checks import one_of
from bitspike.layers import AvgPool2d, Conv2d, Flatten, MaxPool2d
from bitspike.models.blocks import unit
from bitspike.models.builder import builder, closed, opened
from bitspike.models.network import MODELS
from bitspike.models.options import Options, Size

VGG11 = ((1,), (2,), (4, 4), (8, 8), (8, 8))
"""Widths of the 3×3 convs in units of ``width``; a pool follows each group."""

VGGSNN = ((1, 2), (4, 4), (8, 8), (8, 8))


@dataclass(frozen=True)
class Pool(Size):
    """The choice of pools.

    Args:
        pool: "average" or "max".
    """

    pool: str = "average"


@dataclass(frozen=True)
class PlainOptions(Options, Pool):
    """Of VGG-11."""


@dataclass(frozen=True)
class FrameOptions(PlainOptions):
    """Of VGGSNN, for event frames."""

    T: int = 10
    shape: tuple[int, int, int] = (2, 48, 48)


@MODELS.register("vgg11")
@builder(PlainOptions)
def vgg11(options: PlainOptions) -> nn.Module:
    """VGG-11 with one linear layer: 9.223 M weights and 152.8 M MACs a step (10 classes, 32×32).

    64-P-128-P-256-256-P-512-512-P-512-512-P-linear, 3×3 convs with BN, 2×2 pools P. The sides of the image must be
    multiples of 32.

    Source: Simonyan and Zisserman (ICLR 2015), configuration A. Differs: batch norm, average pools by default, and one
    linear layer in place of three, as usual for CIFAR.

    >>> from bitspike.neurons import LIF
    >>> import torch; vgg11(LIF(), width=4)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    return _plain("vgg11", VGG11, options)


@MODELS.register("vggsnn")
@builder(FrameOptions)
def vggsnn(options: FrameOptions) -> nn.Module:
    """VGGSNN for event frames: 9.263 M weights (CIFAR10-DVS: 10 classes, 2 polarities, 48×48).

    The encoder repeats one frame [B, 2, H, W]. For frames over time [T, B, 2, H, W] leave it out:
    ``nn.Sequential(net.body, net.readout)``.

    64-128-AP-256-256-AP-512-512-AP-512-512-AP-linear, 3×3 convs with BN, 2×2 average pools AP. The sides of the image
    must be multiples of 16.

    Source: TET (arXiv 2202.11946); adaptive bit allocation (arXiv 2506.23717), code.

    >>> from bitspike.neurons import LIF
    >>> import torch; vggsnn(LIF(), T=2, width=4, shape=(2, 16, 16))(torch.zeros(2, 2, 16, 16)).shape
    torch.Size([2, 10])
    """
    return _plain("vggsnn", VGGSNN, options)


def _plain(where: str, groups: tuple[tuple[int, ...], ...], options: PlainOptions) -> nn.Sequential:
    """Groups of conv units with a pool behind each.

    Modules: [input], conv1, …, pool1, …, flatten, [neuron], classifier.
    """
    one_of(where, "pool", options.pool, ("average", "max"))
    body, (inputs, height, breadth) = opened(where, options, 2 ** len(groups))
    width = options.width
    index = 0
    for number, group in enumerate(groups, 1):
        for factor in group:
            conv = Conv2d(inputs, factor * width, 3, padding=1)
            conv.role = "hidden" if index else "first"
            index += 1
            body[f"conv{index}"] = unit(conv, options.neuron, options.norm, options.wiring)
            inputs = factor * width
        body[f"pool{number}"] = AvgPool2d(2) if options.pool == "average" else MaxPool2d(2)
    body["flatten"] = Flatten()
    features = inputs * (height >> len(groups)) * (breadth >> len(groups))
    return closed(body, options, features)
