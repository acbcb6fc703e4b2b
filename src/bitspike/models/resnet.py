"""Residual networks for CIFAR-sized images with the widths of the spiking literature."""

from __future__ import annotations

from torch import nn

from bitspike.models.builder import builder
from bitspike.models.network import MODELS
from bitspike.models.options import Options, WideOptions
from bitspike.models.residual import Plan, residual_body


@MODELS.register("resnet19")
@builder(WideOptions)
def resnet19(options: WideOptions) -> nn.Module:
    """ResNet-19 of Ternary Spike: 12.569 M parameters and 2285 M MACs a step (10 classes, 32×32).

    conv3×3(C→128) – stages of 3, 3, 2 basic blocks of 128, 256, 512 channels, strides 1, 2, 2 – global average pool –
    linear. Down-sampling shortcuts are 1×1 convs with stride 2.

    Source: Ternary Spike (AAAI 2024), code. Not the ResNet-19 of tdBN and TET, which has a second linear layer.

    >>> from bitspike.neurons import Ternary
    >>> import torch; resnet19(Ternary(), width=4, shape=(3, 8, 8))(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """
    return residual_body("resnet19", Plan((3, 3, 2)), options)


@MODELS.register("resnet20")
@builder(Options)
def resnet20(options: Options) -> nn.Module:
    """ "ResNet20" of Ternary Spike: 11.248 M parameters and 215.7 M MACs a step (10 classes, 32×32).

    Three 3×3 convs of 64 – 2×2 average pool – 2 basic blocks each of 64, 128, 256, 512 channels, strides 1, 2, 2, 2 –
    global average pool – linear. Down-sampling shortcuts are AvgPool 2×2 – 1×1 conv ("AvgDown"); pools round odd
    sides up. Not He's ResNet-20 of 0.27 M parameters: that is `he_resnet20`.

    Source: Ternary Spike (AAAI 2024), code: `resnet20_cifar_modified`; that the paper's tables mean this one is
    almost sure [?].

    >>> from bitspike.neurons import Ternary
    >>> import torch; resnet20(Ternary(), width=4, shape=(3, 16, 16))(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 10])
    """
    return residual_body("resnet20", Plan((2, 2, 2, 2), stem="three", shortcut="average"), options)


@MODELS.register("wide_resnet20")
@builder(WideOptions)
def wide_resnet20(options: WideOptions) -> nn.Module:
    """ResNet-20 of 128, 256, 512 channels: 17.277 M weights and 2587 M MACs a step (10 classes, 32×32).

    He's topology, `he_resnet20`, eight times as wide and with 1×1 convs on the down-sampling shortcuts.

    Source: adaptive bit allocation (arXiv 2506.23717), code; `resnet20_cifar` of Ternary Spike's code.

    >>> from bitspike.neurons import MultiBit
    >>> import torch; wide_resnet20(MultiBit(), width=4, shape=(3, 8, 8))(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """
    return residual_body("wide_resnet20", Plan((3, 3, 3)), options)


@MODELS.register("resnet18_cifar")
@builder(Options)
def resnet18_cifar(options: Options) -> nn.Module:
    """ResNet-18 for CIFAR: 11.164 M weights and 555.4 M MACs a step (10 classes, 32×32).

    conv3×3(C→64) – 2 basic blocks each of 64, 128, 256, 512 channels, strides 1, 2, 2, 2 – global average pool –
    linear; 1×1 convs with stride 2 on the down-sampling shortcuts.

    Source: adaptive bit allocation (arXiv 2506.23717), code: the default of its CIFAR script.

    >>> from bitspike.neurons import MultiBit
    >>> import torch; resnet18_cifar(MultiBit(), width=4, shape=(3, 8, 8))(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """
    return residual_body("resnet18_cifar", Plan((2, 2, 2, 2)), options)
