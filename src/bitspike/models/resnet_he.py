"""The narrow CIFAR ResNets of He et al. (CVPR 2016), section 4.2."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from bitspike.models.builder import builder
from bitspike.models.network import MODELS
from bitspike.models.options import Options, Size
from bitspike.models.residual import Plan, residual_body


@dataclass(frozen=True)
class Shortcut(Size):
    """The choice of shortcuts.

    Args:
        shortcut: "pad", option A: every second pixel, zeros for new channels, no parameters (published checkpoints);
            "stride", option B: 1×1 convs with stride 2; "average": AvgPool – 1×1 conv.
    """

    shortcut: str = "pad"


@dataclass(frozen=True)
class HeOptions(Options, Shortcut):
    """He's width."""

    width: int = 16


@MODELS.register("he_resnet20")
@builder(HeOptions)
def he_resnet20(options: HeOptions) -> nn.Module:
    """ResNet-20 of He et al.: 269,722 parameters with option A, 3×3 basic blocks of 16, 32, 64 channels.

    With option B 0.271 M weights and 40.8 M MACs a step, the narrow ResNet-20 of adaptive bit allocation. For the
    published ANN weights build it with ``nn.ReLU()`` and T = 1 and call `load_he_checkpoint`.

    Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), section 4.2.

    >>> import torch; he_resnet20(nn.ReLU(), T=1, width=4, shape=(3, 8, 8))(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """
    return residual_body("he_resnet20", Plan((3, 3, 3), shortcut=options.shortcut), options)


@MODELS.register("he_resnet32")
@builder(HeOptions)
def he_resnet32(options: HeOptions) -> nn.Module:
    """ResNet-32 of He et al.: 464,154 parameters with option A, 3×5 basic blocks of 16, 32, 64 channels.

    Published ANN weights: see `he_resnet20`.

    Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), section 4.2.

    >>> import torch; he_resnet32(nn.ReLU(), T=1, width=4, shape=(3, 8, 8))(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """
    return residual_body("he_resnet32", Plan((5, 5, 5), shortcut=options.shortcut), options)
