"""Plain convolutional networks: VGG-11 and VGGSNN."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from bitspike.checks import integer, one_of
from bitspike.layers import AvgPool2d, Conv2d, Encoder, Flatten, Linear, MaxPool2d
from bitspike.models.blocks import unit
from bitspike.models.components import before_synapse, image_shape, new_encoder, new_neuron, new_readout
from bitspike.models.network import MODELS, Network, Policy, finish
from bitspike.quantizers import Quantizer

VGG11 = ((1,), (2,), (4, 4), (8, 8), (8, 8))
"""Widths of the 3×3 convs in units of ``width``; a pool follows each group."""

VGGSNN = ((1, 2), (4, 4), (8, 8), (8, 8))


@MODELS.register("vgg11")
def vgg11(
    neuron: nn.Module,
    weight: Quantizer | None = None,
    T: int = 2,
    shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    width: int = 64,
    pool: str = "average",
    wiring: str = "spike",
    norm: str = "joint",
    encoder: str | Encoder = "repeat",
    readout: str = "mean",
    input_neuron: bool = False,
    policy: Policy | None = None,
) -> Network:
    """VGG-11 with one linear layer: 9.223 M weights and 152.8 M MACs a step (10 classes, 32×32).

    64-P-128-P-256-256-P-512-512-P-512-512-P-linear, 3×3 convs with BN, 2×2 pools P.

    Source: Simonyan and Zisserman (ICLR 2015), configuration A. Differs: batch norm, average pools by default, and one
    linear layer in place of three, as usual for CIFAR.

    Args:
        neuron, weight, T, shape, classes, width, wiring, norm, encoder, readout, input_neuron, policy: as
            in `resnet19`;
            the sides must be multiples of 32.
        pool: "average" or "max".

    >>> from bitspike.neurons import LIF
    >>> import torch; vgg11(LIF(), width=4)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    net = _plain("vgg11", VGG11, neuron, T, shape, classes, width, pool, wiring, norm, encoder, readout, input_neuron)
    return finish(net, weight, policy)


@MODELS.register("vggsnn")
def vggsnn(
    neuron: nn.Module,
    weight: Quantizer | None = None,
    T: int = 10,
    shape: tuple[int, int, int] = (2, 48, 48),
    classes: int = 10,
    width: int = 64,
    pool: str = "average",
    wiring: str = "spike",
    norm: str = "joint",
    encoder: str | Encoder = "repeat",
    readout: str = "mean",
    input_neuron: bool = False,
    policy: Policy | None = None,
) -> Network:
    """VGGSNN for event frames: 9.263 M weights (CIFAR10-DVS: 10 classes, 2 polarities, 48×48).

    The encoder repeats one frame [B, 2, H, W]. For frames over time [T, B, 2, H, W] leave it out:
    ``nn.Sequential(net.body, net.readout)``.

    64-128-AP-256-256-AP-512-512-AP-512-512-AP-linear, 3×3 convs with BN, 2×2 average pools AP.

    Source: TET (arXiv 2202.11946); adaptive bit allocation (arXiv 2506.23717), code.

    Args:
        neuron, weight, T, shape, classes, width, wiring, norm, encoder, readout, input_neuron, policy: as
            in `resnet19`;
            the sides must be multiples of 16.
        pool: "average" or "max".

    >>> from bitspike.neurons import LIF
    >>> import torch; vggsnn(LIF(), T=2, width=4, shape=(2, 16, 16))(torch.zeros(2, 2, 16, 16)).shape
    torch.Size([2, 10])
    """
    net = _plain("vggsnn", VGGSNN, neuron, T, shape, classes, width, pool, wiring, norm, encoder, readout, input_neuron)
    return finish(net, weight, policy)


def _plain(
    where: str,
    groups: tuple[tuple[int, ...], ...],
    neuron: nn.Module,
    T: int,
    shape: tuple[int, int, int],
    classes: int,
    width: int,
    pool: str,
    wiring: str,
    norm: str,
    encoder: str | Encoder,
    readout: str,
    input_neuron: bool,
) -> Network:
    """Groups of conv units with a pool behind each; modules: [input], conv1, …, pool1, …, flatten, classifier."""
    one_of(where, "wiring", wiring, ("spike", "input"))
    one_of(where, "pool", pool, ("average", "max"))
    integer(where, "width", width, 1, 4096)
    integer(where, "classes", classes, 1, 2**20)
    inputs, height, breadth = image_shape(where, shape, 2 ** len(groups))
    body: OrderedDict[str, nn.Module] = OrderedDict()
    if input_neuron:
        body["input"] = new_neuron(neuron, inputs)
    index = 0
    for number, group in enumerate(groups, 1):
        for factor in group:
            conv = Conv2d(inputs, factor * width, 3, padding=1)
            conv.role = "hidden" if index else "first"
            index += 1
            body[f"conv{index}"] = unit(conv, neuron, norm, wiring)
            inputs = factor * width
        body[f"pool{number}"] = AvgPool2d(2) if pool == "average" else MaxPool2d(2)
    body["flatten"] = Flatten()
    features = inputs * (height >> len(groups)) * (breadth >> len(groups))
    for own in before_synapse(wiring, neuron, features):
        body["neuron"] = own
    classifier = Linear(features, classes)
    classifier.role = "last"
    body["classifier"] = classifier
    return Network(new_encoder(encoder, T), nn.Sequential(body), new_readout(readout))
