"""Residual networks for ImageNet-sized images, basic and SEW."""

from __future__ import annotations

from torch import nn

from bitspike.layers import Encoder
from bitspike.models.network import MODELS, Network, Policy, finish
from bitspike.models.residual import Plan, residual_network
from bitspike.quantizers import Quantizer


@MODELS.register("resnet18")
def resnet18(
    neuron: nn.Module,
    weight: Quantizer | None = None,
    T: int = 2,
    shape: tuple[int, int, int] = (3, 224, 224),
    classes: int = 1000,
    width: int = 64,
    sew: bool = False,
    wiring: str = "spike",
    norm: str = "joint",
    encoder: str | Encoder = "repeat",
    readout: str = "mean",
    input_neuron: bool = False,
    policy: Policy | None = None,
) -> Network:
    """ResNet-18 for ImageNet: 11.679 M weights and 1.814 G MACs a step (1000 classes, 224×224).

    conv7×7(C→64, stride 2) – 3×3 **average** pool, stride 2 – 2, 2, 2, 2 basic blocks of 64, 128, 256, 512 channels –
    global average pool – linear; 1×1 convs with stride 2 on the down-sampling shortcuts.

    Source: Ternary Spike (AAAI 2024), code; SEW form: adaptive bit allocation (arXiv 2506.23717), code.
    Differs: the SEW networks of Fang et al. pool the stem by maximum, here both forms average.

    Args:
        neuron, weight, T, shape, classes, width, wiring, norm, encoder, readout, input_neuron, policy: as
            in `resnet19`.
        sew: SEW-ResNet-18: add behind the neurons, see `ResidualBlock`; in a stage of n blocks sums of spikes reach
            n + 1 times the greatest spike.

    >>> from bitspike.neurons import LIF
    >>> import torch; resnet18(LIF(), width=4, shape=(3, 32, 32))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 1000])
    """
    plan = Plan((2, 2, 2, 2), stem="imagenet", sew=sew)
    net = residual_network(
        "resnet18", plan, neuron, T, shape, classes, width, wiring, norm, encoder, readout, input_neuron
    )
    return finish(net, weight, policy)


@MODELS.register("resnet34")
def resnet34(
    neuron: nn.Module,
    weight: Quantizer | None = None,
    T: int = 2,
    shape: tuple[int, int, int] = (3, 224, 224),
    classes: int = 1000,
    width: int = 64,
    sew: bool = False,
    wiring: str = "spike",
    norm: str = "joint",
    encoder: str | Encoder = "repeat",
    readout: str = "mean",
    input_neuron: bool = False,
    policy: Policy | None = None,
) -> Network:
    """ResNet-34 for ImageNet: 21.780 M weights and 3.664 G MACs a step (1000 classes, 224×224).

    conv7×7(C→64, stride 2) – 3×3 **average** pool, stride 2 – 3, 4, 6, 3 basic blocks of 64, 128, 256, 512 channels –
    global average pool – linear; 1×1 convs with stride 2 on the down-sampling shortcuts.

    Source: Ternary Spike (AAAI 2024), code; SEW form: adaptive bit allocation (arXiv 2506.23717), code.
    Differs: the SEW networks of Fang et al. pool the stem by maximum, here both forms average.

    Args:
        neuron, weight, T, shape, classes, width, wiring, norm, encoder, readout, input_neuron, policy: as
            in `resnet19`.
        sew: SEW-ResNet-34: add behind the neurons, see `ResidualBlock`; in a stage of n blocks sums of spikes reach
            n + 1 times the greatest spike.

    >>> from bitspike.neurons import LIF
    >>> import torch; resnet34(LIF(), width=4, shape=(3, 32, 32))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 1000])
    """
    plan = Plan((3, 4, 6, 3), stem="imagenet", sew=sew)
    net = residual_network(
        "resnet34", plan, neuron, T, shape, classes, width, wiring, norm, encoder, readout, input_neuron
    )
    return finish(net, weight, policy)
