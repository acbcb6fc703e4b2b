"""The narrow CIFAR ResNets of He et al. (CVPR 2016), section 4.2."""

from __future__ import annotations

from torch import nn

from bitspike.layers import Encoder
from bitspike.models.network import MODELS, Network, Policy, finish
from bitspike.models.residual import Plan, residual_network
from bitspike.quantizers import Quantizer


@MODELS.register("he_resnet20")
def he_resnet20(
    neuron: nn.Module,
    weight: Quantizer | None = None,
    T: int = 2,
    shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    width: int = 16,
    shortcut: str = "pad",
    wiring: str = "spike",
    norm: str = "joint",
    encoder: str | Encoder = "repeat",
    readout: str = "mean",
    input_neuron: bool = False,
    policy: Policy | None = None,
) -> Network:
    """ResNet-20 of He et al.: 269,722 parameters with option A, 3×3 basic blocks of 16, 32, 64 channels.

    With option B 0.271 M weights and 40.8 M MACs a step, the narrow ResNet-20 of adaptive bit allocation. For the
    published ANN weights build it with ``nn.ReLU()`` and T = 1 and call `load_he_checkpoint`.

    Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), section 4.2.

    Args:
        neuron, weight, T, shape, classes, width, wiring, norm, encoder, readout, input_neuron, policy: as
            in `resnet19`.
        shortcut: "pad", option A: every second pixel, zeros for new channels, no parameters (published checkpoints);
            "stride", option B: 1×1 convs with stride 2; "average": AvgPool – 1×1 conv.

    >>> import torch; he_resnet20(nn.ReLU(), T=1, width=4, shape=(3, 8, 8))(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """
    plan = Plan((3, 3, 3), shortcut=shortcut)
    net = residual_network(
        "he_resnet20", plan, neuron, T, shape, classes, width, wiring, norm, encoder, readout, input_neuron
    )
    return finish(net, weight, policy)


@MODELS.register("he_resnet32")
def he_resnet32(
    neuron: nn.Module,
    weight: Quantizer | None = None,
    T: int = 2,
    shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    width: int = 16,
    shortcut: str = "pad",
    wiring: str = "spike",
    norm: str = "joint",
    encoder: str | Encoder = "repeat",
    readout: str = "mean",
    input_neuron: bool = False,
    policy: Policy | None = None,
) -> Network:
    """ResNet-32 of He et al.: 464,154 parameters with option A, 3×5 basic blocks of 16, 32, 64 channels.

    Published ANN weights: see `he_resnet20`.

    Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), section 4.2.

    Args:
        neuron, weight, T, shape, classes, width, wiring, norm, encoder, readout, input_neuron, policy: as
            in `resnet19`.
        shortcut: "pad", option A: every second pixel, zeros for new channels, no parameters (published checkpoints);
            "stride", option B: 1×1 convs with stride 2; "average": AvgPool – 1×1 conv.

    >>> import torch; he_resnet32(nn.ReLU(), T=1, width=4, shape=(3, 8, 8))(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """
    plan = Plan((5, 5, 5), shortcut=shortcut)
    net = residual_network(
        "he_resnet32", plan, neuron, T, shape, classes, width, wiring, norm, encoder, readout, input_neuron
    )
    return finish(net, weight, policy)
