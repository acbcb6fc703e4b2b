"""Residual networks for CIFAR-sized images with the widths of the spiking literature."""

from __future__ import annotations

from torch import nn

from bitspike.layers import Encoder
from bitspike.models.network import MODELS, Network, Policy, finish
from bitspike.models.residual import Plan, residual_network
from bitspike.quantizers import Quantizer


@MODELS.register("resnet19")
def resnet19(
    neuron: nn.Module,
    weight: Quantizer | None = None,
    T: int = 2,
    shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    width: int = 128,
    wiring: str = "spike",
    norm: str = "joint",
    encoder: str | Encoder = "repeat",
    readout: str = "mean",
    input_neuron: bool = False,
    policy: Policy | None = None,
) -> Network:
    """ResNet-19 of Ternary Spike: 12.569 M parameters and 2285 M MACs a step (10 classes, 32×32).

    conv3×3(C→128) – stages of 3, 3, 2 basic blocks of 128, 256, 512 channels, strides 1, 2, 2 – global average pool –
    linear. Down-sampling shortcuts are 1×1 convs with stride 2.

    Source: Ternary Spike (AAAI 2024), code. Not the ResNet-19 of tdBN and TET, which has a second linear layer.

    Args:
        neuron: prototype; every layer gets its own copy. Any module [T, B, ...] → [T, B, ...] will do: `nn.ReLU()`
            gives the analog network.
        weight: prototype of the hidden layers; default float.
        T: time steps. shape: (C, H, W) of a sample. classes: K. width: channels of the first stage.
        wiring: "spike": conv – BN – add – neuron, shortcuts carry spikes (Ternary Spike); "input": a neuron in front of
            every conv and linear but the first, additions of real values (adaptive bit allocation).
        norm: "joint", "per_step" or "threshold". encoder: a name of `ENCODERS`, or an `Encoder` of T
            steps, which is copied. readout: "mean" or "steps".
        input_neuron: put a neuron in front of the first conv too.
        policy: quantizers of first, last and down-sampling layers; default the first and last float.

    Returns:
        A `Network`: samples [B, C, H, W] → logits [B, K], or [T, B, K] with readout "steps".

    Raises:
        ValueError: a number out of its range, an unknown name, or a shape that the strides do not fit.

    >>> from bitspike.neurons import Ternary
    >>> import torch; resnet19(Ternary(), width=4, shape=(3, 8, 8))(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """
    plan = Plan((3, 3, 2))
    net = residual_network(
        "resnet19", plan, neuron, T, shape, classes, width, wiring, norm, encoder, readout, input_neuron
    )
    return finish(net, weight, policy)


@MODELS.register("resnet20")
def resnet20(
    neuron: nn.Module,
    weight: Quantizer | None = None,
    T: int = 2,
    shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    width: int = 64,
    wiring: str = "spike",
    norm: str = "joint",
    encoder: str | Encoder = "repeat",
    readout: str = "mean",
    input_neuron: bool = False,
    policy: Policy | None = None,
) -> Network:
    """ "ResNet20" of Ternary Spike: 11.248 M parameters and 215.7 M MACs a step (10 classes, 32×32).

    Three 3×3 convs of 64 – 2×2 average pool – 2 basic blocks each of 64, 128, 256, 512 channels, strides 1, 2, 2, 2 –
    global average pool – linear. Down-sampling shortcuts are AvgPool 2×2 – 1×1 conv ("AvgDown"); pools round odd
    sides up. Not He's ResNet-20 of 0.27 M parameters: that is `he_resnet20`.

    Source: Ternary Spike (AAAI 2024), code: `resnet20_cifar_modified`; that the paper's tables mean this one is
    almost sure [?].

    Args:
        neuron, weight, T, shape, classes, width, wiring, norm, encoder, readout, input_neuron, policy: as
            in `resnet19`.

    >>> from bitspike.neurons import Ternary
    >>> import torch; resnet20(Ternary(), width=4, shape=(3, 16, 16))(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 10])
    """
    plan = Plan((2, 2, 2, 2), stem="three", shortcut="average")
    net = residual_network(
        "resnet20", plan, neuron, T, shape, classes, width, wiring, norm, encoder, readout, input_neuron
    )
    return finish(net, weight, policy)


@MODELS.register("wide_resnet20")
def wide_resnet20(
    neuron: nn.Module,
    weight: Quantizer | None = None,
    T: int = 2,
    shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    width: int = 128,
    wiring: str = "spike",
    norm: str = "joint",
    encoder: str | Encoder = "repeat",
    readout: str = "mean",
    input_neuron: bool = False,
    policy: Policy | None = None,
) -> Network:
    """ResNet-20 of 128, 256, 512 channels: 17.277 M weights and 2587 M MACs a step (10 classes, 32×32).

    He's topology, `he_resnet20`, eight times as wide and with 1×1 convs on the down-sampling shortcuts.

    Source: adaptive bit allocation (arXiv 2506.23717), code; `resnet20_cifar` of Ternary Spike's code.

    Args:
        neuron, weight, T, shape, classes, width, wiring, norm, encoder, readout, input_neuron, policy: as
            in `resnet19`.

    >>> from bitspike.neurons import MultiBit
    >>> import torch; wide_resnet20(MultiBit(), width=4, shape=(3, 8, 8))(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """
    plan = Plan((3, 3, 3))
    net = residual_network(
        "wide_resnet20", plan, neuron, T, shape, classes, width, wiring, norm, encoder, readout, input_neuron
    )
    return finish(net, weight, policy)


@MODELS.register("resnet18_cifar")
def resnet18_cifar(
    neuron: nn.Module,
    weight: Quantizer | None = None,
    T: int = 2,
    shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    width: int = 64,
    wiring: str = "spike",
    norm: str = "joint",
    encoder: str | Encoder = "repeat",
    readout: str = "mean",
    input_neuron: bool = False,
    policy: Policy | None = None,
) -> Network:
    """ResNet-18 for CIFAR: 11.164 M weights and 555.4 M MACs a step (10 classes, 32×32).

    conv3×3(C→64) – 2 basic blocks each of 64, 128, 256, 512 channels, strides 1, 2, 2, 2 – global average pool –
    linear; 1×1 convs with stride 2 on the down-sampling shortcuts.

    Source: adaptive bit allocation (arXiv 2506.23717), code: the default of its CIFAR script.

    Args:
        neuron, weight, T, shape, classes, width, wiring, norm, encoder, readout, input_neuron, policy: as
            in `resnet19`.

    >>> from bitspike.neurons import MultiBit
    >>> import torch; resnet18_cifar(MultiBit(), width=4, shape=(3, 8, 8))(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """
    plan = Plan((2, 2, 2, 2))
    net = residual_network(
        "resnet18_cifar", plan, neuron, T, shape, classes, width, wiring, norm, encoder, readout, input_neuron
    )
    return finish(net, weight, policy)
