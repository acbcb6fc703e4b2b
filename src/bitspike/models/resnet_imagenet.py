"""Residual networks for ImageNet-sized images, basic and SEW."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from bitspike.models.builder import builder
from bitspike.models.network import MODELS
from bitspike.models.options import Options, Size
from bitspike.models.residual import Plan, residual_body


@dataclass(frozen=True)
class Sew(Size):
    """The choice of SEW networks.

    Args:
        sew: SEW-ResNet: add behind the neurons, see `ResidualBlock`; in a stage of n blocks sums of spikes reach
            n + 1 times the greatest spike.
    """

    sew: bool = False


@dataclass(frozen=True)
class ImageNetOptions(Options, Sew):
    """Images and classes of ImageNet."""

    shape: tuple[int, int, int] = (3, 224, 224)
    classes: int = 1000


@MODELS.register("resnet18")
@builder(ImageNetOptions)
def resnet18(options: ImageNetOptions) -> nn.Module:
    """ResNet-18 for ImageNet: 11.679 M weights and 1.814 G MACs a step (1000 classes, 224×224).

    conv7×7(C→64, stride 2) – 3×3 **average** pool, stride 2 – 2, 2, 2, 2 basic blocks of 64, 128, 256, 512 channels –
    global average pool – linear; 1×1 convs with stride 2 on the down-sampling shortcuts.

    Source: Ternary Spike (AAAI 2024), code; SEW form: adaptive bit allocation (arXiv 2506.23717), code.
    Differs: the SEW networks of Fang et al. pool the stem by maximum, here both forms average.

    >>> from bitspike.neurons import LIF
    >>> import torch; resnet18(LIF(), width=4, shape=(3, 32, 32))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 1000])
    """
    return residual_body("resnet18", Plan((2, 2, 2, 2), stem="imagenet", sew=options.sew), options)


@MODELS.register("resnet34")
@builder(ImageNetOptions)
def resnet34(options: ImageNetOptions) -> nn.Module:
    """ResNet-34 for ImageNet: 21.780 M weights and 3.664 G MACs a step (1000 classes, 224×224).

    As `resnet18`, with 3, 4, 6, 3 basic blocks; source and difference are its own.

    >>> from bitspike.neurons import LIF
    >>> import torch; resnet34(LIF(), width=4, shape=(3, 32, 32))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 1000])
    """
    return residual_body("resnet34", Plan((3, 4, 6, 3), stem="imagenet", sew=options.sew), options)
